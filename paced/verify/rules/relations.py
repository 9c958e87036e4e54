"""Equations and inequalities: ``x = 5``, ``f(x) = 2x``, ``a = 2, b = 3``; what they say of a name."""

from fractions import Fraction

from paced.verify.grammar.nodes import (
    IN_WORDS,
    MINUS_ONE,
    Call,
    Measured,
    Node,
    Number,
    PlainExpression,
    Product,
    Relation,
    Sum,
    Variable,
    with_children,
)
from paced.verify.rules.comparison import Comparison, Rule
from paced.verify.rules.equality import approximate
from paced.verify.rules.evaluation import NO_VALUE, Evaluator, double_precision
from paced.verify.rules.forms import form, names
from paced.verify.rules.measures import decimal_places, written_places

TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NEVER_NAMES = ("abs", "log", "sin", "cos", "tan", "!", "binom")  # functions whose values no answer defines
_EXACTLY, _ROUGHLY = 1e-9, 0.05  # relative difference of two sides of an equation, of an approximation
_LARGEST_DENOMINATOR = 10_000  # of a factor between two equations


def last_side(node: Node) -> Node:
    """What a chain of equations comes to: its last side; anything else stands for itself."""
    return node.sides[-1] if isinstance(node, Relation) else node


def exact_side(node: Node) -> Node:
    """What stands right before an approximation, else the last side."""
    if isinstance(node, Relation) and "~" in node.signs:
        return node.sides[node.signs.index("~")]
    return last_side(node)


def _exact_part(relation: Relation) -> Node | None:
    """All that stands before the approximation; None if that is a name alone."""
    at = relation.signs.index("~")
    if at == 0:
        return None if isinstance(relation.sides[0], Variable | Call) else relation.sides[0]
    return Relation(relation.sides[: at + 1], relation.signs[:at])


def name_and_value(node: Node) -> tuple[Node, Node] | None:
    """Name and value of ``name = value``, None for any other relation."""
    if not isinstance(node, Relation) or set(node.signs) - {"=", "in"}:
        return None
    name, value = node.sides[0], node.sides[-1]
    match name:
        case Variable(letters):
            return (name, value) if letters not in names(value) else None
        case Call(function) if function not in _NEVER_NAMES:
            return name, value
        case _:
            pass
    if len(node.signs) == 1 and isinstance(value, Variable) and not names(name):  # 5 = x
        return value, name
    return None


def _argument_of(name: Node) -> str | None:
    """The argument of ``f(x)`` if it is one variable."""
    match name:
        case Call(_, (Variable(argument),)):
            return argument
        case _:
            return None


def _names_agree(left: Node, right: Node, a: Relation, g: Relation) -> bool:
    """Are the names that two equations ``a`` and ``g`` give a value to the same, as far as names matter?"""
    if left == right:
        return True
    if isinstance(left, Call) and isinstance(right, Call):
        return left.name == right.name and _argument_of(left) is not None and _argument_of(right) is not None
    if any(isinstance(n, Variable) and n.name.startswith(IN_WORDS) for n in (left, right)):
        return True
    one_is_a_function = isinstance(left, Call) != isinstance(right, Call)  # y = 2x against f(x) = 2x
    return one_is_a_function and not ("in" in a.signs or "in" in g.signs)


def _with_argument_of(value: Node, left: Node, right: Node) -> Node:
    """The value of ``left`` with its argument renamed to that of ``right``: ``f(n) = n`` is ``f(x) = x``."""
    old, new = _argument_of(left), _argument_of(right)
    if old is None or new is None or old == new:
        return value

    def renamed(node: Node) -> Node:
        if isinstance(node, Variable):
            return Variable(new) if node.name == old else node
        return with_children(node, renamed)

    return renamed(value)


def values_by_name(items: tuple[Node, ...]) -> dict[Node, Node]:
    """Values by name of items that are each ``name = value`` with a name of its own; else empty."""
    pairs = [name_and_value(item) for item in items]
    found = {pair[0]: pair[1] for pair in pairs if pair}
    return found if len(found) == len(pairs) else {}


def named_by_letters(items: tuple[Node, ...]) -> bool:
    """Are there several items, each the value of a letter of its own?"""
    named = values_by_name(items)
    letters = [name for name in named if isinstance(name, Variable) and len(name.name) == 1]
    return len(letters) == len(items) > 1


def values_in_order(items: tuple[Node, ...]) -> list[Node]:
    """The values of items: in the alphabet's order of their names if each has one letter for a name."""
    if named_by_letters(items):
        named = values_by_name(items)
        return [named[n] for n in sorted(named, key=lambda n: n.name if isinstance(n, Variable) else "")]
    return [last_side(item) for item in items]


# Rules


def relations(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Equations: ``x = 5`` is 5 where the gold is 5; between equations names count, and scale does not."""
    if isinstance(a, Relation) or isinstance(g, Relation):
        return comparison.first_of(_RULES, a, g)
    return None


def _approximation_for_an_equation(comparison: Comparison, a: Node, g: Node) -> bool | None:
    if not (isinstance(a, Relation) and isinstance(g, Relation) and "~" in a.signs):
        return None
    exact = _exact_part(a)
    if exact is None:
        return None
    return comparison.same(exact, g) or (bool(decimal_places(last_side(g))) and comparison.same(last_side(a), g))


def _members(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """``x`` in one set against ``x`` in another."""
    if isinstance(a, Relation) and isinstance(g, Relation) and "in" in a.signs and "in" in g.signs:
        return a.sides[0] == g.sides[0] and comparison.same(a.sides[1], g.sides[1])
    return None


def _values_of_names(comparison: Comparison, a: Node, g: Node) -> bool | None:
    left, right = name_and_value(a), name_and_value(g)
    if not (isinstance(a, Relation) and isinstance(g, Relation) and left and right):
        return None
    if _names_agree(left[0], right[0], a, g):
        comparison.decided_by = "values of the same name compared"
        return comparison.same(_with_argument_of(left[1], left[0], right[0]), right[1])
    if names(left[1]) or names(right[1]) or _argument_of(left[0]) or _argument_of(right[0]):
        return None  # they may be the same equation, solved for different names
    return False


def _equation_for_a_value(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """The gold gives a name a number, the answer is an equation that names nothing."""
    right = name_and_value(g)
    if isinstance(a, Relation) and right and not name_and_value(a) and not names(right[1]):
        return comparison.same(last_side(a), right[1]) and not names(last_side(a))
    return None


def _equations(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """``l = r`` and ``l' = r'`` are the same equation if the differences of their sides have a constant ratio."""
    if not (isinstance(a, Relation) and isinstance(g, Relation)):
        return None
    if a.signs != ("=",) or g.signs != ("=",):
        return False
    if not all(isinstance(side, PlainExpression) for side in (*a.sides, *g.sides)):
        return all(comparison.same(left, right) for left, right in zip(a.sides, g.sides, strict=True))
    comparison.decided_by = "equations compared up to a factor"
    return _ratio(comparison, _difference(a), _difference(g)) is not None


def _value_for_an_equation(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """The gold alone is an equation."""
    if not isinstance(g, Relation) or isinstance(a, Relation):
        return None
    if "in" in g.signs or "~" in g.signs:
        return comparison.same(a, exact_side(g)) or ("~" in g.signs and comparison.same(a, last_side(g)))
    if name_and_value(g) is None and names(g.sides[0]) | names(g.sides[1]):
        return False
    comparison.decided_by = "the value of the gold's equation"
    return comparison.same(a, last_side(g))


def _equation_for_a_bare_gold(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """The answer alone is an equation: its last side counts; of an approximation the side before it, the exact one."""
    if not isinstance(a, Relation):
        return None
    comparison.decided_by = "the value of the answer's equation"
    if contradictory(a):
        comparison.decided_by = "an equation that does not hold"
        return False
    if "~" in a.signs:  # the rounded side counts where the gold is rounded too
        return comparison.same(exact_side(a), g) or (bool(decimal_places(g)) and comparison.same(last_side(a), g))
    if "!=" in a.signs or "->" in a.signs:
        return False
    if isinstance(last_side(a), Variable) and not names(a.sides[0]) and (turned := name_and_value(a)):  # 5 = n
        return comparison.same(turned[1], g) or comparison.same(last_side(a), g)
    return comparison.same(last_side(a), g)


def contradictory(chain: Relation) -> bool:
    """Does a chain say that two numbers are equal that are not, not even rounded: ``6 = 5``, ``7 \\approx 0.33``?"""
    if any(isinstance(side, Measured) and side.unit.words.startswith("modulo") for side in chain.sides):
        return False  # congruences
    for left, sign, right in zip(chain.sides, chain.signs, chain.sides[1:], strict=False):
        if sign not in ("=", "~") or not (isinstance(left, PlainExpression) and isinstance(right, PlainExpression)):
            continue
        if names(left) or names(right):
            continue
        x, y = approximate(left), approximate(right)
        if x is None or y is None:
            continue
        places = [p for p in (written_places(left), written_places(right)) if p is not None]
        rounding = 10.0 ** -min(places) if places else 0.0
        scale = max(abs(x), abs(y))
        as_percent = abs(max(abs(x), abs(y)) - 100 * min(abs(x), abs(y))) < _EXACTLY * scale
        if abs(x - y) > max(rounding, _EXACTLY, (_ROUGHLY if sign == "~" else _EXACTLY) * scale) and not as_percent:
            return True
    return False


_RULES: tuple[Rule, ...] = (
    _approximation_for_an_equation,
    _members,
    _values_of_names,
    _equation_for_a_value,
    _equations,
    _value_for_an_equation,
    _equation_for_a_bare_gold,
)


def same_inequality(comparison: Comparison, a: Relation, g: Relation) -> bool:
    """Inequalities that are no range of one variable: the same sign, and differences with a positive ratio."""
    if len(a.signs) != 1 or len(g.signs) != 1:
        return False
    if not all(isinstance(side, PlainExpression) for side in (*a.sides, *g.sides)):
        return False
    strict = [n.signs[0] in ("<", ">") for n in (a, g)]
    if strict[0] != strict[1] or a.signs[0] not in TURNED or g.signs[0] not in TURNED:
        return False
    comparison.decided_by = "inequalities compared up to a positive factor"
    ratio = _ratio(comparison, _difference(_upwards(a)), _difference(_upwards(g)))
    return ratio is not None and ratio > 0


def _upwards(inequality: Relation) -> Relation:
    """An inequality with its smaller side first."""
    if inequality.signs[0] in ("<", "<="):
        return inequality
    return Relation(inequality.sides[::-1], (TURNED[inequality.signs[0]],))


def _difference(relation: Relation) -> Node:
    left, right = relation.sides
    return Sum((left, Product((MINUS_ONE, right))))


def _ratio(comparison: Comparison, a: Node, g: Node) -> Fraction | None:
    """The rational number ``a / g``, None if the ratio is not constant."""
    try:
        first, second = form(a), form(g)
    except (ArithmeticError, RecursionError):
        return None
    if not first or not second:
        return None
    if first.keys() == second.keys():
        ratios = {first[k] / second[k] for k in first}
        if len(ratios) == 1:
            return ratios.pop()
    if names(a) != names(g):
        return None
    # Denominators or roots may hide the factor: look at the values.
    ratio = _ratio_of_values(a, g)
    return ratio if ratio is not None and comparison.equal(a, Product((Number(ratio), g))) else None


def _ratio_of_values(a: Node, g: Node) -> Fraction | None:
    """The ratio of two expressions at one point, if it is a rational number with a small denominator."""
    library = double_precision()
    point = {v: 0.7 + 0.31 * i for i, v in enumerate(sorted(names(a)))}
    try:
        quotient = Evaluator(library, point)(a) / Evaluator(library, point)(g)
    except NO_VALUE:
        return None
    ratio = Fraction(float(quotient.real)).limit_denominator(_LARGEST_DENOMINATOR)
    return ratio if ratio and abs(float(ratio) - quotient) < 1e-9 * abs(quotient) else None
