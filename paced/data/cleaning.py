"""What is left out of a data set and why: empty and unverifiable golds, scripts, length, repeats, contamination.

Every problem left out gets one reason, the first that applies; what is known about the whole file (how many distinct
questions, how many with conflicting golds) is counted before anything is left out. Imports no torch.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

from paced.batching import batched
from paced.config import Data
from paced.data.decontamination import Index
from paced.data.golds import equal
from paced.data.layouts import Problem
from paced.data.shelf import Shelf, Standing
from paced.errors import DataError
from paced.storage.identity import digest
from paced.verify import Sample, Verifier

# Unicode's name of a letter begins with its script's; "drop_scripts" speaks of scripts by the keys.
SCRIPTS = {
    "han": ("CJK UNIFIED", "CJK COMPATIBILITY"), "kana": ("HIRAGANA", "KATAKANA"), "hangul": ("HANGUL",),
    "cyrillic": ("CYRILLIC",), "arabic": ("ARABIC",), "hebrew": ("HEBREW",), "devanagari": ("DEVANAGARI",),
    "thai": ("THAI",),
}  # fmt: skip
WRITTEN = 0.02  # share of a question's letters, LaTeX commands aside, from which it is written in a script
_LATIN = re.compile(r"[\x00-\u036f]*")
_COMMAND = re.compile(r"\\[A-Za-z]+")
PART = 1024  # problems in memory

KINDS = ("empty", "benchmark", "script", "length", "conflict", "duplicate", "gold")


def scripts(question: str) -> dict[str, float]:
    """Share of a question's letters, LaTeX commands aside, by script; Latin, Greek and the rest are left out."""
    if _LATIN.fullmatch(question):
        return {}
    letters = [c for c in _COMMAND.sub(" ", question) if c.isalpha()]
    found: Counter[str] = Counter()
    for character in letters:
        if character > "\u036f":
            name = unicodedata.name(character, "")
            found.update(script for script, starts in SCRIPTS.items() if name.startswith(starts))
    return {script: count / len(letters) for script, count in found.items()}


def clean(shelf: Shelf, data: Data, index: Index | None, training: bool) -> dict[str, Any]:
    """Sort out on the shelf what can be used and what not, and say why; returns the counts.

    Args:
        index: the benchmarks that training problems must not stand in.
        training: leave out repeats and conflicting golds. A benchmark keeps its repeats, for its score is over them
            all; they are numbered.

    Raises:
        DataError: two problems have one id.
    """
    if (data.verifier or data.record.verifier) == "mathematics":
        shelf.agree(equal)
    cleaning = Cleaning(data, index, training)
    kinds: Counter[str] = Counter()
    repaired: list[dict[str, str]] = []
    with Verifier() as verifier:
        for part in batched(shelf, PART):
            reasons = [cleaning.reason(standing) for standing in part]
            doubtful = [s.problem for s, why in zip(part, reasons, strict=True) if not why and not s.problem.choices]
            faults = dict(zip((p.where for p in doubtful), faulty(verifier, data, doubtful), strict=True))
            for (place, problem, number, *_), why in zip(part, reasons, strict=True):
                if why is None and (fault := faults.get(problem.where)):
                    why = "gold", f"verifier rejects gold {problem.gold!r} ({fault}): correct it or remove the row"
                if why is None:
                    key = f"{problem.key}\n#{number}" if number and not training else problem.key
                    shelf.use(digest([data.seed, key]), place, key)
                else:
                    shelf.reject(place, *why)
                    kinds[why[0]] += 1
                if problem.repair:
                    repaired.append({"where": problem.where, "reason": problem.repair})
    return {
        "source": data.source,
        "rows": len(shelf),
        "usable": shelf.usable,
        "rejected": {kind: kinds[kind] for kind in KINDS},
        "distinct": shelf.distinct,
        "conflicting": list(shelf.conflicts()),
        "written_in": dict(sorted(cleaning.written.items())),
        "repaired": repaired,
        "decontamination": index and overlaps(index, cleaning.hits, cleaning.contaminated),
    }


class Cleaning:
    """Why problems are left out that need no verifier for it, and what has been seen of scripts and benchmarks."""

    def __init__(self, data: Data, index: Index | None, training: bool):
        self._data, self._index, self._training = data, index, training
        self.written: Counter[str] = Counter()
        self.hits: set[tuple[str, int, bool]] = set()  # benchmark, problem of it, exact
        self.contaminated: Counter[tuple[str, bool]] = Counter()

    def reason(self, standing: Standing) -> tuple[str, str] | None:
        """The first of KINDS that applies, and what to say of it."""
        problem, data = standing.problem, self._data
        if standing.number and problem.key.startswith("id:"):
            raise DataError(f"{problem.where}: duplicate id {problem.key[3:]!r}, first used at {standing.named}")
        if problem.fault:
            return ("gold" if problem.question and problem.gold and not problem.choices else "empty"), problem.fault
        shares = scripts(problem.question)
        self.written.update(shares.keys())
        if found := self._in_benchmarks(problem.question):
            return "benchmark", found
        for script in data.drop_scripts:
            if shares.get(script, 0) > WRITTEN:
                return "script", f"written in {script}"
        if data.max_characters and len(problem.question) > data.max_characters:
            return "length", f"question of {len(problem.question)} characters"
        if self._training and standing.golds:
            return "conflict", f"conflicting golds: {', '.join(standing.golds)}"
        if self._training and problem.where != standing.asked:
            return "duplicate", f"repeats {standing.asked}"
        return None

    def _in_benchmarks(self, question: str) -> str:
        found = list(self._index.find(question)) if self._index else []
        if not found or not self._index:
            return ""
        self.hits |= {(h.benchmark, h.problem, h.exact) for h in found}
        worst = max(found, key=lambda h: (h.exact, h.share))
        exact = {h.benchmark for h in found if h.exact}
        self.contaminated.update({(h.benchmark, h.benchmark in exact) for h in found})
        how = "word for word" if worst.exact else f"{100 * worst.share:.0f}% of a problem's {self._index.words}-grams"
        return f"stands in a benchmark: {worst.benchmark}, {how}"


def faulty(verifier: Verifier, data: Data, problems: Sequence[Problem]) -> list[str]:
    """Why each gold answer does not pass its own verifier, which would make every sample wrong; '' if it does."""
    by = data.verifier or ""
    golds = [Sample(data.source, p.solution or "", p.gold, p.question, verifier=by) for p in problems]
    return ["" if v.outcome == "correct" else v.reason or v.outcome for v in verifier.grade_golds(golds)]


def overlaps(
    index: Index, hits: Set[tuple[str, int, bool]], contaminated: Mapping[tuple[str, bool], int]
) -> dict[str, Any]:
    """By benchmark: how many of its problems were found, and in how many training problems."""
    by_benchmark: dict[str, Any] = {}
    for name in index.sizes:
        exact = {problem for benchmark, problem, exact in hits if benchmark == name and exact}
        partial = {problem for benchmark, problem, _ in hits if benchmark == name} - exact
        by_benchmark[name] = {
            "problems": index.sizes[name],
            "exact": len(exact),
            "overlap": len(partial),
            "training_exact": contaminated[name, True],
            "training_overlap": contaminated[name, False],
        }
    return {"words": index.words, "share": index.share, "benchmarks": by_benchmark}
