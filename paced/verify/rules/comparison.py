"""What rules of comparison share: the engine, the comparison of parts, and the words for what decided."""

from collections.abc import Callable, Sequence

from paced.verify.grammar.nodes import Node
from paced.verify.rules.decision import EqualityEngine, Undecided

NOTHING_SPECIAL = "structures compared part by part"


class Comparison:
    """The comparison of one answer with one gold answer. All methods raise Undecided if the engine does.

    ``rules`` are tried in order on any two parts, the answer's first. ``decided_by`` is set by the rules as they go: it
    names the last one that had something to compare.
    """

    def __init__(self, engine: EqualityEngine, rules: "Sequence[Rule]"):
        self.equal = engine.equal
        self.decided_by = NOTHING_SPECIAL
        self._rules = rules

    def same(self, a: Node, g: Node) -> bool:
        """Is a part of the answer the same as a part of the gold answer?"""
        return bool(self.first_of(self._rules, a, g))

    def first_of(self, rules: "Sequence[Rule]", a: Node, g: Node) -> bool | None:
        """What the first rule says that applies, None if none does."""
        for rule in rules:
            verdict = rule(self, a, g)
            if verdict is not None:
                return verdict
        return None

    def same_in_order(self, answers: Sequence[Node], golds: Sequence[Node]) -> bool:
        """Are two rows of parts the same, one by one? A part that differs decides, even behind an undecided one."""
        if len(answers) != len(golds):
            return False
        undecided: Undecided | None = None
        for a, g in zip(answers, golds, strict=True):
            try:
                if not self.same(a, g):
                    return False
            except Undecided as error:
                undecided = error
        if undecided:
            raise undecided
        return True


Rule = Callable[[Comparison, Node, Node], bool | None]
"""Compares a part of the answer with one of the gold answer; None if the rule does not apply to them."""
