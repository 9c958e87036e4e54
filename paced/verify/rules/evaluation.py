"""The values of expressions at chosen points: different values show that two expressions differ.

In double precision that is all they show; at many digits (``workers/exact.py``) equal values count as equality.
"""

import random
from collections.abc import Iterable
from typing import Any

from paced.verify.grammar.nodes import Call, Constant, Node, Number, Power, Product, Sum, Variable, walk
from paced.verify.rules.forms import KNOWN_FUNCTIONS, TooLarge, names, number

NO_VALUE = (ArithmeticError, ValueError, TypeError, KeyError, RecursionError)  # what an expression without value raises
_LARGEST_LOSS = 1e25  # errors so much larger than the values leave too few digits to call these equal
_LARGEST_LOGARITHM = {"fp": 650, "mp": 2_000_000}  # of a power, by the library
_LARGEST_FACTORIAL = {"fp": 150, "mp": 20_000}
_LARGEST_BINOMIAL = 500
_EXACT_BITS = 50  # of a whole number that is stored without an error
_INFINITY = r"\infty"  # the name of infinity among the variables of a point
_LARGE = 3.7e5  # stands for infinity
_ON_WHOLE_NUMBERS = {"!", "!!", "binom", "gcd", "lcm"}
_STEPS = {"floor", "ceil", "mod"}
_WHOLE_BY_CUSTOM = set("ijklmnNKM")  # letters that stand for whole numbers where steps occur
_OTHER_NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}  # in mpmath
_FAR = 2.5  # times the largest number in an expression: as far as it is sampled where it may have a corner


def double_precision() -> Any:
    """mpmath on Python's floats; imported here, because normal forms decide most pairs without it."""
    import mpmath

    return mpmath.fp


class Evaluator:
    """The value of expressions at a point, with a bound of its error.

    ``library`` is ``mpmath.fp`` (double precision) or ``mpmath.mp``. ``error`` is the bound for the last value asked
    for, in units of the library's precision: 1 for the value 1 as it is stored. ``absorbed`` says that a term was so
    small beside others that it left no trace in a sum, so that equal values show nothing.
    """

    def __init__(self, library: Any, point: dict[str, Any]):
        self.library, self.point, self.error, self.absorbed = library, point, library.mpf(0), False
        self._kind = "mp" if hasattr(library, "workdps") else "fp"

    def __call__(self, node: Node) -> Any:
        """The value.

        Raises:
            TooLarge: it is not finite, or too large to evaluate.
            ArithmeticError, ValueError, TypeError, KeyError: the expression has no value at this point.
        """
        value, self.error = self._checked(node)
        return value

    def _checked(self, node: Node) -> tuple[Any, Any]:
        value, error = self._value(node)
        size = abs(value)
        if (not size < 1e300 and self.library.isinf(size)) or self.library.isnan(size):
            raise TooLarge("no finite value")
        return value, error

    def _value(self, node: Node) -> tuple[Any, Any]:
        m = self.library
        match node:
            case Number(value):
                exact = m.mpf(value.numerator) / m.mpf(value.denominator)
                stored = value.denominator == 1 and value.numerator.bit_length() < _EXACT_BITS
                return exact, m.mpf(0) if stored else abs(exact)
            case Variable(name):
                return self.point[name], abs(self.point[name])
            case Constant(name):
                value = {"pi": +m.pi, "e": +m.e, "i": m.mpc(0, 1)}.get(name) or self.point[_INFINITY]
                return value, abs(value)
            case Sum(terms):
                return self._sum([self._checked(t) for t in terms])
            case Product(factors):
                product, error = m.mpf(1), m.mpf(0)
                for value, its_error in map(self._checked, factors):
                    product, error = product * value, error * abs(value) + its_error * abs(product)
                return product, error
            case Power(base, exponent):
                return self._power(self._checked(base), self._checked(exponent), exponent)
            case Call(name, arguments):
                return self._call(name, [self._checked(a) for a in arguments])
            case _:
                raise TooLarge(f"no expression: {type(node).__name__}")

    def _sum(self, terms: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        total, largest = self.library.mpf(0), max(abs(v) for v, _ in terms)
        for value, _ in terms:
            total += value
            self.absorbed = self.absorbed or 0 < abs(value) < largest * self.library.eps
        return total, sum((e for _, e in terms), self.library.mpf(0))

    def _power(self, raised: tuple[Any, Any], to: tuple[Any, Any], written: Node) -> tuple[Any, Any]:
        m = self.library
        (base, base_error), (exponent, exponent_error) = raised, to
        if base == 0:
            if m.re(exponent) <= 0:
                raise TooLarge("division by zero")
            return m.mpf(0), m.mpf(0)
        logarithm = abs(m.log(abs(base)))
        if abs(exponent) * logarithm > _LARGEST_LOGARITHM[self._kind]:
            raise TooLarge("too large to evaluate")
        power = number(written)
        value: Any = None
        if m.im(base) == 0 and m.re(base) < 0:
            if power is not None and power.denominator % 2 and power.denominator > 1:  # the real root, as in school
                value = (-1) ** power.numerator * abs(base) ** exponent
            elif power is None or power.denominator != 1:
                base = m.mpc(base)
        if value is None:
            value = base ** (power.numerator if power is not None and power.denominator == 1 else exponent)
        relative = abs(exponent) * base_error / abs(base) + logarithm * exponent_error + 1
        return value, abs(value) * relative

    def _call(self, name: str, arguments: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        """The value of a function, with the error of its first argument times the size of its derivative."""
        m = self.library
        values = [v for v, _ in arguments]
        x, error = arguments[0]
        value = self._function(name, values)
        size = abs(value)
        match name:
            case "log":
                error = error / abs(x)
            case "arcsin" | "arccos":
                error = error / m.sqrt(max(abs(1 - x * x), m.eps))
            case "tan" | "cot" | "sec" | "csc":
                error = error * (1 + size) ** 2
            case "sinh" | "cosh" | "!" | "!!" | "binom":
                error = error * (1 + size) * 10
            case _:
                pass
        return value, error + size

    def _function(self, name: str, values: list[Any]) -> Any:
        m = self.library
        match name:
            case "!":
                if not 0 <= m.re(values[0]) <= _LARGEST_FACTORIAL[self._kind]:
                    raise TooLarge("too large to evaluate")
                return m.factorial(values[0])
            case "binom":
                if max(abs(v) for v in values) > _LARGEST_BINOMIAL:
                    raise TooLarge("too large to evaluate")
                return m.binomial(*values)
            case "abs":
                return abs(values[0])
            case "conj":
                return m.conj(values[0])
            case "max" | "min":
                return (max if name == "max" else min)(values)
            case "mod":
                return values[0] - values[1] * m.floor(values[0] / values[1])
            case "arccot":
                return m.atan(1 / values[0])
            case "log" if values[0] == 0:
                raise TooLarge("logarithm of zero")
            case _ if name in KNOWN_FUNCTIONS and hasattr(m, _OTHER_NAMES.get(name, name)):
                return getattr(m, _OTHER_NAMES.get(name, name))(values[0])
            case _:  # an unknown function: some number that depends on name and arguments alone
                seed = (name, *(m.nstr(v, 9) if hasattr(m, "nstr") else f"{v:.9g}" for v in values))
                return m.mpf(random.Random(repr(seed)).uniform(0.5, 2))


def differ(a: Node, b: Node, library: Any, tolerance: float, certain: float) -> bool | None:
    """Do two expressions differ at some point? None if neither that nor the opposite is sure.

    Values apart by more than ``certain`` of their size, and by more than their errors (``tolerance`` for an error of
    1), show that they differ; equal means closer than that at every point that has values. At points where a value is
    not real, roots may be on another branch: these do not count unless the imaginary unit occurs.
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
        scale, noise = max(abs(x), abs(y)), first.error + second.error
        apart = abs(x - y)
        if apart > certain * scale and apart > tolerance * noise:
            return True
        if apart > tolerance * noise or noise > _LARGEST_LOSS * max(scale, 1) or first.absorbed or second.absorbed:
            return None
        equal += 1
    return False if equal >= (3 if variables else 1) else None


def _points(a: Node, b: Node, variables: set[str]) -> Iterable[dict[str, float]]:
    """Points to compare two expressions at: one if there are no variables.

    They are positive, since a radius or a length is, so that the root of r^2 is r; of mixed signs where ``|x|``
    occurs; whole for functions of whole numbers. Where an expression may have a corner or an end of its domain, some
    lie in the unit interval and some beyond the largest number in it: ``|x - 8|`` is 8 - x up to there.
    """
    if not variables:
        return [{_INFINITY: _LARGE}]
    ordered = sorted({v for v in variables if not v.endswith("()")} | {_INFINITY})
    draw = random.Random("points")
    calls = {n.name for x in (a, b) for n in walk(x) if isinstance(n, Call)}
    if calls & _ON_WHOLE_NUMBERS or _alternates(a) or _alternates(b):
        return [{v: float(draw.randint(6, 14)) for v in ordered} for _ in range(8)]
    if calls & _STEPS:
        whole = {v for v in ordered if v[0] in _WHOLE_BY_CUSTOM}
        return [
            {v: float(draw.randint(1, 29)) if v in whole else draw.uniform(0.3, 15) for v in ordered} for _ in range(16)
        ]
    signed = "abs" in calls
    points = [
        {v: draw.choice(signs) * draw.uniform(0.3, 2.5) for v in ordered}
        for signs in ([1], [1], [1], *([[-1, 1], [-1, 1], [-1]] if signed else [[1]]))
    ]
    if calls - {"!", "'"} or _has_root(a) or _has_root(b):
        far = _FAR * max(_largest_number(a), _largest_number(b), 1.0)
        ranges = ((0.02, 0.98), (0.02, 0.98), (0.02, 0.98), (far / 10, far), (far / 2, far), (far, 2 * far))
        points += [{v: draw.uniform(*ends) for v in ordered} for ends in ranges]
    return points


def _alternates(node: Node) -> bool:
    """Does an expression hold a negative number to a power with variables?"""
    return any(
        isinstance(n, Power) and (base := number(n.base)) is not None and base < 0 and names(n.exponent)
        for n in walk(node)
    )


def _has_root(node: Node) -> bool:
    """Does an expression hold a root of an expression with variables?"""
    return any(
        isinstance(n, Power) and names(n.base) and ((e := number(n.exponent)) is None or e.denominator > 1)
        for n in walk(node)
    )


def _largest_number(node: Node) -> float:
    """The largest of the numbers that are written in an expression, up to a million."""
    sizes = [abs(n.value) for n in walk(node) if isinstance(n, Number)]
    return float(min(max(sizes, default=1), 1_000_000))


def constants(node: Node) -> set[str]:
    """The names of the constants in an expression."""
    return {n.name for n in walk(node) if isinstance(n, Constant)}
