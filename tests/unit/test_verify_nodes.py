"""The nodes of an answer's structure: every kind is walked, changed and rendered."""

import dataclasses
from fractions import Fraction

import pytest

from paced.verify import read, spoken
from paced.verify.grammar import nodes
from paced.verify.grammar.nodes import Number, Variable, children, walk, with_children

# One answer for each kind of node, with how it is rendered in an explanation.
KINDS = {
    "Number": ("0.25", "1/4"),
    "Variable": ("x", "x"),
    "Constant": (r"\pi", "pi"),
    "Sum": ("x+y", "(x + y)"),
    "Product": ("xy", "x * y"),
    "Power": ("x^y", "x^y"),
    "Call": (r"\sin x", "f(sin, x)"),
    "PlusMinus": (r"3 \pm x", "(3 + pm(1) * x)"),
    "Based": ("12_3", "12 in base 3"),
    "Measured": (r"x\text{ cm}", "x [cm]"),
    "List": ("x, y", "list x, y"),
    "Set": (r"\{x, y\}", "set {x, y}"),
    "Bracketed": ("[x, y)", "[x, y)"),
    "Matrix": (r"\begin{pmatrix} x & y \\ 1 & 2 \end{pmatrix}", "matrix [x, y; 1, 2]"),
    "Union": (r"(x, y) \cup (1, 2)", "(x, y) union (1, 2)"),
    "Difference": (r"(x, y) \setminus \{1\}", "minus((x, y), set {1})"),
    "Relation": ("1 < x \\le y", "rel(1, <, x, <=, y)"),
    "Colon": ("x : y", "x:y"),
    "Text": (r"\text{no such thing}", "words 'no such thing'"),
}


def test_each_kind_of_node_is_here() -> None:
    kinds = {name for name, kind in vars(nodes).items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}
    assert KINDS.keys() == kinds


@pytest.mark.parametrize(("kind", "text", "rendered"), [(kind, *case) for kind, case in KINDS.items()])
def test_every_kind_is_read_rendered_and_changed(kind: str, text: str, rendered: str) -> None:
    node = read(text)
    assert kind in {type(inner).__name__ for inner in walk(node)}
    assert spoken(node) == rendered
    assert with_children(node, lambda child: child) == node
    replaced = with_children(node, lambda child: Number(Fraction(7)))
    assert type(replaced) is type(node)
    assert children(replaced) == tuple(Number(Fraction(7)) for _ in children(node))
    variables = {inner for inner in walk(node) if isinstance(inner, Variable)}
    assert all(v.name in rendered for v in variables)


def test_two_kinds_with_the_same_parts_differ() -> None:
    assert read("x+y") != read("xy")
    assert read("x, y") != read(r"\{x, y\}")
    assert read("e") != Variable("e")
