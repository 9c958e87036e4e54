"""Read an answer: a recursive descent over a small grammar of LaTeX and plain mathematics.

Nothing is guessed: what the grammar does not cover is :class:`Unreadable`, and no part of it passes for the whole.
Lists, relations and units are read here, arithmetic in ``expressions.py``, numbers in ``numerals.py``.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from paced.verify.expressions import Expressions
from paced.verify.nodes import WORDY, Node, product
from paced.verify.notation import Unreadable, tidy
from paced.verify.stream import DEPTH, RELATIONS
from paced.verify.tokens import FUNCTIONS, PLAIN, SEPARATORS, tokens
from paced.verify.units import REFUSED, unit

# In a name before an equals sign these make it no name but a condition: "12 when x = 5".
_CONDITIONS = REFUSED | set("when where for with since because given such that has have".split())
_OPENING, _CLOSING = ("(", "[", "{", r"\{", r"\begin", r"\lfloor"), (")", "]", "}", r"\}", r"\end", r"\rfloor")
_SET_WORDS = re.compile(r"\\(?:text\w*|mbox|mathrm|operatorname)\s*\{[^{}]*\}")
_WORDS = re.compile(
    r"(?<![\\A-Za-z])(?![A-Z]+\b)[A-Za-z]{3,}"
)  # two of them are prose, no name: "The total is 5 + 3 = 8"
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


class _Parser(Expressions):
    def whole(self) -> Node:
        node = self.items(())
        if self.peek().kind != "end":
            raise Unreadable(f"{self.peek().text!r} not understood")
        return node

    def items(self, closers: tuple[str, ...]) -> Node:
        """Items up to one of ``closers``; a single one stands for itself."""
        self.depth += 1
        if self.depth > DEPTH:
            raise Unreadable(f"nested deeper than {DEPTH}")
        found, joined = [self.item()], ","
        while (token := self.peek()).text.lower() in SEPARATORS:
            self.at += 1
            if joined == "," or token.text.lower() not in (",", ";"):
                joined = SEPARATORS[token.text.lower()]
            if self.peek().text.lower() in SEPARATORS:  # ", and"
                continue
            if self.peek().kind == "end" or self.peek().text in closers:
                break
            found.append(self.item())
        self.depth -= 1
        return found[0] if len(found) == 1 else ("list", tuple(found), joined)

    def item(self) -> Node:
        """A chain of relations, or one side alone."""
        if self.peek().text in ("~", r"\approx"):
            self.at += 1
        if self.names_skipped and (name := self.name()):
            return ("rel", ("v", name), "=", self.union())
        sides: list[Any] = [self.union()]
        while (token := self.peek()).text in RELATIONS:
            self.at += 1
            sign = RELATIONS[token.text]
            if sign in ("<", ">") and self.accept("="):
                sign += "="
            sides += [sign, self.union()]
        return sides[0] if len(sides) == 1 else ("rel", *sides)

    def name(self) -> str | None:
        """What stands before the last equals sign of an item, whatever it is; None if there is none."""
        depth, last, at = 0, None, self.at
        while (token := self.peek(at - self.at)).kind != "end":
            depth += (token.text in _OPENING) - (token.text in _CLOSING)
            if depth < 0 or (depth == 0 and token.text.lower() in SEPARATORS):
                break
            if depth == 0 and token.text == "=":
                last = at
            elif depth == 0 and last is None and (token.text in RELATIONS or token.text.lower() in _CONDITIONS):
                return None
            at += 1
        if last is None:
            return None
        skipped = self.tokens[self.at : last]
        self.at = last + 1
        words = any(t.kind == "text" and len(t.text) > 2 for t in skipped)
        return WORDY * words + "".join(t.text for t in skipped)

    def union(self) -> Node:
        parts = [self.side()]
        while self.accept(r"\cup", "U", "∪"):
            parts.append(self.side())
        node = parts[0] if len(parts) == 1 else ("cup", tuple(parts))
        if self.accept(r"\setminus", r"\backslash"):
            return ("minus", node, self.side())
        return node

    def side(self) -> Node:
        node = self.sum()
        if self.peek().text == ":" or (self.peek() == ("text", "to", self.peek().spaced)):
            parts = [node]
            while self.accept(":", "to"):
                parts.append(self.sum())
            half = self.half()
            return ("colon", tuple(parts), half)
        if half := self.half():
            return ("colon", (node,), half)
        if (words := self.words()) is not None:
            return self.measured(node, words)
        return node

    def half(self) -> str:
        """``a.m.`` or ``p.m.`` if it comes next."""
        text = ""
        for ahead in range(4):
            token = self.peek(ahead)
            text += token.text.lower() if token.text.lower() != "." else ""
            if text in ("am", "pm"):
                self.at += ahead + 1
                self.accept(".")
                return text
            if text not in ("a", "p"):
                break
        return ""

    def words(self) -> str | None:
        """Words that come next, as a unit's name; None if something else comes."""
        start, words = self.at, list[str]()
        while (token := self.peek()).text.lower() not in SEPARATORS:
            after = self.peek(1)
            if token.kind == "text" or (words and token.kind == "word" and len(token.text) > 1):
                words.append(self.take().text)
            elif token.text == r"\frac" and self.peek(2).kind == "text":  # \frac{\text{km}}{\text{h}}
                self.take()
                words += [self.plain_group(), "/", self.plain_group()]
            elif words and token.text in ("/", "-", ".", r"\cdot", "*") and after.kind in ("text", "word"):
                words += [self.take().text, self.take().text]
            else:
                break
        if not words:
            return None
        if any(w.lower() in REFUSED for w in words[words[0].lower() in _SCALES :]) or len(words) > 8:
            self.at = start
            raise Unreadable(f"words {' '.join(words)!r}")
        return " ".join(words)

    def measured(self, node: Node, words: str) -> Node:
        power = ""
        scale, _, rest = words.partition(" ")
        if scale.lower() in _SCALES:
            node = product([node, ("n", Fraction(_SCALES[scale.lower()]), "")])
            if not rest:
                return node
            words = rest
        if self.accept("^"):
            power = str(self.script()[1])
        if words in ("degrees", "degree") and self.peek().text in ("Celsius", "Fahrenheit", "C", "F"):
            self.take()
        if node[0] == "unit" and node[2].dimension:  # 75\% of the class
            return node
        return ("unit", node, unit(words, power))


_PHRASE = re.compile(r"[A-Za-z']+(?: [A-Za-z']+)+")  # "It falls" is no product of I, t and a unit


def _symbol(word: str) -> bool:
    return (
        word in FUNCTIONS
        or word in PLAIN
        or word.isupper()
        or word.lower() in SEPARATORS
        or unit(word).dimension is not None
    )


@lru_cache(maxsize=20_000)
def parse(text: str) -> Node:
    """The structure of an answer.

    Raises:
        Unreadable: the grammar does not cover it, or it is nested too deep.
    """
    text = tidy(text)
    if _PHRASE.fullmatch(text) and any(len(w) > 2 and not _symbol(w) for w in text.split()):
        raise Unreadable("words")
    found = tokens(text)
    try:
        try:
            node = _Parser(list(found)).whole()
        except Unreadable:
            if "=" not in text or len(_WORDS.findall(_SET_WORDS.sub(" ", text.rpartition("=")[0]))) > 1:
                raise
            node = _Parser(found, names_skipped=True).whole()  # \min f = 3, P(\text{both red}) = 1/4
    except RecursionError:
        raise Unreadable("nested too deep") from None
    if _deeper(node, 2 * DEPTH):
        raise Unreadable("nested too deep")
    return node


def _deeper(node: Node, limit: int) -> bool:
    """Is a structure nested deeper than ``limit``? Level by level, without recursion."""
    level: list[Any] = [node]
    for _ in range(limit):
        level = [x for n in level for x in n if isinstance(x, tuple)]
        if not level:
            return False
    return True
