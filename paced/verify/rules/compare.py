"""Is an answer the gold answer? Rules by the kind of answer; docs/verifier.md states them."""

import re
from fractions import Fraction

from paced.verify.grammar.nodes import (
    Call,
    List,
    Matrix,
    Node,
    Number,
    PlainExpression,
    PlusMinus,
    Product,
    Set,
    Text,
    Variable,
    walk,
    with_children,
)
from paced.verify.grammar.notation import tidy
from paced.verify.grammar.parse import read
from paced.verify.grammar.words import squeezed
from paced.verify.rules.comparison import Comparison, Rule
from paced.verify.rules.decision import Decision, EqualityEngine, Undecided
from paced.verify.rules.forms import names
from paced.verify.rules.members import collections
from paced.verify.rules.quantities import quantities
from paced.verify.rules.ratios import times_and_ratios
from paced.verify.rules.regions import intervals, sets_of_numbers
from paced.verify.rules.relations import relations
from paced.verify.rules.renaming import (
    letters_apart,
    with_constant_of,
    with_index_of,
    with_named_values,
    without_declaration,
)
from paced.verify.rules.texts import same_texts
from paced.verify.rules.tuples import tuples

# Each kind of answer has one rule here, which may consist of several of its own; the first that applies decides.
RULES: tuple[Rule, ...] = (
    sets_of_numbers,
    intervals,
    relations,
    collections,
    times_and_ratios,
    tuples,
    quantities,
)
_COLUMN = r"(\begin{array}"  # a pmatrix is a vector
_SPELLINGS = re.compile(r"\\text\s*\{\s*OR\s*\}")  # between the spellings of a gold answer that has several


def decide(answer: str, gold: str, engine: EqualityEngine) -> Decision:
    """Compare an answer with the gold answer.

    Raises:
        Undecided: the engine did not decide, and neither did any other rule.
    """
    given, expected = squeezed(answer), squeezed(gold)
    if given and given == expected:
        return Decision(True, "the same, as written")
    if given and with_index_of(given, expected) == expected:
        return Decision(True, "the same, with another index")
    spellings = [s for s in _SPELLINGS.split(gold) if s.strip()]
    if len(spellings) > 1:
        return _decide_any(answer, spellings, engine)
    a, g = read(answer), read(gold)
    if a == g:
        return Decision(True, "the same structure")
    if isinstance(g, List) and isinstance(a, Number):
        a = _separated(answer, len(g.items)) or a
    if isinstance(a, Text) or isinstance(g, Text):
        return same_texts(a, g, answer, gold, engine)
    a, g = _column_as_binomial(a, given, g), _column_as_binomial(g, expected, a)
    a, g = letters_apart(a, g), letters_apart(g, a)
    a = with_constant_of(without_declaration(a), without_declaration(g), answer, gold)
    a, g = with_named_values(a), with_named_values(without_declaration(g))
    if a == g:
        return Decision(True, "the same structure, with other names")
    a, g = _with_both_signs(a), _with_both_signs(g)
    a, g = _with_letters_apart(a, names(g)), _with_letters_apart(g, names(a))
    comparison = Comparison(engine, RULES)
    correct = comparison.same(a, g)
    return Decision(correct, comparison.decided_by)


def _decide_any(answer: str, golds: list[str], engine: EqualityEngine) -> Decision:
    """Is an answer one of the spellings of the gold answer?"""
    undecided: Undecided | None = None
    for gold in golds:
        try:
            if (decision := decide(answer, gold, engine)).correct:
                return decision
        except Undecided as error:
            undecided = error
    if undecided:
        raise undecided
    return Decision(False, "none of the gold's spellings")


def _column_as_binomial(node: Node, text: str, other: Node) -> Node:
    """A column of two in round brackets, as which a binomial coefficient may be set, where the other is a number."""
    match node:
        case Matrix(((n,), (k,))) if isinstance(other, PlainExpression) and text.startswith(_COLUMN):
            return Call("binom", (n, k))
        case _:
            return node


def _separated(answer: str, size: int) -> Node | None:
    """``60,120`` as the list of ``size`` numbers that it is where the gold is one."""
    numbers = tidy(answer).split(",")
    return read(", ".join(numbers)) if len(numbers) == size and all(n.isdigit() for n in numbers) else None


def _with_both_signs(node: Node) -> Node:
    """Plus-minus written out as two items."""
    match node:
        case List(items, joined):
            written_out = [x for item in items for x in _both_signs(item)]
            return List(tuple(written_out), joined) if len(written_out) > 1 else written_out[0]
        case Set(items):
            return Set(tuple(x for item in items for x in _both_signs(item)))
        case _:
            both = _both_signs(node)
            return List(both) if len(both) > 1 else node


def _both_signs(node: Node) -> tuple[Node, ...]:
    """What a plus-minus stands for, the upper signs first; a node without one stands for itself."""
    if not any(isinstance(inner, PlusMinus) for inner in walk(node)):
        return (node,)

    return _with_sign(node, 1), _with_sign(node, -1)


def _with_sign(node: Node, upper: int) -> Node:
    """A node with the upper signs of plus-minus for 1, the lower ones for -1."""
    if isinstance(node, PlusMinus):
        return Number(Fraction(node.upper * upper))
    return with_children(node, lambda inner: _with_sign(inner, upper))


def _with_letters_apart(node: Node, others: set[str]) -> Node:
    """``RC`` as the product of R and C where the other side has these as letters of their own."""
    if not isinstance(node, Variable):
        return with_children(node, lambda inner: _with_letters_apart(inner, others))
    letters = node.name
    apart = len(letters) > 1 and letters.isupper() and set(letters) <= others
    return Product(tuple(Variable(c) for c in letters)) if apart else node
