"""The structure of an answer, as a tree of immutable nodes.

Three levels of classes: a ``PlainExpression`` has a value; an ``Expression`` may stand in arithmetic, but has a sign
yet to be chosen, a unit or a base; every other ``Node`` is a list, a set, an interval, a relation, words.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from paced.verify.grammar.notation import Unreadable
from paced.verify.grammar.units import Unit

_DIGITS = re.compile(r"\d+(?:\.\d*)?|\.\d+")
IN_WORDS = '"'  # the first character of a variable's name that is made of words: \text{Length} = 5


class Node:
    """Any part of an answer, or the whole of it."""

    __slots__ = ()


class Expression(Node):
    """What may be added and multiplied."""

    __slots__ = ()


class PlainExpression(Expression):
    """An expression that has a value once its variables have."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Number(PlainExpression):
    """A rational number; ``written`` holds its digits if it was a decimal, which may be rounded, else nothing."""

    value: Fraction
    written: str = ""


@dataclass(frozen=True, slots=True)
class Variable(PlainExpression):
    name: str


@dataclass(frozen=True, slots=True)
class Constant(PlainExpression):
    """One of ``pi``, ``e``, ``i`` and ``inf``."""

    name: str


@dataclass(frozen=True, slots=True)
class Sum(PlainExpression):
    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Product(PlainExpression):
    factors: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Power(PlainExpression):
    base: Node
    exponent: Node


@dataclass(frozen=True, slots=True)
class Call(PlainExpression):
    """A function of its arguments; ``!``, ``'``, ``abs``, ``floor``, ``ceil`` and ``binom`` are functions too."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class PlusMinus(Expression):
    """A sign that may be either: 1 stands for plus-minus, -1 for minus-plus."""

    upper: int


@dataclass(frozen=True, slots=True)
class Based(Expression):
    """Digits in a base other than the unsaid ten."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Measured(Expression):
    """A value with its unit."""

    value: Node
    unit: Unit


@dataclass(frozen=True, slots=True)
class List(Node):
    """Items without brackets; ``joined`` is ``,``, ``and`` or ``or``."""

    items: tuple[Node, ...]
    joined: str = ","


@dataclass(frozen=True, slots=True)
class Set(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Bracketed(Node):
    """Items in round or square brackets: a tuple, a vector, an interval."""

    opened: str
    items: tuple[Node, ...]
    closed: str

    @property
    def brackets(self) -> str:
        return self.opened + self.closed


@dataclass(frozen=True, slots=True)
class Matrix(Node):
    rows: tuple[tuple[Node, ...], ...]

    @property
    def entries(self) -> list[Node]:
        return [entry for row in self.rows for entry in row]


@dataclass(frozen=True, slots=True)
class Union(Node):
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Difference(Node):
    """A set without the members of another."""

    whole: Node
    removed: Node


@dataclass(frozen=True, slots=True)
class Relation(Node):
    """A chain of equations or inequalities: ``signs[i]`` stands between ``sides[i]`` and ``sides[i + 1]``.

    Signs are ``=``, ``<``, ``<=``, ``>``, ``>=``, ``!=``, ``~`` (about), ``in`` and ``->``.
    """

    sides: tuple[Node, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Colon(Node):
    """A ratio or a time of day; ``half`` is ``am``, ``pm`` or nothing."""

    parts: tuple[Node, ...]
    half: str = ""


@dataclass(frozen=True, slots=True)
class Text(Node):
    """Words, in the spelling in which they are compared."""

    words: str


ELLIPSIS = Variable(r"\ldots")  # an item that stands for those that are left out
MINUS_ONE = Number(Fraction(-1))
INFINITY = Constant("inf")
MINUS_INFINITY = Product((MINUS_ONE, INFINITY))


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly inside a node."""
    match node:
        case Sum(inside) | Product(inside) | Set(inside) | Union(inside) | List(inside) | Colon(inside):
            return inside
        case Call(arguments=inside) | Relation(sides=inside) | Bracketed(items=inside):
            return inside
        case Power(first, second) | Difference(first, second):
            return first, second
        case Measured(value):
            return (value,)
        case Matrix(rows):
            return tuple(entry for row in rows for entry in row)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """A node and every node inside it, in no particular order."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        yield inner
        waiting += children(inner)


def with_children(node: Node, change: Callable[[Node], Node]) -> Node:
    """The same structure with every direct child replaced by ``change(child)``."""

    def each(inside: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(change(x) for x in inside)

    match node:
        case Sum(inside) | Product(inside) | Set(inside) | Union(inside):
            return type(node)(each(inside))
        case Power(first, second) | Difference(first, second):
            return type(node)(change(first), change(second))
        case Call(name, inside):
            return Call(name, each(inside))
        case Relation(sides, signs):
            return Relation(each(sides), signs)
        case List(items, joined):
            return List(each(items), joined)
        case Bracketed(opened, items, closed):
            return Bracketed(opened, each(items), closed)
        case Colon(parts, half):
            return Colon(each(parts), half)
        case Measured(value, unit):
            return Measured(change(value), unit)
        case Matrix(rows):
            return Matrix(tuple(each(row) for row in rows))
        case _:
            return node


def number(text: str, exponent: int = 0) -> Number:
    """The number that digits write, times ten to ``exponent``; commas part thousands.

    Raises:
        Unreadable: there are no digits.
    """
    digits = text.replace(",", "").rstrip(".")
    if not _DIGITS.fullmatch(digits):
        raise Unreadable(f"{text!r} is no number")
    value = Fraction(digits if not digits.startswith(".") else "0" + digits)
    written = digits + (f"e{exponent}" if exponent else "")
    return Number(value * Fraction(10) ** exponent, written if "." in digits or exponent else "")


def letter(name: str) -> Constant | Variable:
    """The constant or the variable that a letter is; it may have an index."""
    return Constant(name) if name in ("e", "i") else Variable(name)


def reciprocal(node: Node) -> Power:
    return Power(node, MINUS_ONE)


def signed(sign: str | None, node: Node) -> Node:
    """A node behind ``+``, ``-``, ``\\pm``, ``\\mp`` or no sign."""
    if sign in (None, "+"):
        return node
    if sign != "-":
        return product([PlusMinus(1 if sign == r"\pm" else -1), node])
    match node:
        case Number(value, written):
            return Number(-value, "-" + written if written else "")
        case Measured(value, unit):
            return Measured(signed(sign, value), unit)
        case Based(digits, base):
            return Based("-" + digits, base)
        case _:
            return product([MINUS_ONE, node])


def transposed(node: Bracketed | Matrix) -> Node:
    """The transpose of a matrix; a vector is the same whether written as a row or as a column."""
    if isinstance(node, Matrix):
        return Matrix(tuple(zip(*node.rows, strict=True)))
    return Bracketed("(", node.items, ")")


def product(factors: list[Node]) -> Node:
    """A product: a matrix or a vector is multiplied entry by entry, a unit applies to the whole.

    Raises:
        Unreadable: a factor is neither an expression nor a matrix or vector, or two of them have units.
    """
    units = [f.unit for f in factors if isinstance(f, Measured)]
    values = [f.value if isinstance(f, Measured) else f for f in factors]
    arrays = [v for v in values if isinstance(v, Matrix | Bracketed)]
    scalars = [v for v in values if isinstance(v, Expression)]
    if len(arrays) > 1 or len(arrays) + len(scalars) < len(values) or len(units) > 1:
        raise Unreadable("a product of what are no numbers")
    if not arrays:
        node = Product(tuple(values))
        return Measured(node, units[0]) if units else node
    [array] = arrays
    if isinstance(array, Bracketed) and array.brackets != "()":
        raise Unreadable("a product with an interval")
    return with_children(array, lambda entry: product([*scalars, entry]))


def spoken(node: Node) -> str:
    """A structure as a person reads it, for the explanation of a verdict."""

    def listed(nodes: tuple[Node, ...], mark: str = ", ") -> str:
        return mark.join(spoken(n) for n in nodes)

    match node:
        case Number(value):
            return str(value)
        case Variable(name) | Constant(name):
            return name
        case Text(words):
            return f"words {words!r}"
        case Sum(terms):
            return f"({listed(terms, ' + ')})"
        case Product(factors):
            return listed(factors, " * ")
        case Power(base, exponent):
            return f"{spoken(base)}^{spoken(exponent)}"
        case Call(name, arguments):
            return f"f({', '.join([name, *map(spoken, arguments)])})"
        case Measured(value, unit):
            return f"{spoken(value)} [{unit.words or unit.dimension}]"
        case Based(digits, base):
            return f"{digits} in base {base}"
        case PlusMinus(upper):
            return f"pm({upper})"
        case _:
            return _spoken_structure(node, listed)


def _spoken_structure(node: Node, listed: Callable[..., str]) -> str:
    match node:
        case List(items):
            return f"list {listed(items)}"
        case Set(items):
            return f"set {{{listed(items)}}}"
        case Bracketed(opened, items, closed):
            return f"{opened}{listed(items)}{closed}"
        case Matrix(rows):
            return f"matrix [{'; '.join(listed(row) for row in rows)}]"
        case Union(parts):
            return listed(parts, " union ")
        case Difference(whole, removed):
            return f"minus({spoken(whole)}, {spoken(removed)})"
        case Relation(sides, signs):
            chain = [x for side, sign in zip(map(spoken, sides[1:]), signs, strict=True) for x in (sign, side)]
            return f"rel({', '.join([spoken(sides[0]), *chain])})"
        case Colon(parts, half):
            return listed(parts, ":") + (f" {half}" if half else "")
        case _:
            raise AssertionError(f"no rendering of {type(node).__name__}")
