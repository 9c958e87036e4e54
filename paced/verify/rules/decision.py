"""What a comparison asks of an engine, and what it answers.

The rules are written once, over an :class:`EqualityEngine` that says whether two expressions are equal. In the calling
process it is bounded in time, and says so where it cannot decide (``equality.py``); in a worker it may take longer.
"""

from typing import NamedTuple, Protocol

from paced.verify.grammar.nodes import Node


class Undecided(Exception):
    """The engine cannot tell whether two expressions are equal; its message says why."""


class Decision(NamedTuple):
    """``rule`` says in words what decided."""

    correct: bool
    rule: str


class EqualityEngine(Protocol):
    """What the rules ask; both methods may raise Undecided."""

    def equal(self, a: Node, b: Node) -> bool:
        """Are two expressions equal?"""
        ...

    def outside(self, answer: str, gold: str) -> bool:
        """Are two answers equal that the grammar does not cover?"""
        ...
