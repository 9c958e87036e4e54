"""Numbers and other expressions, with or without units."""

from fractions import Fraction

from paced.verify.grammar.nodes import Based, Constant, Measured, Node, Number, PlainExpression, Product, Sum
from paced.verify.grammar.units import SCALES_OF_TEMPERATURE, Unit
from paced.verify.rules.comparison import NOTHING_SPECIAL, Comparison, Rule
from paced.verify.rules.equality import approximate
from paced.verify.rules.forms import number
from paced.verify.rules.measures import decimal_places, has_pi, same_digits


def quantities(comparison: Comparison, a: Node, g: Node) -> bool:
    """Expressions with or without units; a unit that only one of them has may be left out."""
    if not (isinstance(a, Measured) or isinstance(g, Measured)):
        return numbers(comparison, a, g)
    return bool(comparison.first_of(_RULES, a, g))


def _percent(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Percent is a number as well as a unit: 10% is 10, and 0.1."""
    match a, g:
        case Measured(value, unit), bare if unit.dimension == "share" and not isinstance(bare, Measured):
            comparison.decided_by = "percent, as written or as a share"
            return numbers(comparison, value, bare) or numbers(comparison, _scaled(unit.size, value), bare)
        case bare, Measured(value, unit) if unit.dimension == "share" and not isinstance(bare, Measured):
            comparison.decided_by = "percent, as written or as a share"
            return numbers(comparison, bare, value) or numbers(comparison, bare, _scaled(unit.size, value))
        case _:
            return None


def _degrees_and_radians(comparison: Comparison, a: Node, g: Node) -> bool | None:
    match a, g:
        case Measured(x, Unit("angle")), Measured(y, Unit("arc")):
            degrees, arc = x, y
        case Measured(x, Unit("arc")), Measured(y, Unit("angle")):
            degrees, arc = y, x
        case _:
            return None
    comparison.decided_by = "degrees as radians"
    return comparison.equal(_radians(degrees), arc)


def _congruent(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Two numbers with one modulus: ``5 (mod 3)`` is ``2 (mod 3)``."""
    if not (isinstance(a, Measured) and isinstance(g, Measured) and a.unit == g.unit):
        return None
    x, y = number(a.value), number(g.value)
    modulus = a.unit.words.removeprefix("modulo ")
    if modulus == a.unit.words or not modulus.isdigit() or not int(modulus) or x is None or y is None:
        return None
    comparison.decided_by = "remainders compared"
    return (x - y) % int(modulus) == 0


def _temperatures(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Degrees of two scales are converted; degrees that do not say of which scale are of the gold's."""
    if not (isinstance(a, Measured) and isinstance(g, Measured)):
        return None
    scales = [u.dimension for u in (a.unit, g.unit)]
    if not set(scales) <= {*SCALES_OF_TEMPERATURE, "angle"} or scales == ["angle", "angle"]:
        return None
    if "angle" in scales or scales[0] == scales[1]:
        return numbers(comparison, a.value, g.value)
    comparison.decided_by = "temperatures converted"
    shift, factor = Number(Fraction(-32)), Fraction(5, 9)
    if scales[0] == SCALES_OF_TEMPERATURE[0]:
        return numbers(comparison, Sum((_scaled(1 / factor, a.value), Number(Fraction(32)))), g.value)
    return numbers(comparison, _scaled(factor, Sum((a.value, shift))), g.value)


def _known_units(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Two known units: one of another dimension is wrong, one of another size is converted.

    A rate may leave out per what it is.
    """
    if not (isinstance(a, Measured) and isinstance(g, Measured)):
        return None
    first, second = a.unit, g.unit
    if not first.dimension or not second.dimension:
        return None
    if first.top == second.dimension or first.dimension == second.top:
        return None
    if first.dimension != second.dimension:
        comparison.decided_by = f"units differ: {first.words} and {second.words}"
        return False
    if first.size == second.size:
        return None
    comparison.decided_by = "units converted"
    return numbers(comparison, _scaled(first.size / second.size, a.value), g.value)


def _degrees_and_bare_radians(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Degrees against a bare number with pi in it, which is in radians."""
    match a, g:
        case (Measured(degrees, Unit("angle")), bare) | (bare, Measured(degrees, Unit("angle"))):
            pass
        case _:
            return None
    if isinstance(bare, Measured) or not has_pi(bare) or has_pi(degrees):
        return None
    comparison.decided_by = "degrees as radians"
    return comparison.equal(bare, _radians(degrees))


def _values_alone(comparison: Comparison, a: Node, g: Node) -> bool | None:
    return numbers(comparison, a.value if isinstance(a, Measured) else a, g.value if isinstance(g, Measured) else g)


_RULES: tuple[Rule, ...] = (
    _percent,
    _degrees_and_radians,
    _congruent,
    _temperatures,
    _known_units,
    _degrees_and_bare_radians,
    _values_alone,
)


def numbers(comparison: Comparison, a: Node, g: Node) -> bool:
    """Expressions without units. A decimal gold is rounded: an answer of more digits counts if it rounds to it."""
    if isinstance(a, Based) or isinstance(g, Based):
        return same_digits(a, g)
    if not isinstance(a, PlainExpression) or not isinstance(g, PlainExpression):
        return False
    if comparison.decided_by == NOTHING_SPECIAL:
        comparison.decided_by = "values compared"
    places = decimal_places(g)
    if places is None or not isinstance(g, Number):
        return comparison.equal(a, g)
    value = number(a)
    if value == g.value:
        return comparison.equal(a, g)
    at = value if value is not None else approximate(a)
    if at is None:
        return False
    comparison.decided_by = f"rounded to the gold's {places} places"
    return abs(Fraction(at) - g.value) <= Fraction(1, 2) * Fraction(10) ** -places


def _scaled(factor: Fraction, value: Node) -> Node:
    return Product((Number(factor), value))


def _radians(degrees: Node) -> Node:
    return Product((degrees, Constant("pi"), Number(Fraction(1, 180))))
