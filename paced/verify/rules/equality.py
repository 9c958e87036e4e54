"""Are two expressions equal? From normal forms and double precision, in bounded time."""

from functools import lru_cache

from paced.verify.grammar.nodes import Node
from paced.verify.rules.decision import Undecided
from paced.verify.rules.evaluation import NO_VALUE, Evaluator, constants, differ, double_precision
from paced.verify.rules.forms import form, names, number, rational

_TOLERANCE = 1e-9  # of double precision, relative to the largest term
_CERTAIN = 1e-6  # relative difference of two values that differ for sure
_REAL = 1e-12  # relative size of an imaginary part that is rounding
_LARGEST_EXPONENT = 1_000  # bits of a number that is turned into a float


@lru_cache(maxsize=20_000)
def equal(a: Node, b: Node) -> bool:
    """Are two expressions equal?

    Raises:
        Undecided: normal forms and double precision do not tell.
    """
    if a == b:
        return True
    try:
        first, second = form(a), form(b)
        if first == second:
            return True
        if rational(first) is not None and rational(second) is not None:
            return False
    except (ArithmeticError, RecursionError):
        pass
    if differ(a, b, double_precision(), _TOLERANCE, _CERTAIN):
        return False
    raise Undecided("normal forms differ, values do not")


def approximate(node: Node) -> float | None:
    """The real value of a constant expression in double precision, None if it has none."""
    exact = number(node)
    if exact is not None:
        bits = exact.numerator.bit_length() - exact.denominator.bit_length()
        return float(exact) if bits < _LARGEST_EXPONENT else None
    if names(node) or "inf" in constants(node):
        return None
    try:
        value = Evaluator(double_precision(), {})(node)
    except NO_VALUE:
        return None
    return float(value.real) if abs(value.imag) < _REAL * abs(value) else None


class BoundedEngine:
    """The engine of the calling process: what it cannot decide in bounded time is left to a worker."""

    def equal(self, a: Node, b: Node) -> bool:
        return equal(a, b)

    def outside(self, answer: str, gold: str) -> bool:
        raise Undecided("outside the grammar")
