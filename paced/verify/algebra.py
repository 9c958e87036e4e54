"""Are two expressions equal? Exactly where a normal form decides, else by evaluation at many digits.

The normal form is a polynomial with rational coefficients in *atoms*: variables, constants, roots of primes, and
whatever cannot be expanded. Equal forms are equal expressions; two different rational numbers are different. Other
pairs are evaluated: in double precision, which can only show that they differ, and (in a worker) at 120 digits.
"""

import math
import random
from fractions import Fraction
from functools import lru_cache
from typing import Any

from paced.verify.nodes import Node

_BITS = 60_000  # of an exact integer
_TERMS = 400
_LOST = 1e25  # terms so much larger than the result leave too few digits to call two values equal
Monomial = tuple[tuple[Any, Fraction], ...]
Form = dict[Monomial, Fraction]
_ONE: Monomial = ()


class TooLarge(ArithmeticError):
    """Exact arithmetic would need more digits or terms than the limits allow, or has no value."""


class Undecided(Exception):
    """The cheap rules do not decide; a worker has to."""


def _rational(form: Form) -> Fraction | None:
    if not form:
        return Fraction(0)
    return form[_ONE] if len(form) == 1 and _ONE in form else None


def _integer_power(base: Fraction, exponent: int) -> Fraction:
    if base == 0 and exponent <= 0:
        raise TooLarge("division by zero")
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if size > 1 and size * abs(exponent) > _BITS:
        raise TooLarge("too many digits")
    if size <= 1:
        exponent %= 2
    return base**exponent


def _add(forms: list[Form]) -> Form:
    total: Form = {}
    for form in forms:
        for monomial, c in form.items():
            c += total.get(monomial, 0)
            if c:
                total[monomial] = c
            else:
                total.pop(monomial, None)
    return total


def _joined(a: Monomial, b: Monomial) -> tuple[Fraction, Monomial]:
    """The product of two monomials; powers of i and of prime roots are carried into the coefficient."""
    exponents: dict[Any, Fraction] = dict(a)
    for atom, e in b:
        exponents[atom] = exponents.get(atom, Fraction(0)) + e
    coefficient = Fraction(1)
    for atom, e in list(exponents.items()):
        if atom == ("c", "i") and e.denominator == 1:
            if e % 4 >= 2:
                coefficient = -coefficient
            exponents[atom] = Fraction(e % 2)
        elif atom[0] == "prime":
            whole = math.floor(e)
            coefficient *= _integer_power(Fraction(atom[1]), whole)
            exponents[atom] = e - whole
    return coefficient, tuple(sorted(((k, e) for k, e in exponents.items() if e), key=repr))


def _multiply(a: Form, b: Form) -> Form:
    if len(a) * len(b) > _TERMS:
        raise TooLarge("too many terms")
    products: list[Form] = []
    for ma, ca in a.items():
        for mb, cb in b.items():
            c, monomial = _joined(ma, mb)
            products.append({monomial: c * ca * cb})
            if (ca * cb).numerator.bit_length() > 2 * _BITS:
                raise TooLarge("too many digits")
    return _add(products)


def _frozen(form: Form) -> tuple[Any, ...]:
    return tuple(sorted(form.items(), key=repr))


def _factors(n: int) -> dict[int, int] | None:
    """Prime factors found by trial division; None if a large part is left."""
    found: dict[int, int] = {}
    for p in range(2, 2_000):
        if p * p > n:
            break
        while n % p == 0:
            n //= p
            found[p] = found.get(p, 0) + 1
    if n > 4_000_000:
        root = math.isqrt(n)
        if root * root != n:
            return None
        found[root] = found.get(root, 0) + 2
    elif n > 1:
        found[n] = found.get(n, 0) + 1
    return found


def _root(value: Fraction, exponent: Fraction) -> Form | None:
    """A rational number to a fractional power, as a product of powers of primes."""
    if value == 0:
        return {} if exponent > 0 else None
    form: Form = {_ONE: Fraction(1)}
    if value < 0:
        if exponent.denominator == 2:
            form = {((("c", "i"), Fraction(exponent.numerator % 4)),): Fraction(1)}
            form = _multiply(form, {_ONE: Fraction(1)})
        elif exponent.denominator % 2:
            form = {_ONE: Fraction(-1 if exponent.numerator % 2 else 1)}  # the real root, as in school
        else:
            return None
    for number, sign in ((abs(value.numerator), 1), (value.denominator, -1)):
        if number.bit_length() > 200 or (primes := _factors(number)) is None:
            return None
        for p, k in primes.items():
            e = exponent * k * sign
            whole = math.floor(e)
            power: Form = {_ONE: _integer_power(Fraction(p), whole)}
            if e != whole:
                power = {((("prime", p), e - whole),): power[_ONE]}
            form = _multiply(form, power)
    return form


def _raised(base: Form, exponent: Form) -> Form:
    e, value = _rational(exponent), _rational(base)
    if e is None:
        return {((("power", _frozen(base), _frozen(exponent)), Fraction(1)),): Fraction(1)}
    if e.denominator == 1:
        k = e.numerator
        if value is not None:
            power = _integer_power(value, k)
            return {_ONE: power} if power else {}
        if len(base) == 1:
            ((monomial, c),) = base.items()
            extra, scaled = _joined(tuple((a, x * k) for a, x in monomial), ())
            return {scaled: _integer_power(c, k) * extra}
        if 0 < k <= 12 and len(base) ** k <= 100 * _TERMS:
            result: Form = {_ONE: Fraction(1)}
            for _ in range(k):
                result = _multiply(result, base)
            return result
    elif value is not None and (root := _root(value, e)) is not None:
        return root
    # Divide the leading coefficient out, so that 1/(2x+2) and (1/2)/(x+1) have one form.
    leading = abs(_frozen(base)[0][1])
    scale = _root(leading, e) if e.denominator != 1 else {_ONE: _integer_power(leading, e.numerator)}
    if scale is None:
        scale, leading = {_ONE: Fraction(1)}, Fraction(1)
    unit = _frozen({m: c / leading for m, c in base.items()})
    return _multiply(scale, {((("poly", unit), e),): Fraction(1)})


def _called(name: str, arguments: tuple[Node, ...]) -> Form:
    forms = [form(a) for a in arguments]
    values = [_rational(f) for f in forms]
    n = values[0]
    if n is not None:
        if name == "!" and n.denominator == 1 and 0 <= n <= 3_000:
            return {_ONE: Fraction(math.factorial(n.numerator))}
        if name == "abs":
            return {_ONE: abs(n)} if n else {}
        if name in ("floor", "ceil"):
            rounded = math.floor(n) if name == "floor" else math.ceil(n)
            return {_ONE: Fraction(rounded)} if rounded else {}
        if (
            name == "binom"
            and (k := values[1]) is not None
            and n.denominator == k.denominator == 1
            and 0 <= k <= n <= 2_000
        ):
            return {_ONE: Fraction(math.comb(n.numerator, k.numerator))}
    return {((("call", name, *(_frozen(f) for f in forms)), Fraction(1)),): Fraction(1)}


@lru_cache(maxsize=20_000)
def form(node: Node) -> Form:
    """The normal form of an expression; not to be changed by the caller.

    Raises:
        TooLarge: it has more digits or terms than the limits allow, or no value.
    """
    match node[0]:
        case "n":
            return {_ONE: node[1]} if node[1] else {}
        case "v" | "c":
            return {((node, Fraction(1)),): Fraction(1)}
        case "+":
            return _add([form(p) for p in node[1]])
        case "*":
            product: Form = {_ONE: Fraction(1)}
            for part in node[1]:
                product = _multiply(product, form(part))
            return product
        case "^":
            return _raised(form(node[1]), form(node[2]))
        case "f":
            return _called(node[1], node[2:])
        case _:
            raise TooLarge(f"no expression: {node[0]}")


def number(node: Node) -> Fraction | None:
    """The value of an expression that is a rational number, None for any other."""
    try:
        return _rational(form(node))
    except (ArithmeticError, RecursionError):
        return None


def names(node: Any) -> set[str]:
    """The variables in an expression or structure."""
    if not isinstance(node, tuple):
        return set()
    if node[:1] == ("v",):
        return {node[1]}
    found = {f"{node[1]}()"} if node[:1] == ("f",) and node[1] not in _KNOWN else set[str]()
    return found.union(*(names(part) for part in node))


_KNOWN = set("! abs floor ceil binom log sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh arccot".split())
_STEPS = {"!", "floor", "ceil", "binom"}  # of whole numbers


def _discrete(node: Any) -> bool:
    if not isinstance(node, tuple):
        return False
    if node[:1] == ("f",) and node[1] in _STEPS:
        return True
    if node[:1] == ("^",) and number(node[1]) is not None and number(node[1]) < 0 and names(node[2]):  # pyright: ignore
        return True
    return any(_discrete(part) for part in node)


class Evaluator:
    """The value of expressions at a point, with the size of the largest term on the way to judge its accuracy.

    ``library`` is ``mpmath.fp`` (double precision) or ``mpmath.mp``.
    """

    def __init__(self, library: Any, point: dict[str, Any]):
        self.library, self.point, self.largest = library, point, 0.0

    def __call__(self, node: Node) -> Any:
        value = self._value(node)
        size = abs(value)
        if (not size < 1e300 and self.library.isinf(size)) or self.library.isnan(size):
            raise TooLarge("no finite value")
        self.largest = max(self.largest, size)
        return value

    def _value(self, node: Node) -> Any:
        m = self.library
        match node[0]:
            case "n":
                return m.mpf(node[1].numerator) / m.mpf(node[1].denominator)
            case "v":
                return self.point[node[1]]
            case "c":
                return {"pi": +m.pi, "e": +m.e, "i": m.mpc(0, 1)}.get(node[1]) or self.point[r"\infty"]
            case "+":
                return sum((self(p) for p in node[1]), m.mpf(0))
            case "*":
                product = m.mpf(1)
                for part in node[1]:
                    product *= self(part)
                return product
            case "^":
                return self._power(self(node[1]), self(node[2]), node[2])
            case "f":
                return self._call(node)
            case _:
                raise TooLarge(f"no expression: {node[0]}")

    def _power(self, base: Any, exponent: Any, written: Node) -> Any:
        m = self.library
        if base == 0:
            if m.re(exponent) <= 0:
                raise TooLarge("division by zero")
            return m.mpf(0)
        if abs(exponent) * abs(m.log(abs(base))) > 650:
            raise TooLarge("too large to evaluate")
        power = number(written)
        if power is not None and power.denominator % 2 and power.denominator > 1 and m.im(base) == 0 and m.re(base) < 0:
            return (-1) ** power.numerator * abs(base) ** exponent
        if m.im(base) == 0 and m.re(base) < 0 and (power is None or power.denominator != 1):
            base = m.mpc(base)
        return base ** (power.numerator if power is not None and power.denominator == 1 else exponent)

    def _call(self, node: Node) -> Any:
        m, name = self.library, node[1]
        values = [self(a) for a in node[2:]]
        match name:
            case "!":
                if not 0 <= m.re(values[0]) <= 150:
                    raise TooLarge("too large to evaluate")
                return m.factorial(values[0])
            case "binom":
                if max(abs(v) for v in values) > 500:
                    raise TooLarge("too large to evaluate")
                return m.binomial(*values)
            case "abs":
                return abs(values[0])
            case "arccot":
                return m.atan(1 / values[0])
            case _ if name in _KNOWN:
                if name == "log" and values[0] == 0:
                    raise TooLarge("logarithm of zero")
                own = {"log": "log", "arcsin": "asin", "arccos": "acos", "arctan": "atan"}.get(name, name)
                return getattr(m, own)(values[0])
            case _:  # an unknown function: some number that depends on name and arguments alone
                seed = (name, *(m.nstr(v, 9) if hasattr(m, "nstr") else f"{v:.9g}" for v in values))
                return m.mpf(random.Random(repr(seed)).uniform(0.5, 2))


def _points(variables: set[str], discrete: bool, signed: bool) -> list[dict[str, float]]:
    """Points to compare at: positive; of mixed signs where ``|x|`` occurs; whole for functions of whole numbers.

    A radius or a length is positive, so that the root of r^2 is r.
    """
    draw = random.Random("points")
    ordered = sorted(variables)
    if discrete:
        return [{v: float(draw.randint(6, 14)) for v in ordered} for _ in range(8)]
    return [
        {v: draw.choice(signs) * draw.uniform(0.3, 2.5) for v in ordered}
        for signs in ([1], [1], [1], *([[-1, 1], [-1, 1], [-1]] if signed else [[1]]))
    ]


def differ(a: Node, b: Node, library: Any, tolerance: float, certain: float) -> bool | None:
    """Do two expressions differ at some point? None if neither that nor the opposite is sure.

    Values apart by more than ``certain`` of their size, and of the accuracy lost on the way, show that they differ;
    equal means closer than ``tolerance`` at every point that has values. At points where a value is not real, roots
    may be on another branch, so these only count if all other points are missing.
    """
    variables = names(a) | names(b)
    free = {v for v in variables if not v.endswith("()")} | {r"\infty"}
    equal, signed = 0, "abs" in _calls(a) | _calls(b)
    for point in _points(free, _discrete(a) or _discrete(b), signed) if variables else [{r"\infty": 3.7e5}]:
        at = {k: library.mpf(v) for k, v in point.items()}
        first, second = Evaluator(library, at), Evaluator(library, at)
        try:
            x, y = first(a), second(b)
        except (ArithmeticError, ValueError, TypeError, KeyError, RecursionError):
            continue
        if variables and (library.im(x) != 0 or library.im(y) != 0) and "i" not in _constants(a) | _constants(b):
            continue
        scale, noise = max(abs(x), abs(y)), max(first.largest, second.largest)
        if abs(x - y) > certain * scale and abs(x - y) > tolerance * noise:
            return True
        if abs(x - y) > tolerance * noise or noise > _LOST * max(scale, 1):
            return None
        equal += 1
    return False if equal >= (3 if variables else 1) else None


def _calls(node: Any) -> set[str]:
    if not isinstance(node, tuple):
        return set()
    found = {node[1]} if node[:1] == ("f",) else set[str]()
    return found.union(*(_calls(part) for part in node))


def _constants(node: Any) -> set[str]:
    if not isinstance(node, tuple):
        return set()
    if node[:1] == ("c",):
        return {node[1]}
    return set[str]().union(*(_constants(part) for part in node))


@lru_cache(maxsize=20_000)
def equal(a: Node, b: Node) -> bool:
    """Are two expressions equal?

    Raises:
        Undecided: normal forms and double precision do not tell.
    """
    if a == b:
        return True
    try:
        fa, fb = form(a), form(b)
        if fa == fb:
            return True
        if _rational(fa) is not None and _rational(fb) is not None:
            return False
    except (ArithmeticError, RecursionError):
        pass
    import mpmath  # only where a form does not decide

    if differ(a, b, mpmath.fp, 1e-9, 1e-6):
        return False
    raise Undecided("normal forms differ, values do not")


def approximate(node: Node) -> float | None:
    """The real value of a constant expression in double precision, None if it has none."""
    exact = number(node)
    if exact is not None:
        return float(exact) if exact.numerator.bit_length() - exact.denominator.bit_length() < 1_000 else None
    import mpmath

    if names(node) or "inf" in _constants(node):
        return None
    try:
        value = Evaluator(mpmath.fp, {})(node)
    except (ArithmeticError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return float(value.real) if abs(value.imag) < 1e-12 * abs(value) else None
