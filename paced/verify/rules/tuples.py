"""Tuples, vectors and matrices: the same entries in the same order."""

from fractions import Fraction

from paced.verify.grammar.nodes import (
    Bracketed,
    Call,
    Constant,
    Expression,
    List,
    Matrix,
    Node,
    Number,
    Variable,
    children,
    with_children,
)
from paced.verify.rules.comparison import Comparison, Rule
from paced.verify.rules.forms import names

_UNIT_VECTORS: tuple[Node, ...] = (Constant("i"), Variable("j"), Variable("k"))
_WITH_HATS: dict[Node, Node] = {
    Variable(mark + letter): unit
    for letter, unit in zip("ijk", _UNIT_VECTORS, strict=True)
    for mark in ("hat", "vec", "widehat")
}


def tuples(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Tuples, vectors, intervals by their ends, matrices by their entries; a point may have its name before it."""
    if not (isinstance(a, Bracketed | Matrix) or isinstance(g, Bracketed | Matrix)):
        return None
    comparison.decided_by = "entries compared in order"
    return bool(comparison.first_of(_RULES, _without_name(a), _without_name(g)))


def _matrices(comparison: Comparison, a: Node, g: Node) -> bool | None:
    if not (isinstance(a, Matrix) and isinstance(g, Matrix)):
        return None
    return [len(r) for r in a.rows] == [len(r) for r in g.rows] and comparison.same_in_order(a.entries, g.entries)


def _sum_of_unit_vectors(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """``2i - 3j`` against a vector in brackets."""
    if isinstance(g, Expression) and isinstance(a, Bracketed | Matrix):
        vector = _components(g, 3 if "k" in names(g) else _size(a))
        return comparison.same(a, vector) if vector else None
    if type(a) is type(g) or not isinstance(a, Expression):
        return None
    vector = _components(a, 3 if "k" in names(a) else _size(g))
    return comparison.same(vector, g) if vector else None


def _matrix_and_tuple(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """A matrix of one row or one column against the tuple of its entries."""
    match a, g:
        case (Matrix() as matrix, Bracketed()) | (Bracketed(), Matrix() as matrix) if _is_vector(matrix):
            return comparison.same_in_order(children(a), children(g))
        case _:
            return None


def _tuples(comparison: Comparison, a: Node, g: Node) -> bool | None:
    if not (isinstance(a, Bracketed) and isinstance(g, Bracketed)):
        return None
    if len(g.items) == 2 and a.brackets != g.brackets:  # intervals
        return False
    return comparison.same_in_order(a.items, g.items)


_RULES: tuple[Rule, ...] = (_matrices, _sum_of_unit_vectors, _matrix_and_tuple, _tuples)


def _is_vector(matrix: Matrix) -> bool:
    return min(len(matrix.rows), len(matrix.rows[0])) == 1 and len(matrix.entries) > 1


def _size(node: Node) -> int:
    return len(node.rows) if isinstance(node, Matrix) else len(children(node))


def _without_name(node: Node) -> Node:
    """``P(3, 4)`` as the pair."""
    match node:
        case Call(name, (List(items),)) if len(name) == 1 and name.isupper():
            return Bracketed("(", items, ")")
        case _:
            return node


def _components(node: Node, size: int) -> Node | None:
    """The vector with ``size`` entries that ``2i - 3j + k`` writes with unit vectors, None for anything else."""
    used = set[Node]()

    def along(direction: Node) -> Node:
        def at(inner: Node) -> Node:
            inner = _WITH_HATS.get(inner, inner)
            if inner not in _UNIT_VECTORS:
                return with_children(inner, at)
            used.add(inner)
            return Number(Fraction(int(inner == direction)))

        return at(node)

    directions = _UNIT_VECTORS[:size]
    entries = tuple(along(direction) for direction in directions)
    return Bracketed("(", entries, ")") if len(used) > 1 and used <= set(directions) else None
