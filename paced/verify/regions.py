"""Sets of real numbers: intervals, unions, inequalities in one variable, as sorted ranges."""

from fractions import Fraction
from typing import NamedTuple

from paced.verify.algebra import approximate, names
from paced.verify.nodes import PLAIN_EXPRESSIONS, Node

TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Range(NamedTuple):
    left: Node
    left_closed: bool
    right: Node
    right_closed: bool


_INFINITY: Node = ("c", "inf")
_BELOW: Node = ("*", (("n", Fraction(-1), ""), _INFINITY))


def inequality(node: Node) -> bool:
    return node[0] == "rel" and any(s in ("<", ">", "<=", ">=", "!=") for s in node[2::2])


def list_of_inequalities(node: Node) -> bool:
    return node[0] == "list" and all(inequality(x) for x in node[1])


def bounded(node: Node) -> bool:
    """Surely an interval: brackets of two kinds, an infinite end, or ``x in ...``."""
    if node[0] == "rel" and "in" in node:
        return len(node) == 4 and _bounded_or_seq(node[3])
    return (
        node[0] == "seq"
        and len(node[2]) == 2
        and (
            node[1] == "[" != node[3]
            or node[1] + node[3] in ("[)", "(]", "[]")
            or _INFINITY in node[2]
            or _BELOW in node[2]
        )
    )


def _bounded_or_seq(node: Node) -> bool:
    return node[0] in ("seq", "cup", "minus")


def region(node: Node) -> list[Range] | None:
    """A set of real numbers as sorted ranges: from intervals, unions, inequalities in one variable."""
    match node[0]:
        case "seq":
            if len(node[2]) != 2 or any(x[0] not in PLAIN_EXPRESSIONS for x in node[2]):
                return None
            return [Range(node[2][0], node[1] == "[", node[2][1], node[3] == "]")]
        case "set":
            points = [Range(x, True, x, True) for x in node[1] if x[0] in PLAIN_EXPRESSIONS and not names(x)]
            return _sorted(points) if len(points) == len(node[1]) else None
        case "cup":
            parts = [region(p) for p in node[1]]
            return _sorted([r for p in parts if p for r in p]) if all(p is not None for p in parts) else None
        case "minus":
            whole, points = region(node[1]), region(node[2])
            if whole is None or points is None or len(whole) != 1:
                return None
            return _without(whole[0], points)
        case "list":
            parts = [region(p) for p in node[1]]
            if any(p is None for p in parts):
                return None
            holes = [x[3] for x in node[1] if x[0] == "rel" and x[2] == "!=" and x[1][0] in ("v", "f")]
            ranges = [r for x, p in zip(node[1], parts, strict=True) if p and x[2:3] != ("!=",) for r in p]
            if holes and node[2] != "or":  # x < 5, x != 2
                whole = ranges or [Range(_BELOW, False, _INFINITY, False)]
                return _pierced(whole[0], holes) if len(whole) == 1 else None
            if len(ranges) == 2 and node[2] != "or":
                low, high = ranges if ranges[0].right == _INFINITY else ranges[::-1]
                both = low.right == _INFINITY and high.left == _BELOW
                if both and (node[2] == "and" or _place(low.left) < _place(high.right)):
                    return [Range(low.left, low.left_closed, high.right, high.right_closed)]
            return _sorted([r for p in parts if p for r in p])
        case "rel":
            return _chain(node)
        case _:
            return None


def _chain(node: Node) -> list[Range] | None:
    sides, signs = node[1::2], node[2::2]
    if signs == ("in",):
        return region(sides[1]) if sides[0][0] in ("v", "f") else None
    if (len(signs) == 2 and set(signs) <= {"<", "<="}) or (len(signs) == 2 and set(signs) <= {">", ">="}):
        if names(sides[0]) or names(sides[2]) or sides[1][0] not in ("v", "f"):
            return None
        low, high = (sides[0], sides[2]) if "<" in signs[0] else (sides[2], sides[0])
        first, last = signs if "<" in signs[0] else signs[::-1]
        return [Range(low, "=" in first, high, "=" in last)]
    if len(signs) != 1:
        return None
    (sign,), (left, right) = signs, sides
    if left[0] not in ("v", "f"):
        left, right, sign = right, left, TURNED.get(sign, sign)
    if left[0] not in ("v", "f") or names(right):
        return None
    if sign == "=":
        return [Range(right, True, right, True)]
    if sign == "!=":
        return _without(Range(_BELOW, False, _INFINITY, False), [Range(right, True, right, True)])
    if sign in ("<", "<="):
        return [Range(_BELOW, False, right, sign == "<=")]
    return [Range(right, sign == ">=", _INFINITY, False)] if sign in (">", ">=") else None


def _place(end: Node) -> float:
    if end == _INFINITY:
        return float("inf")
    if end == _BELOW:
        return float("-inf")
    value = approximate(end)
    return 0.0 if value is None else value


def _sorted(ranges: list[Range]) -> list[Range]:
    """In order, neighbours that touch joined."""
    joined: list[Range] = []
    for r in sorted(ranges, key=lambda r: (_place(r.left), _place(r.right))):
        if joined and joined[-1].right == r.left and (joined[-1].right_closed or r.left_closed):
            joined[-1] = joined[-1]._replace(right=r.right, right_closed=r.right_closed or (r.left == r.right))
        else:
            joined.append(r)
    return joined


def _pierced(whole: Range, holes: list[Node]) -> list[Range] | None:
    """A range without the holes that lie in it."""
    inside = [h for h in holes if _place(whole.left) < _place(h) < _place(whole.right)]
    return _without(whole, [Range(h, True, h, True) for h in sorted(inside, key=_place)])


def _without(whole: Range, points: list[Range]) -> list[Range] | None:
    if any(p.left != p.right for p in points):
        return None
    pieces, rest = list[Range](), whole
    for p in points:
        pieces.append(Range(rest.left, rest.left_closed, p.left, False))
        rest = Range(p.left, False, rest.right, rest.right_closed)
    return [*pieces, rest]
