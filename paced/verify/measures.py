"""What numbers may stand for: rounded decimals, digits in a base, times of day, ratios."""

from fractions import Fraction

from paced.verify.algebra import number
from paced.verify.nodes import Node


def seconds_of_day(node: Node) -> float | None:
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


def as_quotient(ratio: Node) -> Node:
    return ("*", (ratio[1][0], ("^", ratio[1][1], ("n", Fraction(-1), ""))))


def has_pi(node: object) -> bool:
    return isinstance(node, tuple) and (node == ("c", "pi") or any(has_pi(x) for x in node))


def same_digits(a: Node, g: Node) -> bool:
    """Digits in a base: the same digits; the base may be left out, not differ."""
    digits: list[str] = []
    for node in (a, g):
        if node[0] == "based":
            digits.append(node[1].lstrip("0") or "0")
        elif (value := number(node)) is not None and value.denominator == 1:
            digits.append(str(value.numerator))
        elif value is not None and decimal_places(node) is not None:
            digits.append(node[2].lstrip("0"))
        else:
            return False
    return digits[0] == digits[1] and (a[0] != g[0] or a[2] == g[2])


def decimal_places(node: Node) -> int | None:
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
