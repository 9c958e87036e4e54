"""Names and sides of equations: ``x = 5``, ``f(x) = 2x``, ``a = 2, b = 3``."""

from fractions import Fraction

from paced.verify.algebra import names
from paced.verify.nodes import WORDY, Node
from paced.verify.units import Unit


def last_side(node: Node, for_gold: bool = False) -> Node:
    """What a chain of equations comes to: its last side; before an approximation, with ``for_gold``."""
    if node[0] != "rel":
        return node
    sides, signs = node[1::2], node[2::2]
    if for_gold and "~" in signs:
        return sides[signs.index("~")]
    return sides[-1]


def exact_part(node: Node) -> Node | None:
    """What stands before the approximation; None if that is a name alone."""
    at = node.index("~")
    if at == 2:
        return node[1] if node[1][0] not in ("v", "f") else None
    return node[:at]


def name_and_value(node: Node) -> tuple[Node, Node] | None:
    """Name and value of ``name = value``, None for any other relation."""
    if node[0] != "rel" or set(node[2::2]) - {"=", "in"}:
        return None
    name, value = node[1], node[-1]
    if name[0] == "v" or (name[0] == "f" and name[1] not in ("abs", "log", "sin", "cos", "tan", "!", "binom")):
        return (name, value) if name[0] == "f" or name[1] not in names(value) else None
    if len(node) == 4 and value[0] == "v" and value[1] not in names(name) and not names(name):
        return (value, name)  # 5 = x
    return None


def argument_of(name: Node) -> str | None:
    """The argument of ``f(x)`` if it is one variable."""
    return name[2][1] if name[0] == "f" and len(name) == 3 and name[2][0] == "v" else None


def names_agree(a: Node, g: Node, whole_a: Node, whole_g: Node) -> bool:
    if a == g:
        return True
    if a[0] == g[0] == "f":
        return a[1] == g[1] and argument_of(a) is not None and argument_of(g) is not None
    if any(n[0] == "v" and n[1].startswith(WORDY) for n in (a, g)):
        return True
    return {a[0], g[0]} == {"v", "f"} and not ("in" in whole_a or "in" in whole_g)  # y = 2x against f(x) = 2x


def with_argument_of(node: Node, a: Node, g: Node) -> Node:
    """The answer's argument renamed to the gold's: ``f(n) = n`` is ``f(x) = x``."""
    old, new = argument_of(a), argument_of(g)
    if old is None or new is None or old == new:
        return node

    def walk(n: Node) -> Node:
        if n[:1] == ("v",):
            return ("v", new) if n[1] == old else n
        return tuple(walk(x) if isinstance(x, tuple) and not isinstance(x, Unit) else x for x in n)

    return walk(node)


def named_values(node: Node) -> dict[Node, Node]:
    """Values by name of a list in which every item is ``name = value`` with a name of its own."""
    pairs = [name_and_value(x) for x in node[1]]
    found = {p[0]: p[1] for p in pairs if p}
    return found if len(found) == len(pairs) else {}


def named_by_letters(node: Node) -> bool:
    """Is each item of a list the value of a letter of its own?"""
    named = named_values(node)
    return len(named) == len(node[1]) > 1 and all(n[0] == "v" and len(n[1]) == 1 for n in named)


def values_by_name(node: Node) -> list[Node]:
    """The values of a list, in the alphabet's order of their names if each has one letter for a name."""
    if named_by_letters(node):
        named = named_values(node)
        return [named[n] for n in sorted(named)]
    return [last_side(x) for x in node[1]]


def members_of(node: Node) -> list[Node] | None:
    if node[0] == "seq":
        return list(node[2])
    if node[0] in ("list", "set"):
        return [last_side(x) if name_and_value(x) else x for x in node[1]]
    return [last_side(node)]


def difference_of(relation: Node) -> Node:
    return ("+", (relation[1], ("*", (("n", Fraction(-1), ""), relation[3]))))


def sampled_ratio(a: Node, g: Node) -> Fraction | None:
    import mpmath

    from paced.verify.algebra import Evaluator

    point = {v: 0.7 + 0.31 * i for i, v in enumerate(sorted(names(a)))}
    try:
        quotient = Evaluator(mpmath.fp, point)(a) / Evaluator(mpmath.fp, point)(g)
    except (ArithmeticError, ValueError, TypeError, KeyError, RecursionError):
        return None
    ratio = Fraction(float(quotient.real)).limit_denominator(10_000)
    return ratio if ratio and abs(float(ratio) - quotient) < 1e-9 * abs(quotient) else None
