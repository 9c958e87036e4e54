"""What each model reads: the problem, and for a privileged teacher the reference solution too (method section 5)."""

import json
from typing import Any

from paced.errors import DataError

PRIVILEGED = """{content}

For your eyes only, here is a reference solution:

{solution}

Now solve the problem in your own words, as if you had not seen the reference solution."""


def teacher_messages(problem: dict[str, Any], privileged: bool) -> str:
    """Chat messages, as JSON, that the teacher reads for a row of the problems table.

    Raises:
        DataError: the teacher is privileged and the problem has no reference solution.
    """
    if not privileged:
        return problem["prompt"]
    if not problem["solution"]:
        raise DataError(
            f"teacher.privileged needs a reference solution, and problem {problem['problem_id']} "
            f"({problem['question'][:60]!r}) has none: use a data set with solutions"
        )
    messages = json.loads(problem["prompt"])
    messages[-1]["content"] = PRIVILEGED.format(content=messages[-1]["content"], solution=problem["solution"])
    return json.dumps(messages, ensure_ascii=False)
