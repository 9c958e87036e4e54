"""What a comparison asks and what it answers.

Rules are written once, over an :class:`Engine` that says whether two expressions are equal. In the parent it answers
from normal forms or raises :class:`Undecided`; in a worker it answers at many digits (``exact.py``).
"""

from typing import NamedTuple, Protocol

from paced.verify.algebra import Undecided, equal
from paced.verify.nodes import Node


class Decision(NamedTuple):
    """``rule`` says in words what decided."""

    correct: bool
    rule: str


class Engine(Protocol):
    """What the rules ask; both may raise Undecided."""

    def equal(self, a: Node, b: Node) -> bool:
        """Are two expressions equal?"""
        ...

    def outside(self, answer: str, gold: str) -> bool:
        """Are two answers equal that the grammar does not cover?"""
        ...


class Cheap:
    """Decides from normal forms and double precision, in bounded time."""

    def equal(self, a: Node, b: Node) -> bool:
        return equal(a, b)

    def outside(self, answer: str, gold: str) -> bool:
        raise Undecided("outside the grammar")
