"""The answer that a reference solution states: the gold answer of data sets that keep it nowhere else."""

import re

from paced.verify.extraction.golds import plain_gold
from paced.verify.extraction.statements import boxes
from paced.verify.extraction.together import same_meaning, side_by_side
from paced.verify.grammar.nodes import Number
from paced.verify.grammar.parse import read
from paced.verify.rules.decision import Undecided
from paced.verify.rules.equality import BoundedEngine
from paced.verify.rules.judge import Case, judge

_MOST_BOXES = 30  # of one solution that are compared with each other, from the last
# The question wants every one of several answers.
_ASKS_FOR_SEVERAL = re.compile(
    r"\bseparated by\b|\b(?:find|list|enter|determine|give|compute)\b[^.]{0,80}\ball\b|\ball possible\b", re.IGNORECASE
)


class SeveralAnswersError(ValueError):
    """A solution states several ``answers`` to a question that asks for one: any would do, so none is the gold."""

    def __init__(self, answers: list[str]):
        super().__init__(f"the solution boxes {' and '.join(answers)}, and the question asks for one answer")
        self.answers = answers


def boxed_answer(solution: str, question: str) -> str | None:
    """What a solution's boxes say: the last one, or all that stand side by side; None if there is none.

    Raises:
        SeveralAnswersError: the question asks for one, and they differ.
    """
    last = last_boxed(solution)
    found = [box for box in boxes(solution) if box.content.strip()][-_MOST_BOXES:]
    if not last or len(found) < 2:
        return last
    several = _ASKS_FOR_SEVERAL.search(question) is not None
    stated = [box.content.strip() for box in found] if several else side_by_side(solution, found)
    answers = list({same_meaning(answer): answer for answer in stated}.values())
    answers = [a for i, a in enumerate(answers) if not any(same_answer(a, later) for later in answers[i + 1 :])]
    if len(answers) < 2:
        return last
    if not several:
        raise SeveralAnswersError(answers)
    return ", ".join(answers)


def last_boxed(solution: str) -> str | None:
    """What stands in the last ``\\boxed{...}`` or ``\\boxed x`` of a text, braces balanced; None if there is none."""
    start = solution.rfind("\\boxed")
    if start < 0:
        return None
    rest = solution[start + len("\\boxed") :].lstrip()
    if not rest.startswith("{"):
        return rest.split("$")[0].split()[0] if rest.split("$")[0].split() else ""
    depth = 0
    for end, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:end].strip()
    return None


def own_number(solution: str, question: str) -> str | None:
    """The plain number that a solution boxes, or ends in behind ``####``; None if it marks no answer or another one."""
    try:
        own = boxed_answer(solution, question) or (plain_gold(solution) if "####" in solution else None)
    except SeveralAnswersError:
        return None
    return own if own and isinstance(read(own), Number) else None


def same_answer(one: str, other: str) -> bool:
    """Whether two answers are surely the same, as far as that is seen without a worker process."""
    try:
        return judge(Case((one,), other, {}), BoundedEngine()).correct
    except (Undecided, RecursionError):
        return False
