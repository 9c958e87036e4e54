"""Is an answer the gold answer? Rules by the kind of answer; docs/verifier.md states them."""

import re
from fractions import Fraction

from paced.verify.algebra import Undecided, approximate, form, names, number
from paced.verify.decision import Decision, Engine
from paced.verify.measures import as_quotient, decimal_places, has_pi, same_digits, seconds_of_day
from paced.verify.nodes import EXPRESSIONS, PLAIN_EXPRESSIONS, Node
from paced.verify.notation import Unreadable, tidy
from paced.verify.regions import TURNED, Range, bounded, inequality, list_of_inequalities, region
from paced.verify.relations import (
    argument_of,
    difference_of,
    exact_part,
    last_side,
    members_of,
    name_and_value,
    named_by_letters,
    named_values,
    names_agree,
    sampled_ratio,
    values_by_name,
    with_argument_of,
)
from paced.verify.texts import read, same_texts
from paced.verify.units import Unit
from paced.verify.vectors import components, size_of, without_name

_ITEMS = 60  # of a list: more are no answer


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
    if g[0] == "list" and a[0] == "n" and (apart := _parted(answer, len(g[1]))):
        a = apart
    if a[0] == "text" or g[0] == "text":
        return same_texts(a, g, answer, gold, engine)
    return Comparison(engine).top(a, g)


def _squeezed(text: str) -> str:
    try:
        return tidy(text).replace(" ", "")
    except Unreadable:
        return text.replace(" ", "")


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
        if g[0] == "list" and a[0] == "list" and (named := named_values(g)) and (others := named_values(a)):
            if len(named) > 1 and named.keys() == others.keys():
                return all(self.same(others[n], named[n]) for n in named)
            if len(named) > 1 and len(others) > 1:
                return False
        if g[0] == "seq" and a[0] == "list":  # a pair without its brackets, or as x = 1, y = 2
            if any(x[0] in ("seq", "list", "set") for x in a[1]):
                return False
            return g[1] == "(" and g[3] == ")" and self.in_order(values_by_name(a), [last_side(x) for x in g[2]])
        if a[0] == "seq" and g[0] == "list" and len(named_values(g)) == len(g[1]) > 1:
            return a[1] == "(" and a[3] == ")" and self.in_order([last_side(x) for x in a[2]], values_by_name(g))
        first, second = members_of(a), members_of(g)
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
        if a[0] == g[0] == "list" and named_by_letters(a) and not named_values(g):  # b = 0, c = -3 is not -3, 0
            self.rule = "values in the order of their names"
            return self.in_order(values_by_name(a), second) or self.in_order(first, second)
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
        a, g = without_name(a), without_name(g)
        self.rule = "the same entries in the same order"
        if a[0] == g[0] == "matrix":
            return [len(r) for r in a[1]] == [len(r) for r in g[1]] and self.in_order(
                [x for row in a[1] for x in row], [x for row in g[1] for x in row]
            )
        if g[0] != a[0] and a[0] in EXPRESSIONS and (vector := components(a, 3 if "k" in names(a) else size_of(g))):
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
            fraction = other is g and (value := number(g)) is not None and value.denominator > 1  # no time of day
            if len(ratio[1]) != 2 or ratio[2] or (seconds_of_day(ratio) is not None and not fraction):
                return False
            self.rule = "a ratio as a fraction"
            quotient = as_quotient(ratio)
            return self.quantities(quotient, other) if ratio is a else self.quantities(other, quotient)
        times = [seconds_of_day(n) for n in (a, g)]
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
        if g[0] == "rel" and "~" in a and (exact := exact_part(a)) is not None:
            return self.same(exact, g) or (bool(decimal_places(last_side(g))) and self.same(a[-1], g))
        if g[0] == "rel" and a[0] == "rel":
            if "in" in a and "in" in g:
                return a[1] == g[1] and self.same(a[3], g[3])
            left, right = name_and_value(a), name_and_value(g)
            if left and right:
                if names_agree(left[0], right[0], a, g):
                    self.rule = "the same name, values compared"
                    return self.same(with_argument_of(left[1], left[0], right[0]), right[1])
                if not (names(left[1]) or names(right[1]) or argument_of(left[0]) or argument_of(right[0])):
                    return False
            if right and not left and not names(right[1]):
                return self.same(last_side(a), right[1]) and not names(last_side(a))
            return self.equations(a, g)
        if g[0] == "rel":
            if "in" in g or "~" in g:
                return self.same(a, last_side(g, for_gold=True)) or ("~" in g and self.same(a, last_side(g)))
            right = name_and_value(g)
            if right is None and names(g[1]) | names(g[3]):
                return False
            self.rule = "the value of the gold's equation"
            return self.same(a, last_side(g))
        self.rule = "the value of the answer's equation"
        if "~" in a:  # the exact side is the answer; the rounded one counts where the gold is rounded too
            exact, rounded = last_side(a, for_gold=True), a[-1]
            return self.same(exact, g) or (bool(decimal_places(g)) and self.same(rounded, g))
        if any(s in a for s in ("!=", "->")):
            return False
        if name_and_value(a) is None and names(a[-1]) and names(g) and a[-1] in (("n", Fraction(0), ""),):
            return False
        return self.same(last_side(a), g)

    def equations(self, a: Node, g: Node) -> bool:
        """``l = r`` and ``l' = r'`` are the same equation if the differences have a constant ratio."""
        if len(a) != 4 or len(g) != 4 or a[2] != "=" or g[2] != "=":
            return False
        if any(s[0] not in PLAIN_EXPRESSIONS for s in (a[1], a[3], g[1], g[3])):
            return self.same(a[1], g[1]) and self.same(a[3], g[3])
        self.rule = "the same equation up to a factor"
        return self.proportional(difference_of(a), difference_of(g)) is not None

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
        ratio = sampled_ratio(a, g)
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
        sides = [difference_of(n if n[2] in ("<", "<=") else (n[0], n[3], TURNED[n[2]], n[1])) for n in (a, g)]
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
        if first and second and {first.dimension, second.dimension} == {"angle", "arc"}:
            degrees, arc = (a, g) if first.dimension == "angle" else (g, a)
            self.rule = "degrees as radians"
            return self._equal(_radians(degrees), arc)
        per = first and second and (first.top == second.dimension or first.dimension == second.top)
        if first and second and first.dimension and second.dimension and not per:
            if first.dimension != second.dimension:
                self.rule = f"units differ: {first.words} and {second.words}"
                return False
            if first.size != second.size:
                self.rule = "units converted"
                return self.numbers(("*", (("n", first.size / second.size, ""), a)), g)
        if (angle := first or second) and angle.dimension == "angle" and (first is None or second is None):
            bare, marked = (g, a) if first else (a, g)
            if has_pi(bare) and not has_pi(marked):
                self.rule = "degrees as radians"
                return self._equal(bare, _radians(marked))
        return self.numbers(a, g)

    def numbers(self, a: Node, g: Node) -> bool:
        if "based" in (a[0], g[0]):
            return same_digits(a, g)
        if a[0] not in PLAIN_EXPRESSIONS or g[0] not in PLAIN_EXPRESSIONS:
            return False
        if self.rule.startswith("structures"):
            self.rule = "values compared"
        places = decimal_places(g)
        if places is not None and (value := number(a)) != g[1]:
            # The gold is rounded: an answer of more digits counts if it rounds to the gold.
            at = value if value is not None else approximate(a)
            if at is None:
                return False
            self.rule = f"rounded to the gold's {places} places"
            half = Fraction(1, 2) * Fraction(10) ** -places
            return abs(Fraction(at) - g[1]) <= half
        return self._equal(a, g)


def _radians(degrees: Node) -> Node:
    return ("*", (degrees, ("c", "pi"), ("n", Fraction(1, 180), "")))


def _parted(answer: str, size: int) -> Node | None:
    """``60,120`` as the list that it is where the gold is one."""
    numbers = tidy(answer).split(",")
    return read(", ".join(numbers)) if len(numbers) == size and all(n.isdigit() for n in numbers) else None


def _both_signs(node: Node) -> list[Node]:
    def substituted(n: Node, sign: int) -> Node:
        if n[:1] == ("pm",):
            return ("n", Fraction(sign * n[1]), "")
        return tuple(substituted(x, sign) if isinstance(x, tuple) and not isinstance(x, Unit) else x for x in n)

    plus, minus = substituted(node, 1), substituted(node, -1)
    return [node] if plus == node else [plus, minus]


def _spelled(node: Node, others: set[str]) -> Node:
    """``RC`` as the product of R and C where the other side has these as letters of their own."""
    if node[:1] == ("v",):
        apart = len(node[1]) > 1 and node[1].isupper() and set(node[1]) <= others
        return ("*", tuple(("v", c) for c in node[1])) if apart else node
    return tuple(_spelled(x, others) if isinstance(x, tuple) and not isinstance(x, Unit) else x for x in node)
