"""Which training problems stand in a benchmark: word for word, whole inside a longer text, or in large part.

Word for word: equal but for case, white space and the form of accents. In large part: the training question holds at
least ``share`` of the distinct word n-grams of a benchmark question; words are runs of letters and digits (a Chinese
character is a word), so punctuation and LaTeX markup such as ``$`` and braces do not count. A question shorter than n
words is one n-gram; it also counts where it stands whole inside a longer text, an instruction around it for example.
So few words are in many texts, so there its signs count too, except ``$`` and the full stop at its end.

The index is two arrays, 12 bytes an n-gram, and the words and signs of the short questions. Imports no torch.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
SIGN = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+|[^\s\w$]|_")  # words, and each sign by itself
ENDS = ".?!:;"  # what a question may lose at its end
FEWEST = 4  # words and signs of a short question that can be told from the rest of a text
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so a power of it forgets nothing modulo 2^64

Hashes = NDArray[np.uint64]


def normal(question: str) -> str:
    """A question without case, white space and the form of accents: what counts as word for word."""
    return "".join(_plain(question).split())


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


class Hit(NamedTuple):
    """A benchmark problem that a training problem holds; ``share`` of its n-grams, 1 if ``exact``."""

    benchmark: str
    problem: int  # its place in the benchmark
    share: float
    exact: bool


class Index:
    """The questions of all benchmarks, to look training questions up in."""

    def __init__(self, benchmarks: dict[str, Sequence[str]], words: int, share: float):
        self.words, self.share = words, share
        self.sizes = {name: len(questions) for name, questions in benchmarks.items()}
        self._places = [(name, i) for name, questions in benchmarks.items() for i in range(len(questions))]
        everything = [q for questions in benchmarks.values() for q in questions]
        self._exact: dict[str, list[int]] = {}
        for place, question in enumerate(everything):
            self._exact.setdefault(normal(question), []).append(place)
        self.short: dict[tuple[str, ...], list[tuple[int, list[str]]]] = {}  # by how they begin
        for place, question in enumerate(everything):
            signs = _signs(question)
            if len(WORD.findall(question)) < words and len(signs) >= FEWEST:
                self.short.setdefault(tuple(signs[:FEWEST]), []).append((place, signs))
        found = [self.grams(q) for q in everything]
        self._counts = np.array([len(g) for g in found], dtype=np.int64)
        hashes = np.concatenate([np.empty(0, np.uint64), *found])
        owners = np.repeat(np.arange(len(found), dtype=np.int32), self._counts)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners = hashes[order], owners[order]

    def find(self, question: str) -> Iterator[Hit]:
        """Every benchmark problem that a training question holds, in the order of the benchmarks."""
        exact = set(self._exact.get(normal(question), ()))
        grams = self.grams(question)
        low, high = (np.searchsorted(self._hashes, grams, side) for side in ("left", "right"))
        owners = [self._owners[a:b] for a, b in zip(low[low < high], high[low < high], strict=True)]
        places, counts = np.unique(np.concatenate([np.empty(0, np.int32), *owners]), return_counts=True)
        shares = dict(zip(places.tolist(), (counts / self._counts[places]).tolist(), strict=True))
        whole = exact | self._inside(question)
        for place in sorted(whole | {p for p, s in shares.items() if s >= self.share}):
            yield Hit(*self._places[place], 1.0 if place in whole else shares[place], place in exact)

    def _inside(self, question: str) -> set[int]:
        """The short benchmark questions that stand whole in a training question."""
        if not self.short:
            return set()
        signs, found = _signs(question), set[int]()
        for start in range(len(signs) - FEWEST + 1):
            for place, wanted in self.short.get(tuple(signs[start : start + FEWEST]), ()):
                if signs[start : start + len(wanted)] == wanted:
                    found.add(place)
        return found

    def grams(self, question: str) -> Hashes:
        """64-bit hashes of a question's distinct n-grams, the same in every process."""
        words = WORD.findall(_plain(question))
        values = np.array([_word(w) for w in words], dtype=np.uint64)
        n = min(self.words, len(words))
        if n == 0:
            return np.empty(0, np.uint64)
        total = np.zeros(len(words) - n + 1, np.uint64)
        for offset in range(n):
            total = total * FACTOR + values[offset : offset + len(total)]
        return np.unique(total)


def _signs(question: str) -> list[str]:
    signs = SIGN.findall(_plain(question))
    while signs and signs[-1] in ENDS:
        signs.pop()
    return signs


@functools.lru_cache(1 << 14)  # most words of a data set are few words; the rest must not fill memory
def _word(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
