"""One answer judged: by the same steps in the calling process and in a worker, with another engine."""

from typing import NamedTuple

from paced.verify.grammar.notation import LONGEST
from paced.verify.rules.choice import decide_choice
from paced.verify.rules.decision import Decision, EqualityEngine, Undecided


class Case(NamedTuple):
    """Answers side by side (one, as a rule), the gold answer, the choices of the question."""

    parts: tuple[str, ...]
    gold: str
    choices: dict[str, str]


def judge(case: Case, engine: EqualityEngine) -> Decision:
    """Correct if every part is the gold answer, or if the parts together are the gold's list.

    Raises:
        Undecided: the engine did not decide.
    """
    if any(len(p) > LONGEST for p in case.parts):
        if case.parts == (case.gold,):
            return Decision(True, "the same, as written")
        return Decision(False, f"an answer of more than {LONGEST} characters")
    decisions: list[Decision] = []
    undecided: Undecided | None = None
    for part in case.parts:
        try:
            decisions.append(decide_choice(part, case.gold, case.choices, engine))
        except Undecided as error:
            undecided = error
            decisions.append(Decision(True, ""))
    if all(d.correct for d in decisions):
        if undecided:
            raise undecided
        return decisions[-1]
    if len(case.parts) == 1:
        return decisions[0]
    together = decide_choice(", ".join(case.parts), case.gold, {}, engine)
    return together if together.correct else Decision(False, "several different answers side by side")
