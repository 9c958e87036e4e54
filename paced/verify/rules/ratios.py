"""What is written with a colon: times of day and ratios."""

from paced.verify.grammar.nodes import Colon, Node, Product, reciprocal
from paced.verify.rules.comparison import Comparison, Rule
from paced.verify.rules.forms import number
from paced.verify.rules.quantities import quantities

_HALF_A_DAY = 12 * 3600  # seconds


def times_and_ratios(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Half of the day may be left out, not differ; a ratio may be cancelled, a time may not."""
    if isinstance(a, Colon) or isinstance(g, Colon):
        return comparison.first_of(_RULES, a, g)
    return None


def _hour_alone(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """``9 a.m.`` against ``9``."""
    match a, g:
        case Colon(parts=(hour,)), other if not isinstance(other, Colon):
            return quantities(comparison, hour, other)
        case other, Colon(parts=(hour,)) if not isinstance(other, Colon):
            return quantities(comparison, hour, other)
        case _:
            return None


def _ratio_and_fraction(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """``1:10`` against a tenth. What may be a time of day is a ratio only where the gold is a fraction."""
    if isinstance(a, Colon) and isinstance(g, Colon):
        return None
    ratio = a if isinstance(a, Colon) else g
    assert isinstance(ratio, Colon)
    fraction = ratio is a and (value := number(g)) is not None and value.denominator > 1
    if len(ratio.parts) != 2 or ratio.half or (_seconds(ratio) is not None and not fraction):
        return False
    comparison.decided_by = "a ratio as a fraction"
    top, bottom = ratio.parts
    quotient = Product((top, reciprocal(bottom)))
    return quantities(comparison, quotient, g) if ratio is a else quantities(comparison, a, quotient)


def _times(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Times of day that are written differently: one with its half of the day, or with seconds."""
    if not (isinstance(a, Colon) and isinstance(g, Colon)):
        return None
    given, expected = _seconds(a), _seconds(g)
    if given is None or expected is None or not (a.half or g.half or len(a.parts) != len(g.parts)):
        return None
    comparison.decided_by = "times of day compared"
    if given == expected or (a.half and g.half):
        return given == expected
    hour = number(a.parts[0])
    return abs(given - expected) == _HALF_A_DAY and (not a.half or (hour is not None and hour < 13))


def _part_by_part(comparison: Comparison, a: Node, g: Node) -> bool | None:
    if not (isinstance(a, Colon) and isinstance(g, Colon)):
        return None
    if len(a.parts) != len(g.parts) or (a.half and g.half and a.half != g.half):
        return False
    if comparison.same_in_order(a.parts, g.parts):
        return True
    return None if _seconds(a) is None or _seconds(g) is None else False


def _ratios(comparison: Comparison, a: Node, g: Node) -> bool | None:
    if not (isinstance(a, Colon) and isinstance(g, Colon)):
        return None
    comparison.decided_by = "ratios compared"
    return all(
        comparison.equal(Product((x, g.parts[0])), Product((y, a.parts[0])))
        for x, y in zip(a.parts[1:], g.parts[1:], strict=True)
    )


_RULES: tuple[Rule, ...] = (_hour_alone, _ratio_and_fraction, _times, _part_by_part, _ratios)


def _seconds(time: Colon) -> int | None:
    """Seconds after midnight of what can be a time: hours up to 24, two-digit minutes and seconds below 60."""
    parts = [number(p) for p in time.parts]
    if any(p is None or p.denominator != 1 for p in parts) or len(parts) > 3:
        return None
    hour, *rest = (int(p) for p in parts if p is not None)
    minutes, seconds = [*rest, 0, 0][:2]
    if not (0 <= hour <= 24 and 0 <= minutes < 60 and 0 <= seconds < 60):
        return None
    if not time.half and (0 < minutes < 10 or 0 < seconds < 10):
        return None
    if time.half and hour <= 12:
        hour = hour % 12 + (12 if time.half == "pm" else 0)
    return (hour * 60 + minutes) * 60 + seconds
