"""The values of expressions at chosen points: different values show that two expressions differ.

In double precision that is all they show; at many digits (``workers/exact.py``) equal values count as equality.
"""

import random
from collections.abc import Iterable
from typing import Any

from paced.verify.grammar.nodes import Call, Constant, Node, Number, Power, Product, Sum, Variable, walk
from paced.verify.rules.forms import KNOWN_FUNCTIONS, TooLarge, names, number

NO_VALUE = (ArithmeticError, ValueError, TypeError, KeyError, RecursionError)  # what an expression without value raises
_LARGEST_LOSS = 1e25  # terms so much larger than the result leave too few digits to call two values equal
_LARGEST_LOGARITHM = 650  # of a power
_LARGEST_FACTORIAL = 150
_LARGEST_BINOMIAL = 500
_INFINITY = r"\infty"  # the name of infinity among the variables of a point
_LARGE = 3.7e5  # stands for infinity
_ON_WHOLE_NUMBERS = {"!", "floor", "ceil", "binom"}
_OTHER_NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}  # in mpmath


def double_precision() -> Any:
    """mpmath on Python's floats; imported here, because normal forms decide most pairs without it."""
    import mpmath

    return mpmath.fp


class Evaluator:
    """The value of expressions at a point, with the size of the largest term on the way to judge its accuracy.

    ``library`` is ``mpmath.fp`` (double precision) or ``mpmath.mp``.
    """

    def __init__(self, library: Any, point: dict[str, Any]):
        self.library, self.point, self.largest = library, point, 0.0

    def __call__(self, node: Node) -> Any:
        """The value.

        Raises:
            TooLarge: it is not finite, or too large to evaluate.
            ArithmeticError, ValueError, TypeError, KeyError: the expression has no value at this point.
        """
        value = self._value(node)
        size = abs(value)
        if (not size < 1e300 and self.library.isinf(size)) or self.library.isnan(size):
            raise TooLarge("no finite value")
        self.largest = max(self.largest, size)
        return value

    def _value(self, node: Node) -> Any:
        m = self.library
        match node:
            case Number(value):
                return m.mpf(value.numerator) / m.mpf(value.denominator)
            case Variable(name):
                return self.point[name]
            case Constant(name):
                return {"pi": +m.pi, "e": +m.e, "i": m.mpc(0, 1)}.get(name) or self.point[_INFINITY]
            case Sum(terms):
                return sum((self(t) for t in terms), m.mpf(0))
            case Product(factors):
                product = m.mpf(1)
                for factor in factors:
                    product *= self(factor)
                return product
            case Power(base, exponent):
                return self._power(self(base), self(exponent), exponent)
            case Call(name, arguments):
                return self._call(name, [self(a) for a in arguments])
            case _:
                raise TooLarge(f"no expression: {type(node).__name__}")

    def _power(self, base: Any, exponent: Any, written: Node) -> Any:
        m = self.library
        if base == 0:
            if m.re(exponent) <= 0:
                raise TooLarge("division by zero")
            return m.mpf(0)
        if abs(exponent) * abs(m.log(abs(base))) > _LARGEST_LOGARITHM:
            raise TooLarge("too large to evaluate")
        power = number(written)
        if m.im(base) == 0 and m.re(base) < 0:
            if power is not None and power.denominator % 2 and power.denominator > 1:  # the real root, as in school
                return (-1) ** power.numerator * abs(base) ** exponent
            if power is None or power.denominator != 1:
                base = m.mpc(base)
        return base ** (power.numerator if power is not None and power.denominator == 1 else exponent)

    def _call(self, name: str, values: list[Any]) -> Any:
        m = self.library
        match name:
            case "!":
                if not 0 <= m.re(values[0]) <= _LARGEST_FACTORIAL:
                    raise TooLarge("too large to evaluate")
                return m.factorial(values[0])
            case "binom":
                if max(abs(v) for v in values) > _LARGEST_BINOMIAL:
                    raise TooLarge("too large to evaluate")
                return m.binomial(*values)
            case "abs":
                return abs(values[0])
            case "arccot":
                return m.atan(1 / values[0])
            case "log" if values[0] == 0:
                raise TooLarge("logarithm of zero")
            case _ if name in KNOWN_FUNCTIONS:
                return getattr(m, _OTHER_NAMES.get(name, name))(values[0])
            case _:  # an unknown function: some number that depends on name and arguments alone
                seed = (name, *(m.nstr(v, 9) if hasattr(m, "nstr") else f"{v:.9g}" for v in values))
                return m.mpf(random.Random(repr(seed)).uniform(0.5, 2))


def differ(a: Node, b: Node, library: Any, tolerance: float, certain: float) -> bool | None:
    """Do two expressions differ at some point? None if neither that nor the opposite is sure.

    Values apart by more than ``certain`` of their size, and of the accuracy lost on the way, show that they differ;
    equal means closer than ``tolerance`` at every point that has values. At points where a value is not real, roots
    may be on another branch: these do not count unless the imaginary unit occurs.
    """
    variables = names(a) | names(b)
    imaginary = not variables or "i" in constants(a) | constants(b)
    equal = 0
    for point in _points(a, b, variables):
        at = {name: library.mpf(value) for name, value in point.items()}
        first, second = Evaluator(library, at), Evaluator(library, at)
        try:
            x, y = first(a), second(b)
        except NO_VALUE:
            continue
        if not imaginary and (library.im(x) != 0 or library.im(y) != 0):
            continue
        scale, noise = max(abs(x), abs(y)), max(first.largest, second.largest)
        apart = abs(x - y)
        if apart > certain * scale and apart > tolerance * noise:
            return True
        if apart > tolerance * noise or noise > _LARGEST_LOSS * max(scale, 1):
            return None
        equal += 1
    return False if equal >= (3 if variables else 1) else None


def _points(a: Node, b: Node, variables: set[str]) -> Iterable[dict[str, float]]:
    """Points to compare two expressions at: one if there are no variables.

    They are positive, since a radius or a length is, so that the root of r^2 is r; of mixed signs where ``|x|``
    occurs; whole for functions of whole numbers.
    """
    if not variables:
        return [{_INFINITY: _LARGE}]
    ordered = sorted({v for v in variables if not v.endswith("()")} | {_INFINITY})
    draw = random.Random("points")
    if _discrete(a) or _discrete(b):
        return [{v: float(draw.randint(6, 14)) for v in ordered} for _ in range(8)]
    signed = any(isinstance(n, Call) and n.name == "abs" for x in (a, b) for n in walk(x))
    return [
        {v: draw.choice(signs) * draw.uniform(0.3, 2.5) for v in ordered}
        for signs in ([1], [1], [1], *([[-1, 1], [-1, 1], [-1]] if signed else [[1]]))
    ]


def _discrete(node: Node) -> bool:
    """Does an expression hold a function of whole numbers, or a negative number to a power with variables?"""
    return any(
        (isinstance(n, Call) and n.name in _ON_WHOLE_NUMBERS)
        or (isinstance(n, Power) and (base := number(n.base)) is not None and base < 0 and names(n.exponent))
        for n in walk(node)
    )


def constants(node: Node) -> set[str]:
    """The names of the constants in an expression."""
    return {n.name for n in walk(node) if isinstance(n, Constant)}
