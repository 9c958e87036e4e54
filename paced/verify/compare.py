"""Is an answer the gold answer? Rules by the kind of answer; docs/verifier.md states them.

Rules are written once, over an :class:`Engine` that says whether two expressions are equal. In the parent it answers
from normal forms or raises :class:`Undecided`; in a worker it answers at many digits (``exact.py``).
"""

import contextlib
import re
from fractions import Fraction
from typing import NamedTuple, Protocol

from paced.verify.algebra import Undecided, approximate, equal, form, names, number
from paced.verify.nodes import EXPRESSIONS, PLAIN_EXPRESSIONS, Node
from paced.verify.notation import Unreadable, tidy
from paced.verify.parse import WORDS, parse
from paced.verify.regions import TURNED, Range, bounded, inequality, list_of_inequalities, region
from paced.verify.units import Unit

_ITEMS = 60  # of a list: more are no answer
_NOTHING = set(
    "nosolution nosolutions norealsolution norealsolutions nosolutionexists none emptyset theemptyset empty "
    "norealnumber norealnumbers".split()
)


class Decision(NamedTuple):
    """``rule`` says in words what decided."""

    correct: bool
    rule: str


class Engine(Protocol):
    """What the rules ask; both may raise Undecided."""

    def equal(self, a: Node, b: Node) -> bool:
        """Are two expressions equal?"""
        ...

    def outside(self, answer: str, gold: str) -> bool:
        """Are two answers equal that the grammar does not cover?"""
        ...


class Cheap:
    """Decides from normal forms and double precision, in bounded time."""

    def equal(self, a: Node, b: Node) -> bool:
        return equal(a, b)

    def outside(self, answer: str, gold: str) -> bool:
        raise Undecided("outside the grammar")


def read(text: str) -> Node:
    """The structure of an answer; a text that is no mathematics is a ``text`` node."""
    try:
        return parse(text)
    except (Unreadable, RecursionError):
        return ("text", words(text))


def words(text: str) -> str:
    """A text as it is compared: letters and digits of its LaTeX, without case, articles and marks."""
    with contextlib.suppress(Unreadable):
        text = tidy(text)
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf|mathbf|textit|operatorname|textnormal)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\s+", " ", text).strip(" .,;:!?")
    plain = re.fullmatch(r"[\w .,'&()/-]*", text)
    text = re.sub(r"^(?:the|a|an) ", "", text, flags=re.IGNORECASE) if plain else text
    return text.casefold() if plain and not (text.isupper() and len(text) < 9) else text.replace(" ", "")


def decide(answer: str, gold: str, engine: Engine) -> Decision:
    """Compare an answer with the gold answer.

    Raises:
        Undecided: the engine did not decide, and neither did any other rule.
    """
    if (given := _squeezed(answer)) and given == _squeezed(gold):
        return Decision(True, "the same, as written")
    options = [g for g in re.split(r"\\text\s*\{\s*OR\s*\}", gold) if g.strip()]
    if len(options) > 1:  # a gold in several spellings
        first: Undecided | None = None
        for option in options:
            try:
                if (decision := decide(answer, option, engine)).correct:
                    return decision
            except Undecided as undecided:
                first = undecided
        if first:
            raise first
        return Decision(False, "none of the gold's spellings")
    a, g = read(answer), read(gold)
    if a == g:
        return Decision(True, "the same structure")
    if a[0] == "text" or g[0] == "text":
        return _texts(a, g, answer, gold, engine)
    return Comparison(engine).top(a, g)


def _squeezed(text: str) -> str:
    try:
        return tidy(text).replace(" ", "")
    except Unreadable:
        return text.replace(" ", "")


def _texts(a: Node, g: Node, answer: str, gold: str, engine: Engine) -> Decision:
    first, second = words(answer), words(gold)
    if not first or not second:
        return Decision(False, "nothing to compare")
    if first.replace(" ", "") == second.replace(" ", ""):
        return Decision(True, "the same words")
    if g == ("set", ()) or second.replace(" ", "") in _NOTHING:
        return Decision(a == ("set", ()) or first.replace(" ", "") in _NOTHING, "no solutions")
    for node, spelled in ((g, first), (a, second)):
        if node[0] in ("n", "unit") and spelled in WORDS:
            value = node[1] if node[0] == "n" else number(node[1])
            return Decision(value == WORDS[spelled], "a number in words")
    if " " not in second and re.fullmatch(rf"{re.escape(second)} (?:function|number|triangle|polygon)s?", first):
        return Decision(True, "the same words, with what they describe")
    if len(second) > 2 and re.match(rf"{re.escape(second)} (?:is|has|have|was|had|will|wins|won)\b(?!.* not )", first):
        return Decision(True, "the same words, with what is said of them")
    if (said := re.fullmatch(r"(?:\S+ ){1,6}?(?:is|are) (?:an? |the )?(.+)", first)) and said[1] == second:
        return Decision(True, "the same words, in a sentence")
    if first in WORDS and second in WORDS:
        return Decision(WORDS[first] == WORDS[second], "numbers in words")
    listed = [sorted(p.strip() for p in re.split(r",|;| and | or ", t) if p.strip()) for t in (first, second)]
    if len(listed[1]) > 1 and listed[0] == listed[1]:
        return Decision(True, "the same words in another order")
    all_reals = {"allrealnumbers", "allreals", "realnumbers", "allrealx"}
    reals = [
        (n[0] == "seq" and n == read(r"\mathbb{R}")) or w.replace(" ", "") in all_reals
        for n, w in ((a, first), (g, second))
    ]
    if all(reals):
        return Decision(True, "all real numbers")
    if not _mathematical(answer, a) or not _mathematical(gold, g):
        return Decision(False, "different words")
    return Decision(engine.outside(answer, gold), "outside the grammar: math-verify")


def _mathematical(text: str, node: Node) -> bool:
    return node[0] != "text" or "\\" in re.sub(r"\\(?:text|mbox|mathrm|textbf)\b", "", text) or "=" in text


class Comparison:
    """The rules for structures. Each method raises Undecided if the engine does."""

    def __init__(self, engine: Engine):
        self._equal = engine.equal
        self.rule = "structures compared part by part"

    def top(self, a: Node, g: Node) -> Decision:
        a, g = self.plain(a), self.plain(g)
        letters = names(a), names(g)
        a, g = _spelled(a, letters[1]), _spelled(g, letters[0])
        correct = self.same(a, g)
        return Decision(correct, self.rule)

    # Preparation

    def plain(self, node: Node) -> Node:
        """Plus-minus written out, names distributed over a list: ``x = 1, 2`` becomes the list of 1 and 2."""
        if node[0] == "list":
            items = [x for item in node[1] for x in _both_signs(item)]
            return ("list", tuple(items), node[2]) if len(items) > 1 else items[0]
        if node[0] == "set":
            return ("set", tuple(x for item in node[1] for x in _both_signs(item)))
        both = _both_signs(node)
        return ("list", tuple(both), ",") if len(both) > 1 else node

    # Structures

    def same(self, a: Node, g: Node) -> bool:
        regions = [region(n) for n in (a, g)]
        if any(n[0] in ("cup", "minus") or inequality(n) or list_of_inequalities(n) for n in (a, g)):
            if regions[0] is not None and regions[1] is not None:
                return self.same_region(regions[0], regions[1])
            return a[0] == g[0] == "rel" and self.inequalities(a, g)
        if bounded(g) and regions[0] is not None and regions[1] is not None and (bounded(a) or a[0] == "seq"):
            return self.same_region(regions[0], regions[1])
        if g[0] == "rel" or a[0] == "rel":
            return self.relations(a, g)
        kinds = (a[0], g[0])
        if "list" in kinds or "set" in kinds:
            return self.collections(a, g)
        if "colon" in kinds:
            return self.colons(a, g)
        if "seq" in kinds or "matrix" in kinds:
            return self.sequences(a, g)
        return self.quantities(a, g)

    def collections(self, a: Node, g: Node) -> bool:
        if g[0] == "list" and a[0] == "list" and (named := _named_values(g)) and (others := _named_values(a)):
            if len(named) > 1 and named.keys() == others.keys():
                return all(self.same(others[n], named[n]) for n in named)
            if len(named) > 1 and len(others) > 1:
                return False
        if g[0] == "seq" and a[0] == "list":  # a pair without its brackets, or as x = 1, y = 2
            if any(x[0] in ("seq", "list", "set") for x in a[1]):
                return False
            return g[1] == "(" and g[3] == ")" and self.in_order(_by_name(a), [_value(x) for x in g[2]])
        if a[0] == "seq" and g[0] == "list" and len(_named_values(g)) == len(g[1]) > 1:
            return a[1] == "(" and a[3] == ")" and self.in_order([_value(x) for x in a[2]], _by_name(g))
        first, second = _members(a), _members(g)
        if first is None or second is None:
            return False
        if a[0] == "seq" and a[1] + a[3] not in ("()", "[]"):
            return False
        if "set" in (a[0], g[0]) and "seq" in (a[0], g[0]):
            return False
        if len(first) == 1 and len(second) == 1:
            return self.same(first[0], second[0])
        if a[0] == "list" and len(second) == 1 and 1 < len(first) <= 3:
            self.rule = "the same value several times"
            return all(self.same(x, second[0]) for x in first)
        if "set" in (a[0], g[0]):
            first, second = self.distinct(first), self.distinct(second)
        self.rule = "the same members in any order"
        return len(first) == len(second) <= _ITEMS and self.matched(first, second)

    def distinct(self, items: list[Node]) -> list[Node]:
        kept: list[Node] = []
        for item in items[:_ITEMS]:
            if not any(self.same(item, other) for other in kept):
                kept.append(item)
        return kept

    def matched(self, first: list[Node], second: list[Node]) -> bool:
        left = list(first)
        undecided: Undecided | None = None
        for item in second:
            for other in left:
                try:
                    if self.same(other, item):
                        left.remove(other)
                        break
                except Undecided as error:
                    undecided = error
            else:
                if undecided:
                    raise undecided
                return False
        return True

    def in_order(self, first: list[Node], second: list[Node]) -> bool:
        if len(first) != len(second):
            return False
        undecided: Undecided | None = None
        for a, g in zip(first, second, strict=True):
            try:
                if not self.same(a, g):
                    return False
            except Undecided as error:
                undecided = error
        if undecided:
            raise undecided
        return True

    def sequences(self, a: Node, g: Node) -> bool:
        """Tuples, vectors, intervals by ends, matrices by entries; a point may have its name before it."""
        a, g = _unnamed(a), _unnamed(g)
        self.rule = "the same entries in the same order"
        if a[0] == g[0] == "matrix":
            return [len(r) for r in a[1]] == [len(r) for r in g[1]] and self.in_order(
                [x for row in a[1] for x in row], [x for row in g[1] for x in row]
            )
        if g[0] != a[0] and a[0] in EXPRESSIONS and (vector := _components(a, 3 if "k" in names(a) else _size(g))):
            return self.same(vector, g)
        if "matrix" in (a[0], g[0]):
            matrix, other = (a, g) if a[0] == "matrix" else (g, a)
            column = [x for row in matrix[1] for x in row]
            if other[0] != "seq" or (len(matrix[1]) > 1 and len(matrix[1][0]) > 1) or len(column) == 1:
                return False
            entries = list(other[2])
            return self.in_order(column, entries) if matrix is a else self.in_order(entries, column)
        if a[0] != "seq" or g[0] != "seq":
            return False
        if len(g[2]) == 2 and a[1] + a[3] != g[1] + g[3]:
            return False
        return self.in_order(list(a[2]), list(g[2]))

    def colons(self, a: Node, g: Node) -> bool:
        """Times and ratios. Half of the day may be left out, not differ; only ratios may be cancelled."""
        if a[0] != "colon" or g[0] != "colon":
            ratio, other = (a, g) if a[0] == "colon" else (g, a)
            if len(ratio[1]) == 1:  # "9 a.m." against "9" or "9:00"
                return self.quantities(ratio[1][0], other)
            if len(ratio[1]) != 2 or ratio[2] or _clock(ratio) is not None:
                return False
            self.rule = "a ratio as a fraction"
            quotient = _quotient(ratio)
            return self.quantities(quotient, other) if ratio is a else self.quantities(other, quotient)
        times = [_clock(n) for n in (a, g)]
        first, second = times
        if first is not None and second is not None and (a[2] or g[2] or len(a[1]) != len(g[1])):
            self.rule = "the same time of day"
            if a[2] and g[2]:
                return first == second
            return first == second or (abs(first - second) == 12 * 3600 and (not a[2] or a[1][0][1] < 13))
        if len(a[1]) != len(g[1]) or (a[2] and g[2] and a[2] != g[2]):
            return False
        if self.in_order(list(a[1]), list(g[1])):
            return True
        if times[0] is not None and times[1] is not None:
            return False
        self.rule = "the same ratio"
        return all(self._equal(("*", (a[1][i], g[1][0])), ("*", (g[1][i], a[1][0]))) for i in range(1, len(a[1])))

    # Relations

    def relations(self, a: Node, g: Node) -> bool:
        """Equations: ``x = 5`` is 5 where the gold is 5; between equations names count, and scale does not."""
        if g[0] == "rel" and a[0] == "rel":
            if "in" in a and "in" in g:
                return a[1] == g[1] and self.same(a[3], g[3])
            left, right = _named(a), _named(g)
            if left and right:
                if _names_agree(left[0], right[0], a, g):
                    self.rule = "the same name, values compared"
                    return self.same(_renamed(left[1], left[0], right[0]), right[1])
                if not (names(left[1]) or names(right[1]) or _argument(left[0]) or _argument(right[0])):
                    return False
            if right and not left and not names(right[1]):
                return self.same(_value(a), right[1]) and not names(_value(a))
            return self.equations(a, g)
        if g[0] == "rel":
            if "in" in g or "~" in g:
                return self.same(a, _value(g, for_gold=True)) or ("~" in g and self.same(a, _value(g)))
            right = _named(g)
            if right is None and names(g[1]) | names(g[3]):
                return False
            self.rule = "the value of the gold's equation"
            return self.same(a, _value(g))
        self.rule = "the value of the answer's equation"
        if "~" in a:  # the exact side is the answer; the rounded one counts where the gold is rounded too
            exact, rounded = _value(a, for_gold=True), a[-1]
            return self.same(exact, g) or (bool(_decimal(g)) and self.same(rounded, g))
        if any(s in a for s in ("!=", "->")):
            return False
        if _named(a) is None and names(a[-1]) and names(g) and a[-1] in (("n", Fraction(0), ""),):
            return False
        return self.same(_value(a), g)

    def equations(self, a: Node, g: Node) -> bool:
        """``l = r`` and ``l' = r'`` are the same equation if the differences have a constant ratio."""
        if len(a) != 4 or len(g) != 4 or a[2] != "=" or g[2] != "=":
            return False
        if any(s[0] not in PLAIN_EXPRESSIONS for s in (a[1], a[3], g[1], g[3])):
            return self.same(a[1], g[1]) and self.same(a[3], g[3])
        self.rule = "the same equation up to a factor"
        return self.proportional(_difference(a), _difference(g)) is not None

    def proportional(self, a: Node, g: Node) -> Fraction | None:
        """The rational number that ``a`` is of ``g``, None if there is none."""
        try:
            first, second = form(a), form(g)
        except (ArithmeticError, RecursionError):
            first = second = {}
        if first and second and first.keys() == second.keys():
            ratios = {first[k] / second[k] for k in first}
            if len(ratios) == 1:
                return ratios.pop()
        if not first or not second or names(a) != names(g):
            return None
        # Denominators or roots may hide the factor: look at the values.
        ratio = _sampled_ratio(a, g)
        if ratio is None:
            return None
        return ratio if self._equal(a, ("*", (("n", ratio, ""), g))) else None

    def inequalities(self, a: Node, g: Node) -> bool:
        """Inequalities that are no range of one variable: the same sign and proportional differences."""
        if len(a) != 4 or len(g) != 4 or any(s[0] not in PLAIN_EXPRESSIONS for s in (a[1], a[3], g[1], g[3])):
            return False
        strict = [n[2] in ("<", ">") for n in (a, g)]
        if strict[0] != strict[1] or a[2] not in TURNED or g[2] not in TURNED:
            return False
        sides = [_difference(n if n[2] in ("<", "<=") else (n[0], n[3], TURNED[n[2]], n[1])) for n in (a, g)]
        self.rule = "the same inequality up to a positive factor"
        ratio = self.proportional(sides[0], sides[1])
        return ratio is not None and ratio > 0

    def same_region(self, a: list[Range], g: list[Range]) -> bool:
        self.rule = "the same set of numbers"
        if len(a) != len(g):
            return False
        return all(
            x.left_closed == y.left_closed
            and x.right_closed == y.right_closed
            and self.same(x.left, y.left)
            and self.same(x.right, y.right)
            for x, y in zip(a, g, strict=True)
        )

    # Numbers

    def quantities(self, a: Node, g: Node) -> bool:
        """Expressions with or without units."""
        first, second = (n[2] if n[0] == "unit" else None for n in (a, g))
        if first is None and second is None:
            return self.numbers(a, g)
        a = a[1] if first else a
        g = g[1] if second else g
        for one in (first, second):  # percent is a number as well as a unit
            if one and one.dimension == "share" and (first is None or second is None):
                self.rule = "percent, as written or as a share"
                bare, marked = (a, g) if one is second else (g, a)
                share: Node = ("*", (("n", one.size, ""), marked))
                if one is second:
                    return self.numbers(bare, marked) or self.numbers(bare, share)
                return self.numbers(marked, bare) or self.numbers(share, bare)
        if first and second and first.dimension and second.dimension:
            if first.dimension != second.dimension:
                self.rule = f"units differ: {first.words} and {second.words}"
                return False
            if first.size != second.size:
                self.rule = "units converted"
                return self.numbers(("*", (("n", first.size / second.size, ""), a)), g)
        if (angle := first or second) and angle.dimension == "angle" and (first is None or second is None):
            bare, marked = (g, a) if first else (a, g)
            if _has_pi(bare) and not _has_pi(marked):
                self.rule = "degrees as radians"
                radians: Node = ("*", (marked, ("c", "pi"), ("n", Fraction(1, 180), "")))
                return self._equal(bare, radians)
        return self.numbers(a, g)

    def numbers(self, a: Node, g: Node) -> bool:
        if "based" in (a[0], g[0]):
            return _based(a, g)
        if a[0] not in PLAIN_EXPRESSIONS or g[0] not in PLAIN_EXPRESSIONS:
            return False
        if self.rule.startswith("structures"):
            self.rule = "values compared"
        places = _decimal(g)
        if places is not None and (value := number(a)) != g[1]:
            # The gold is rounded: an answer of more digits counts if it rounds to the gold.
            at = value if value is not None else approximate(a)
            if at is None:
                return False
            self.rule = f"rounded to the gold's {places} places"
            half = Fraction(1, 2) * Fraction(10) ** -places
            return abs(Fraction(at) - g[1]) <= half
        return self._equal(a, g)


def _both_signs(node: Node) -> list[Node]:
    def substituted(n: Node, sign: int) -> Node:
        if n[:1] == ("pm",):
            return ("n", Fraction(sign * n[1]), "")
        return tuple(substituted(x, sign) if isinstance(x, tuple) and not isinstance(x, Unit) else x for x in n)

    plus, minus = substituted(node, 1), substituted(node, -1)
    return [node] if plus == node else [plus, minus]


def _unnamed(node: Node) -> Node:
    """``P(3, 4)`` as the pair."""
    if node[0] == "f" and len(node[1]) == 1 and node[1].isupper() and node[2][0] == "list":
        return ("seq", "(", node[2][1], ")")
    return node


def _size(node: Node) -> int:
    return len(node[2]) if node[0] == "seq" else len(node[1])


def _components(node: Node, size: int) -> Node | None:
    """The vector that ``2i - 3j + k`` writes with unit vectors, None for anything else."""
    units = [("c", "i"), ("v", "j"), ("v", "k")]
    hats = {("v", f"{mark}{letter}"): u for u in units for mark in ("hat", "vec", "widehat") for letter in u[1]}
    used: set[Node] = set()

    def at(n: Node, one: Node) -> Node:
        n = hats.get(n, n)
        if n in units:
            used.add(n)
            return ("n", Fraction(int(n == one)), "")
        return tuple(at(x, one) if isinstance(x, tuple) and not isinstance(x, Unit) else x for x in n)

    entries = tuple(at(node, one) for one in units[:size])
    return ("seq", "(", entries, ")") if len(used) > 1 and used <= set(units[:size]) else None


def _spelled(node: Node, others: set[str]) -> Node:
    """``RC`` as the product of R and C where the other side has these as letters of their own."""
    if node[:1] == ("v",):
        apart = len(node[1]) > 1 and node[1].isupper() and set(node[1]) <= others
        return ("*", tuple(("v", c) for c in node[1])) if apart else node
    return tuple(_spelled(x, others) if isinstance(x, tuple) and not isinstance(x, Unit) else x for x in node)


def _value(node: Node, for_gold: bool = False) -> Node:
    """What a chain of equations comes to: its last side; before an approximation, with ``for_gold``."""
    if node[0] != "rel":
        return node
    sides, signs = node[1::2], node[2::2]
    if for_gold and "~" in signs:
        return sides[signs.index("~")]
    return sides[-1]


def _named(node: Node) -> tuple[Node, Node] | None:
    """Name and value of ``name = value``, None for any other relation."""
    if node[0] != "rel" or set(node[2::2]) - {"=", "in"}:
        return None
    name, value = node[1], node[-1]
    if name[0] == "v" or (name[0] == "f" and name[1] not in ("abs", "log", "sin", "cos", "tan", "!", "binom")):
        return (name, value) if name[0] == "f" or name[1] not in names(value) else None
    if len(node) == 4 and value[0] == "v" and value[1] not in names(name) and not names(name):
        return (value, name)  # 5 = x
    return None


def _argument(name: Node) -> str | None:
    """The argument of ``f(x)`` if it is one variable."""
    return name[2][1] if name[0] == "f" and len(name) == 3 and name[2][0] == "v" else None


def _names_agree(a: Node, g: Node, whole_a: Node, whole_g: Node) -> bool:
    if a == g:
        return True
    if a[0] == g[0] == "f":
        return a[1] == g[1] and _argument(a) is not None and _argument(g) is not None
    return {a[0], g[0]} == {"v", "f"} and not ("in" in whole_a or "in" in whole_g)  # y = 2x against f(x) = 2x


def _renamed(node: Node, a: Node, g: Node) -> Node:
    """The answer's argument renamed to the gold's: ``f(n) = n`` is ``f(x) = x``."""
    old, new = _argument(a), _argument(g)
    if old is None or new is None or old == new:
        return node

    def walk(n: Node) -> Node:
        if n[:1] == ("v",):
            return ("v", new) if n[1] == old else n
        return tuple(walk(x) if isinstance(x, tuple) and not isinstance(x, Unit) else x for x in n)

    return walk(node)


def _named_values(node: Node) -> dict[Node, Node]:
    """Values by name of a list in which every item is ``name = value`` with a name of its own."""
    pairs = [_named(x) for x in node[1]]
    found = {p[0]: p[1] for p in pairs if p}
    return found if len(found) == len(pairs) else {}


def _by_name(node: Node) -> list[Node]:
    """The values of a list, in the alphabet's order of their names if each has one letter for a name."""
    named = _named_values(node)
    if len(named) == len(node[1]) and all(n[0] == "v" and len(n[1]) == 1 for n in named):
        return [named[n] for n in sorted(named)]
    return [_value(x) for x in node[1]]


def _members(node: Node) -> list[Node] | None:
    if node[0] == "seq":
        return list(node[2])
    if node[0] in ("list", "set"):
        return [_value(x) if _named(x) else x for x in node[1]]
    return [_value(node)]


def _difference(relation: Node) -> Node:
    return ("+", (relation[1], ("*", (("n", Fraction(-1), ""), relation[3]))))


def _sampled_ratio(a: Node, g: Node) -> Fraction | None:
    import mpmath

    from paced.verify.algebra import Evaluator

    point = {v: 0.7 + 0.31 * i for i, v in enumerate(sorted(names(a)))}
    try:
        quotient = Evaluator(mpmath.fp, point)(a) / Evaluator(mpmath.fp, point)(g)
    except (ArithmeticError, ValueError, TypeError, KeyError, RecursionError):
        return None
    ratio = Fraction(float(quotient.real)).limit_denominator(10_000)
    return ratio if ratio and abs(float(ratio) - quotient) < 1e-9 * abs(quotient) else None


def _clock(node: Node) -> float | None:
    """Seconds after midnight of what can be a time: hours up to 24, two-digit minutes below 60."""
    parts = [number(p) for p in node[1]]
    if any(p is None or p.denominator != 1 for p in parts) or len(parts) > 3:
        return None
    hour, *rest = (int(p) for p in parts if p is not None)
    if not 0 <= hour <= 24 or any(not 0 <= m < 60 for m in rest) or (not node[2] and any(m < 10 for m in rest if m)):
        return None
    if node[2] and hour <= 12:
        hour = hour % 12 + (12 if node[2] == "pm" else 0)
    return sum(m * 60 ** (1 - i) for i, m in enumerate(rest)) + hour * 3600


def _quotient(ratio: Node) -> Node:
    return ("*", (ratio[1][0], ("^", ratio[1][1], ("n", Fraction(-1), ""))))


def _has_pi(node: object) -> bool:
    return isinstance(node, tuple) and (node == ("c", "pi") or any(_has_pi(x) for x in node))


def _based(a: Node, g: Node) -> bool:
    """Digits in a base: the same digits; the base may be left out, not differ."""
    digits: list[str] = []
    for node in (a, g):
        if node[0] == "based":
            digits.append(node[1].lstrip("0") or "0")
        elif (value := number(node)) is not None and value.denominator == 1:
            digits.append(str(value.numerator))
        elif value is not None and _decimal(node) is not None:
            digits.append(node[2].lstrip("0"))
        else:
            return False
    return digits[0] == digits[1] and (a[0] != g[0] or a[2] == g[2])


def _decimal(node: Node) -> int | None:
    """Places of a rounded decimal, None for an exact number.

    One significant digit, or nothing but zeros after the point (``27.0``), counts as exact.
    """
    if node[0] == "unit":
        node = node[1]
    if node[0] != "n" or not node[2]:
        return None
    mantissa, _, exponent = node[2].partition("e")
    whole, _, places = mantissa.lstrip("-").partition(".")
    if len((whole + places).lstrip("0")) < 2 or (not places.strip("0") and not exponent):
        return None
    return len(places) - int(exponent or 0)
