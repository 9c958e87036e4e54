"""What a number may stand for: a rounded decimal, digits in a base."""

from paced.verify.grammar.nodes import Based, Constant, Measured, Node, Number, Product, Variable, walk
from paced.verify.rules.forms import number


def decimal_places(node: Node) -> int | None:
    """Places of a rounded decimal, None for an exact number.

    One significant digit, or nothing but zeros after the point (``27.0``), counts as exact.
    """
    if isinstance(node, Measured):
        node = node.value
    if not isinstance(node, Number) or not node.written:
        return None
    mantissa, _, exponent = node.written.partition("e")
    whole, _, places = mantissa.lstrip("-").partition(".")
    if len((whole + places).lstrip("0")) < 2 or (not places.strip("0") and not exponent):
        return None
    return len(places) - int(exponent or 0)


def written_places(node: Node) -> int | None:
    """Places behind the point of a number that is written as a decimal, None for anything else."""
    if not isinstance(node, Number) or not node.written:
        return None
    mantissa, _, exponent = node.written.partition("e")
    return len(mantissa.partition(".")[2]) - int(exponent or 0)


def same_digits(a: Node, g: Node) -> bool:
    """Are two numbers, at least one of them in a base, the same digits? The base may be left out, not differ."""
    if isinstance(g, Based) and (letters := _as_digits(a, g.base)):
        return letters == _digits(g)
    digits = _digits(a)
    if digits is None or digits != _digits(g):
        return False
    return not (isinstance(a, Based) and isinstance(g, Based)) or a.base == g.base


def _digits(node: Node) -> str | None:
    """The digits of a number as it is written, None for anything else."""
    if isinstance(node, Based):
        return node.digits.lstrip("0") or "0"
    value = number(node)
    if value is not None and value.denominator == 1:
        return str(value.numerator)
    if value is not None and isinstance(node, Number) and decimal_places(node) is not None:
        return node.written.lstrip("0")
    return None


def _as_digits(node: Node, base: int) -> str | None:
    """The digits of a number such as ``1F`` in a base above ten, which is read as a product; None for anything else."""
    factors = node.factors if isinstance(node, Product) else (node,)
    digits = ""
    for factor in factors:
        match factor:
            case Number(value) if value.denominator == 1 and value >= 0:
                digits += str(value.numerator)
            case Variable(name) if name.isalpha():
                digits += name.upper()
            case Constant("e"):
                digits += "E"
            case _:
                return None
    valid = not digits.isdigit() and all(c.isalnum() and int(c, 36) < base for c in digits)
    return digits.lstrip("0") if valid else None


def has_pi(node: Node) -> bool:
    return any(inner == Constant("pi") for inner in walk(node))
