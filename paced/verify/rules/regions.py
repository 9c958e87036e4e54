"""Sets of real numbers: intervals, unions, inequalities in one variable, as sorted ranges."""

from typing import NamedTuple

from paced.verify.grammar.nodes import (
    INFINITY,
    MINUS_INFINITY,
    Bracketed,
    Call,
    Difference,
    List,
    Node,
    PlainExpression,
    Relation,
    Set,
    Union,
    Variable,
)
from paced.verify.rules.comparison import Comparison
from paced.verify.rules.equality import approximate
from paced.verify.rules.forms import names
from paced.verify.rules.relations import TURNED, same_inequality

_ORDER_SIGNS = {"<", ">", "<=", ">=", "!="}


class Range(NamedTuple):
    """The numbers between two ends; each end belongs to them if it is closed."""

    left: Node
    left_closed: bool
    right: Node
    right_closed: bool


_EVERY_NUMBER = Range(MINUS_INFINITY, False, INFINITY, False)


def _point(value: Node) -> Range:
    return Range(value, True, value, True)


def sets_of_numbers(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Unions and inequalities, as sets of numbers; other inequalities up to a positive factor."""
    if not (_is_region(a) or _is_region(g)):
        return None
    first, second = region(a), region(g)
    if first is not None and second is not None:
        return _same_ranges(comparison, first, second)
    return isinstance(a, Relation) and isinstance(g, Relation) and same_inequality(comparison, a, g)


def intervals(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """The gold is surely an interval; a pair in brackets may be one."""
    if not _is_interval(g) or not (_is_interval(a) or isinstance(a, Bracketed)):
        return None
    first, second = region(a), region(g)
    if first is None or second is None:
        return None
    return _same_ranges(comparison, first, second)


def _same_ranges(comparison: Comparison, a: list[Range], g: list[Range]) -> bool:
    comparison.decided_by = "sets of numbers compared"
    if len(a) != len(g):
        return False
    return all(
        x.left_closed == y.left_closed
        and x.right_closed == y.right_closed
        and comparison.same(x.left, y.left)
        and comparison.same(x.right, y.right)
        for x, y in zip(a, g, strict=True)
    )


def _is_region(node: Node) -> bool:
    """Is this surely a set of numbers, or an inequality?"""
    if isinstance(node, List):
        return all(_is_inequality(item) for item in node.items)
    return isinstance(node, Union | Difference) or _is_inequality(node)


def _is_inequality(node: Node) -> bool:
    return isinstance(node, Relation) and not _ORDER_SIGNS.isdisjoint(node.signs)


def _is_interval(node: Node) -> bool:
    """Is this surely an interval: brackets of two kinds or square ones, an infinite end, or ``x in ...``?"""
    match node:
        case Relation(sides, signs) if "in" in signs:
            return len(signs) == 1 and isinstance(sides[1], Bracketed | Union | Difference)
        case Bracketed(_, (left, right)):
            ends = (INFINITY, MINUS_INFINITY)
            return node.brackets in ("[)", "(]", "[]") or left in ends or right in ends
        case _:
            return False


def region(node: Node) -> list[Range] | None:
    """A set of real numbers as sorted ranges: from intervals, unions, inequalities in one variable; None for others."""
    match node:
        case Bracketed(opened, (PlainExpression() as left, PlainExpression() as right), closed):
            return [Range(left, opened == "[", right, closed == "]")]
        case Set(items):
            if any(not isinstance(x, PlainExpression) or names(x) for x in items):
                return None
            return _sorted([_point(x) for x in items])
        case Union(parts):
            return _union(parts)
        case Difference(whole, removed):
            ranges, points = region(whole), region(removed)
            if ranges is None or points is None or len(ranges) != 1:
                return None
            return _without(ranges[0], points)
        case List():
            return _of_conditions(node)
        case Relation():
            return _of_relation(node)
        case _:
            return None


def _union(parts: tuple[Node, ...]) -> list[Range] | None:
    regions = [region(p) for p in parts]
    known = [r for r in regions if r is not None]
    return _sorted([r for ranges in known for r in ranges]) if len(known) == len(regions) else None


def _of_conditions(conditions: List) -> list[Range] | None:
    """Conditions side by side: all hold if they bound a variable from both sides or take points out, else any."""
    joined = _union(conditions.items)
    if joined is None or conditions.joined == "or":
        return joined
    holes: list[Node] = []
    ranges: list[Range] = []
    for item in conditions.items:
        if isinstance(item, Relation) and item.signs[0] == "!=":
            if isinstance(item.sides[0], Variable | Call):
                holes.append(item.sides[1])
        else:
            ranges += region(item) or []
    if holes:  # x < 5, x != 2
        whole = ranges or [_EVERY_NUMBER]
        return _pierced(whole[0], holes) if len(whole) == 1 else None
    if len(ranges) == 2 and (both := _overlap(ranges, conditions.joined == "and")):
        return [both]
    return joined


def _overlap(ranges: list[Range], surely: bool) -> Range | None:
    """What "x > a, x < b" leaves: the numbers between, if there are any or both ``surely`` hold."""
    low, high = ranges if ranges[0].right == INFINITY else ranges[::-1]
    if low.right != INFINITY or high.left != MINUS_INFINITY:
        return None
    if surely or _place(low.left) < _place(high.right):
        return Range(low.left, low.left_closed, high.right, high.right_closed)
    return None


def _of_relation(relation: Relation) -> list[Range] | None:
    """The numbers that a name may be by an equation, an inequality, a chain of two, or ``x in ...``."""
    match relation.signs:
        case ("in",):
            name, values = relation.sides
            return region(values) if isinstance(name, Variable | Call) else None
        case (first, last):
            return _between(relation.sides, first, last)
        case (sign,):
            left, right = relation.sides
            return _on_one_side(left, sign, right)
        case _:
            return None


def _between(sides: tuple[Node, ...], first: str, last: str) -> list[Range] | None:
    """The chain ``low < x < high``, or the same from high to low."""
    if not ({first, last} <= {"<", "<="} or {first, last} <= {">", ">="}):
        return None
    low, name, high = sides
    if names(low) or names(high) or not isinstance(name, Variable | Call):
        return None
    if ">" in first:
        low, high, first, last = high, low, last, first
    return [Range(low, "=" in first, high, "=" in last)]


def _on_one_side(left: Node, sign: str, right: Node) -> list[Range] | None:
    if not isinstance(left, Variable | Call):
        left, right, sign = right, left, TURNED.get(sign, sign)
    if not isinstance(left, Variable | Call) or names(right):
        return None
    match sign:
        case "=":
            return [_point(right)]
        case "!=":
            return _without(_EVERY_NUMBER, [_point(right)])
        case "<" | "<=":
            return [Range(MINUS_INFINITY, False, right, sign == "<=")]
        case ">" | ">=":
            return [Range(right, sign == ">=", INFINITY, False)]
        case _:
            return None


def _place(end: Node) -> float:
    """Where an end lies on the number line, to sort by; 0 if it has no value."""
    if end == INFINITY:
        return float("inf")
    if end == MINUS_INFINITY:
        return float("-inf")
    value = approximate(end)
    return 0.0 if value is None else value


def _sorted(ranges: list[Range]) -> list[Range]:
    """Ranges in order, neighbours that touch joined."""
    joined: list[Range] = []
    for r in sorted(ranges, key=lambda r: (_place(r.left), _place(r.right))):
        if joined and joined[-1].right == r.left and (joined[-1].right_closed or r.left_closed):
            joined[-1] = joined[-1]._replace(right=r.right, right_closed=r.right_closed or (r.left == r.right))
        else:
            joined.append(r)
    return joined


def _pierced(whole: Range, holes: list[Node]) -> list[Range] | None:
    """A range without the points that lie in it."""
    inside = [h for h in holes if _place(whole.left) < _place(h) < _place(whole.right)]
    return _without(whole, [_point(h) for h in sorted(inside, key=_place)])


def _without(whole: Range, points: list[Range]) -> list[Range] | None:
    """A range in pieces between points in ascending order; None if they are no points."""
    if any(p.left != p.right for p in points):
        return None
    pieces, rest = list[Range](), whole
    for p in points:
        pieces.append(Range(rest.left, rest.left_closed, p.left, False))
        rest = Range(p.left, False, rest.right, rest.right_closed)
    return [*pieces, rest]
