"""Read an answer: a recursive descent over a small grammar of LaTeX and plain mathematics.

Nothing is guessed: what the grammar does not cover is :class:`Unreadable`, and a part that can be read is never taken
for the whole. Lists, relations and units are read here, arithmetic in ``expressions.py``, numbers in ``numerals.py``.
"""

import re
from fractions import Fraction
from functools import lru_cache

from paced.verify.grammar.expressions import Expressions
from paced.verify.grammar.nodes import (
    ELLIPSIS,
    IN_WORDS,
    Call,
    Colon,
    Difference,
    List,
    Matrix,
    Measured,
    Node,
    Number,
    Power,
    Relation,
    Sum,
    Text,
    Union,
    Variable,
    children,
    number,
    product,
    spoken,
)
from paced.verify.grammar.notation import Unreadable, tidy
from paced.verify.grammar.stream import DEEPEST, RELATIONS
from paced.verify.grammar.tokens import FUNCTIONS, PLAIN, SEPARATORS, tokens
from paced.verify.grammar.units import CHANGING, REFUSED, UNITS, unit
from paced.verify.grammar.words import words

# In a name before an equals sign these make it no name but a condition: "12 when x = 5".
_CONDITIONS = REFUSED | set("when where for with since because given such that has have".split())
_OPENING, _CLOSING = ("(", "[", "{", r"\{", r"\begin", r"\lfloor"), (")", "]", "}", r"\}", r"\end", r"\rfloor")
_SET_WORDS = re.compile(r"\\(?:begin|end|text\w*|mbox|mathrm|operatorname)\s*\{[^{}]*\}")
# Two of these before an equals sign are prose and no name: "The total is 5 + 3 = 8".
_WORDS = re.compile(r"(?<![\\A-Za-z])(?![A-Z]+\b)[A-Za-z]{3,}")
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_LONGEST_UNIT = 8  # words
_TEMPERATURES = ("Celsius", "Fahrenheit", "C", "F")


class _Parser(Expressions):
    def whole(self) -> Node:
        """The whole answer.

        Raises:
            Unreadable: something is left that the grammar does not cover.
        """
        node = self.items(())
        if self.peek().kind != "end":
            raise Unreadable(f"{self.peek().text!r} not understood")
        return node

    def items(self, closers: tuple[str, ...]) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable(f"nested deeper than {DEEPEST}")
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
        return found[0] if len(found) == 1 else List(tuple(found), joined)

    def item(self) -> Node:
        if self.peek().text == r"\ldots" and (self.peek(1).kind == "end" or self.peek(1).text.lower() in SEPARATORS):
            self.take()
            return ELLIPSIS
        if self.peek().text in ("~", r"\approx"):
            self.at += 1
        if self.names_skipped and (name := self.name()):
            return Relation((Variable(name), self.union()), ("=",))
        sides, signs = [self.union()], list[str]()
        while (token := self.peek()).text in RELATIONS:
            self.at += 1
            sign = RELATIONS[token.text]
            signs.append(sign + "=" if sign in ("<", ">") and self.accept("=") else sign)
            sides.append(self.union())
        return sides[0] if not signs else Relation(tuple(sides), tuple(signs))

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
        in_words = any(t.kind == "text" and len(t.text) > 2 for t in skipped)
        return IN_WORDS * in_words + "".join(t.text for t in skipped)

    def union(self) -> Node:
        """Sides joined by union signs; with ``\\setminus`` what is taken away from them."""
        parts = [self.side()]
        while self.accept(r"\cup", "U", "∪"):
            parts.append(self.side())
        node = parts[0] if len(parts) == 1 else Union(tuple(parts))
        if self.accept(r"\setminus", r"\backslash"):
            return Difference(node, self.side())
        return node

    def side(self) -> Node:
        """One side of a relation: an expression with its unit, a ratio, a time of day."""
        node = self.sum()
        token = self.peek()
        if token.text == ":" or (token.kind == "text" and token.text == "to"):
            parts = [node]
            while self.accept(":", "to"):
                parts.append(self.sum())
            return Colon(tuple(parts), self.half())
        if half := self.half():
            return Colon((node,), half)
        if (unit_words := self.unit_words()) is not None:
            return self._with_smaller_units(self.measured(node, unit_words))
        return node

    def _with_smaller_units(self, node: Node) -> Node:
        """``1 hour 30 minutes``: an amount with what follows it in a smaller unit of the same kind."""
        while isinstance(node, Measured) and node.unit.dimension:
            start = self.at
            self.accept(",", "and")
            if self.peek().kind != "number":
                self.at = start
                return node
            amount = number(self.take().text)
            try:
                words_behind = self.unit_words()
            except Unreadable:
                words_behind = None
            smaller = unit(words_behind) if words_behind else None
            if smaller is None or smaller.dimension != node.unit.dimension or smaller.size >= node.unit.size:
                self.at = start
                return node
            node = Measured(Sum((node.value, Number(amount.value * smaller.size / node.unit.size))), node.unit)
        return node

    def half(self) -> str:
        """``am`` or ``pm`` if the half of the day comes next, in any spelling; else nothing."""
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

    def unit_words(self) -> str | None:
        """Words that come next, as a unit's name; None if something else comes.

        Raises:
            Unreadable: they are more than a unit's name, or would change the answer, as "or more" does.
        """
        start, found = self.at, list[str]()
        while (token := self.peek()).text.lower() not in SEPARATORS:
            if token.kind == "text" or (found and token.kind == "word" and len(token.text) > 1):
                found.append(self.take().text)
            elif token.text == r"\frac" and self.peek(2).kind == "text":  # \frac{\text{km}}{\text{h}}
                self.take()
                found += [self.plain_group(), "/", self.plain_group()]
            elif found and token.text in ("/", "-", ".", r"\cdot", "*") and self.peek(1).kind in ("text", "word"):
                found += [self.take().text, self.take().text]
            else:
                break
        if not found:
            return None
        behind_scale = found[1:] if found[0].lower() in _SCALES else found
        changed = any(w.lower() in REFUSED or (w not in UNITS and any(c in w for c in CHANGING)) for w in behind_scale)
        if changed or len(found) > _LONGEST_UNIT:
            self.at = start
            raise Unreadable(f"words {' '.join(found)!r}")
        return " ".join(found)

    def measured(self, node: Node, unit_words: str) -> Node:
        """An expression with the unit that words name; "million" and the like are factors."""
        scale, _, rest = unit_words.partition(" ")
        if scale.lower() in _SCALES:
            node = product([node, Number(Fraction(_SCALES[scale.lower()]))])
            if not rest:
                return node
            unit_words = rest
        power = spoken(self.script()) if self.accept("^") else ""
        if unit_words in ("degrees", "degree") and self.peek().text in _TEMPERATURES:
            unit_words = f"degrees {self.take().text}"
        if isinstance(node, Measured) and node.unit.dimension:  # 75\% of the class
            return node
        return Measured(node, unit(unit_words, power))


_NOON, _MIDNIGHT = (Colon((Number(Fraction(12)), Number(Fraction(0))), half) for half in ("pm", "am"))
_TIMES_IN_WORDS = {"noon": _NOON, "12 noon": _NOON, "midnight": _MIDNIGHT, "12 midnight": _MIDNIGHT}
_PHRASE = re.compile(r"[A-Za-z']+(?: [A-Za-z']+)+")  # "It falls" is no product of I, t and a unit


def _symbol(word: str) -> bool:
    """May a word be part of a formula?"""
    return (
        word in FUNCTIONS
        or word in PLAIN
        or word.isupper()
        or word.lower() in SEPARATORS
        or unit(word).dimension is not None
    )


def read(text: str) -> Node:
    """The structure of an answer; a text that is no mathematics is a ``Text``."""
    try:
        return parse(text)
    except (Unreadable, RecursionError):
        return Text(words(text))


@lru_cache(maxsize=20_000)
def parse(text: str) -> Node:
    """The structure of an answer.

    Raises:
        Unreadable: the grammar does not cover it, or it is nested too deep.
    """
    text = tidy(text)
    if time := _TIMES_IN_WORDS.get(text.lower()):
        return time
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
    if _deeper(node):
        raise Unreadable("nested too deep")
    return node


def _deeper(node: Node, limit: int = 2 * DEEPEST) -> bool:
    """Is a structure nested deeper than ``limit`` levels? Decided without recursion.

    A node with any number of children takes two levels, itself and the row of its children; a matrix has rows of rows.
    """
    waiting = [(node, 0)]
    while waiting:
        outer, level = waiting.pop()
        if level >= limit:
            return True
        match outer:
            case Power() | Call() | Relation() | Measured() | Difference():
                inner = level + 1
            case Matrix():
                inner = level + 3
            case _:
                inner = level + 2
        waiting += [(child, inner) for child in children(outer)]
    return False
