"""A normal form of expressions: equal forms are equal expressions, and two different rational numbers are different.

The form is a polynomial with rational coefficients in *atoms*: variables, constants, roots of primes, and whatever
cannot be expanded. Arithmetic is exact and bounded.
"""

import math
from collections.abc import Hashable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from paced.verify.grammar.nodes import (
    Call,
    Constant,
    Node,
    Number,
    Power,
    Product,
    Sum,
    Variable,
    walk,
)

_MOST_BITS = 60_000  # of an exact integer
_MOST_BITS_WRITTEN = 14_000  # Python writes integers of up to 4,300 digits
_MOST_TERMS = 400
_MOST_ROOT_BITS = 200  # of a number whose prime factors are looked for
_LARGEST_DIVISOR = 2_000  # of trial division
_LARGEST_FACTORIAL = 3_000
_LARGEST_BINOMIAL = 2_000
_HIGHEST_EXPANDED_POWER = 12


class Atom(NamedTuple):
    """What a polynomial is made of; ``parts`` is a name, a prime, or the forms that cannot be expanded.

    ``kind`` is ``v`` (variable), ``c`` (constant), ``prime``, ``poly`` (a polynomial to be raised to a power that does
    not expand it), ``power`` (base and exponent) or ``call`` (a function's name and arguments).
    """

    kind: str
    parts: Hashable

    @property
    def prime(self) -> int:
        assert isinstance(self.parts, int)
        return self.parts


Monomial = tuple[tuple[Atom, Fraction], ...]  # atoms with their exponents
Form = dict[Monomial, Fraction]
_ONE: Monomial = ()
_IMAGINARY_UNIT = Atom("c", "i")


class TooLarge(ArithmeticError):
    """Exact arithmetic would need more digits or terms than the limits allow, or has no value."""


def rational(form: Form) -> Fraction | None:
    """The value of a form that is a rational number, None for any other."""
    if not form:
        return Fraction(0)
    return form[_ONE] if len(form) == 1 and _ONE in form else None


def _constant(value: Fraction) -> Form:
    return {_ONE: value} if value else {}


def _atom(atom: Atom, exponent: Fraction = Fraction(1), coefficient: Fraction = Fraction(1)) -> Form:
    return {((atom, exponent),): coefficient}


def _integer_power(base: Fraction, exponent: int) -> Fraction:
    if base == 0 and exponent <= 0:
        raise TooLarge("division by zero")
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if size > 1 and size * abs(exponent) > _MOST_BITS:
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
    exponents: dict[Atom, Fraction] = dict(a)
    for atom, e in b:
        exponents[atom] = exponents.get(atom, Fraction(0)) + e
    coefficient = Fraction(1)
    for atom, e in list(exponents.items()):
        if atom == _IMAGINARY_UNIT and e.denominator == 1:
            if e % 4 >= 2:
                coefficient = -coefficient
            exponents[atom] = Fraction(e % 2)
        elif atom.kind == "prime":
            whole = math.floor(e)
            coefficient *= _integer_power(Fraction(atom.prime), whole)
            exponents[atom] = e - whole
    return coefficient, tuple(sorted(((k, e) for k, e in exponents.items() if e), key=repr))


def _multiply(a: Form, b: Form) -> Form:
    if len(a) * len(b) > _MOST_TERMS:
        raise TooLarge("too many terms")
    products: list[Form] = []
    for ma, ca in a.items():
        for mb, cb in b.items():
            c, monomial = _joined(ma, mb)
            products.append({monomial: c * ca * cb})
            if (ca * cb).numerator.bit_length() > 2 * _MOST_BITS:
                raise TooLarge("too many digits")
    return _add(products)


def _frozen(form: Form) -> tuple[tuple[Monomial, Fraction], ...]:
    """The terms of a form in one order, as part of an atom.

    Raises:
        TooLarge: a coefficient has more digits than can be written, by which they are put in order.
    """
    if any(max(c.numerator.bit_length(), c.denominator.bit_length()) > _MOST_BITS_WRITTEN for c in form.values()):
        raise TooLarge("too many digits")
    return tuple(sorted(form.items(), key=repr))


def _factors(n: int) -> dict[int, int] | None:
    """Prime factors found by trial division; None if a large part is left."""
    found: dict[int, int] = {}
    for p in range(2, _LARGEST_DIVISOR):
        if p * p > n:
            break
        while n % p == 0:
            n //= p
            found[p] = found.get(p, 0) + 1
    if n > _LARGEST_DIVISOR**2:
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
            form = _multiply(form, _atom(_IMAGINARY_UNIT, Fraction(exponent.numerator % 4)))
        elif exponent.denominator % 2:
            form = {_ONE: Fraction(-1 if exponent.numerator % 2 else 1)}  # the real root, as in school
        else:
            return None
    for number, sign in ((abs(value.numerator), 1), (value.denominator, -1)):
        if number.bit_length() > _MOST_ROOT_BITS or (primes := _factors(number)) is None:
            return None
        for p, k in primes.items():
            e = exponent * k * sign
            whole = math.floor(e)
            power: Form = {_ONE: _integer_power(Fraction(p), whole)}
            if e != whole:
                power = _atom(Atom("prime", p), e - whole, power[_ONE])
            form = _multiply(form, power)
    return form


def _raised(base: Form, exponent: Form) -> Form:
    """A form to the power that another form is: expanded if it can be, else an atom."""
    e, value = rational(exponent), rational(base)
    if e is None:
        return _atom(Atom("power", (_frozen(base), _frozen(exponent))))
    power: Form | None = None
    if e.denominator == 1:
        power = _to_integer(base, e.numerator)
    elif value is not None:
        power = _root(value, e)
    return _unexpanded(base, e) if power is None else power


def _to_integer(base: Form, exponent: int) -> Form | None:
    """A form to an integer power, None if that is not expanded."""
    value = rational(base)
    if value is not None:
        return _constant(_integer_power(value, exponent))
    if len(base) == 1:
        ((monomial, c),) = base.items()
        carried, scaled = _joined(tuple((atom, e * exponent) for atom, e in monomial), ())
        return {scaled: _integer_power(c, exponent) * carried}
    if 0 < exponent <= _HIGHEST_EXPANDED_POWER and len(base) ** exponent <= 100 * _MOST_TERMS:
        result = _constant(Fraction(1))
        for _ in range(exponent):
            result = _multiply(result, base)
        return result
    return None


def _unexpanded(base: Form, exponent: Fraction) -> Form:
    """A power as an atom, the leading coefficient divided out: 1/(2x+2) and (1/2)/(x+1) have one form."""
    if not base:
        raise TooLarge("a power of zero that has no value")
    leading = abs(_frozen(base)[0][1])
    if exponent.denominator != 1:
        scale = _root(leading, exponent)
    else:
        scale = _constant(_integer_power(leading, exponent.numerator))
    if scale is None:
        scale, leading = _constant(Fraction(1)), Fraction(1)
    monic = _frozen({monomial: c / leading for monomial, c in base.items()})
    return _multiply(scale, _atom(Atom("poly", monic), exponent))


def _called(name: str, arguments: tuple[Node, ...]) -> Form:
    """The form of a function: a number where it is one of rational arguments, else an atom."""
    forms = [form(a) for a in arguments]
    first, *others = (rational(f) for f in forms)
    if first is not None and (value := _value(name, first, others)) is not None:
        return _constant(value)
    return _atom(Atom("call", (name, *(_frozen(f) for f in forms))))


def _value(name: str, n: Fraction, others: list[Fraction | None]) -> Fraction | None:
    """The rational value of a function at rational arguments, None if it has none or a very large one."""
    match name, others:
        case "abs", _:
            return abs(n)
        case "floor", _:
            return Fraction(math.floor(n))
        case "ceil", _:
            return Fraction(math.ceil(n))
        case "mod", [Fraction() as m] if m > 0:
            return n % m
        case "max" | "min", _ if all(x is not None for x in others):
            values = [n, *(x for x in others if x is not None)]
            return max(values) if name == "max" else min(values)
        case "gcd" | "lcm", _ if n.denominator == 1 and all(x is not None and x.denominator == 1 for x in others):
            values = [n.numerator, *(x.numerator for x in others if x is not None)]
            return Fraction(math.gcd(*values) if name == "gcd" else math.lcm(*values))
        case "!!", _ if n.denominator == 1 and 0 <= n <= _LARGEST_FACTORIAL:
            return Fraction(math.prod(range(n.numerator, 0, -2)))
        case "!", _ if n.denominator == 1 and 0 <= n <= _LARGEST_FACTORIAL:
            return Fraction(math.factorial(n.numerator))
        case "binom", [Fraction() as k] if n.denominator == k.denominator == 1 and 0 <= k <= n <= _LARGEST_BINOMIAL:
            return Fraction(math.comb(n.numerator, k.numerator))
        case _:
            return None


@lru_cache(maxsize=20_000)
def form(node: Node) -> Form:
    """The normal form of an expression; not to be changed by the caller.

    Raises:
        TooLarge: it has more digits or terms than the limits allow, or no value.
    """
    match node:
        case Number(value):
            return _constant(value)
        case Variable(name):
            return _atom(Atom("v", name))
        case Constant(name):
            return _atom(Atom("c", name))
        case Sum(terms):
            return _add([form(t) for t in terms])
        case Product(factors):
            product = _constant(Fraction(1))
            for factor in factors:
                product = _multiply(product, form(factor))
            return product
        case Power(base, exponent):
            return _raised(form(base), form(exponent))
        case Call(name, arguments):
            return _called(name, arguments)
        case _:
            raise TooLarge(f"no expression: {type(node).__name__}")


def number(node: Node) -> Fraction | None:
    """The value of an expression that is a rational number, None for any other."""
    try:
        return rational(form(node))
    except (ArithmeticError, RecursionError):
        return None


KNOWN_FUNCTIONS = set(
    "! !! abs floor ceil binom mod max min gcd lcm conj log sin cos tan cot sec csc arcsin arccos arctan arccot sinh "
    "cosh tanh".split()
)


def names(node: Node) -> set[str]:
    """The variables in an expression or a structure, and as ``f()`` the functions that have no known value."""
    found = set[str]()
    for inner in walk(node):
        match inner:
            case Variable(name):
                found.add(name)
            case Call(name) if name not in KNOWN_FUNCTIONS:
                found.add(f"{name}()")
            case _:
                pass
    return found
