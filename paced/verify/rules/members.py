"""Lists and sets: the same members, in any order."""

import itertools
from collections import Counter

from paced.verify.grammar.nodes import ELLIPSIS, MINUS_ONE, Bracketed, List, Measured, Node, Product, Set, Sum
from paced.verify.rules.comparison import Comparison, Rule
from paced.verify.rules.decision import Undecided
from paced.verify.rules.relations import last_side, name_and_value, named_by_letters, values_by_name, values_in_order

_MOST_ITEMS = 600  # of a list; longer ones are no answers
_MOST_COMPARED = 60  # members that are not written alike; every one is compared with every other
_MOST_REPETITIONS = 3
_FEWEST_BEFORE_AN_ELLIPSIS = 2


def collections(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """A list or a set against anything."""
    if isinstance(a, List | Set) or isinstance(g, List | Set):
        return comparison.first_of(_RULES, a, g)
    return None


def _values_of_the_same_names(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """``b = 2, a = 1`` against ``a = 1, b = 2``."""
    if not (isinstance(a, List) and isinstance(g, List)):
        return None
    given, expected = values_by_name(a.items), values_by_name(g.items)
    if len(expected) < 2 or not given:
        return None
    if given.keys() == expected.keys():
        return all(comparison.same(given[name], expected[name]) for name in expected)
    return False if len(given) > 1 else None


def _list_for_a_tuple(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """A pair without its brackets, or as ``x = 1, y = 2``."""
    if not (isinstance(a, List) and isinstance(g, Bracketed)):
        return None
    if any(isinstance(item, Bracketed | List | Set) for item in a.items) or g.brackets != "()":
        return False
    return comparison.same_in_order(values_in_order(a.items), [last_side(item) for item in g.items])


def _tuple_for_named_values(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """``(1, 2)`` where the gold is ``x = 1, y = 2``."""
    if not (isinstance(a, Bracketed) and isinstance(g, List) and len(values_by_name(g.items)) == len(g.items) > 1):
        return None
    return a.brackets == "()" and comparison.same_in_order(
        [last_side(item) for item in a.items], values_in_order(g.items)
    )


def _interval_or_tuple_for_a_set(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """Half-open brackets are no list, and a set is no tuple."""
    if isinstance(a, Bracketed) and a.brackets not in ("()", "[]"):
        return False
    if isinstance(a, Set | Bracketed) and isinstance(g, Set | Bracketed) and type(a) is not type(g):
        return False
    return None


def _single_members(comparison: Comparison, a: Node, g: Node) -> bool | None:
    given, expected = _members(a), _members(g)
    return comparison.same(given[0], expected[0]) if len(given) == len(expected) == 1 else None


def _repeated_value(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """An answer given two or three times over."""
    given, expected = _members(a), _members(g)
    if not isinstance(a, List) or len(expected) != 1 or not 1 < len(given) <= _MOST_REPETITIONS:
        return None
    if len({item.unit.words for item in given if isinstance(item, Measured)}) > 1:  # 12 girls and 12 boys
        return None
    comparison.decided_by = "a value that is given several times"
    return all(comparison.same(item, expected[0]) for item in given)


def _values_in_the_order_of_names(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """``b = 0, c = -3`` is not ``-3, 0``."""
    if not (isinstance(a, List) and isinstance(g, List)) or not named_by_letters(a.items) or values_by_name(g.items):
        return None
    comparison.decided_by = "values in the order of their names"
    expected = _members(g)
    return comparison.same_in_order(values_in_order(a.items), expected) or comparison.same_in_order(
        _members(a), expected
    )


def _members_in_any_order(comparison: Comparison, a: Node, g: Node) -> bool | None:
    given, expected = _members(a), _members(g)
    if isinstance(a, Set) or isinstance(g, Set):
        given, expected = _distinct(comparison, given), _distinct(comparison, expected)
    comparison.decided_by = "members compared in any order"
    return len(given) == len(expected) <= _MOST_ITEMS and _matched(comparison, given, expected)


def _with_an_ellipsis(comparison: Comparison, a: Node, g: Node) -> bool | None:
    """``1, 2, 3, ..., n`` is ``1, 2, ..., n``: one writes out more of the same progression."""
    if ELLIPSIS not in _members(a) or ELLIPSIS not in _members(g):
        return None
    comparison.decided_by = "members before and behind an ellipsis"
    (first, last), (short, end) = (_around_the_ellipsis(_members(x)) for x in (a, g))
    if len(first) < len(short):
        first, short = short, first
    if len(last) != len(end) or len(short) < min(len(first), _FEWEST_BEFORE_AN_ELLIPSIS):
        return False
    grows = all(
        comparison.equal(_step(x, y), _step(first[0], first[1])) for x, y in itertools.pairwise(first[len(short) - 1 :])
    )
    return grows and comparison.same_in_order([*first[: len(short)], *last], [*short, *end])


def _around_the_ellipsis(items: list[Node]) -> tuple[list[Node], list[Node]]:
    at = items.index(ELLIPSIS)
    return items[:at], items[at + 1 :]


def _step(x: Node, y: Node) -> Node:
    return Sum((y, Product((MINUS_ONE, x))))


_RULES: tuple[Rule, ...] = (
    _with_an_ellipsis,
    _values_of_the_same_names,
    _list_for_a_tuple,
    _tuple_for_named_values,
    _interval_or_tuple_for_a_set,
    _single_members,
    _repeated_value,
    _values_in_the_order_of_names,
    _members_in_any_order,
)


def _members(node: Node) -> list[Node]:
    """The members of a collection, of ``name = value`` the value; anything else is its own only member."""
    match node:
        case Bracketed(items=items):
            return list(items)
        case List(items) | Set(items):
            return [last_side(item) if name_and_value(item) else item for item in items]
        case _:
            return [last_side(node)]


def _distinct(comparison: Comparison, items: list[Node]) -> list[Node]:
    """The items without those that are the same as one before them."""
    kept: list[Node] = []
    for item in items[:_MOST_ITEMS]:
        if not any(comparison.same(item, other) for other in kept):
            kept.append(item)
    return kept


def _matched(comparison: Comparison, given: list[Node], expected: list[Node]) -> bool:
    """Can each expected member be given one of the answer's that is the same? Those of one structure first."""
    left, structures = list[Node](), Counter(expected)
    for item in given:
        if structures[item]:
            structures[item] -= 1
        else:
            left.append(item)
    expected = list(structures.elements())
    if len(left) > _MOST_COMPARED:
        return False
    undecided: Undecided | None = None
    for item in expected:
        for other in left:
            try:
                if comparison.same(other, item):
                    left.remove(other)
                    break
            except Undecided as error:
                undecided = error
        else:
            if undecided:
                raise undecided
            return False
    return True
