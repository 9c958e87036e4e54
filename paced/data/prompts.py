"""What each model reads: the problem, and for a privileged teacher the reference solution too (method section 5)."""

import json
from collections.abc import Sequence
from typing import Literal

from paced.data.layouts import LETTERS, Problem
from paced.errors import DataError
from paced.storage.tables import ProblemRow

PRIVILEGED = """{content}

For your eyes only, here is a reference solution:

{solution}

Now solve the problem in your own words, as if you had not seen the reference solution."""


def messages_of(problem: ProblemRow, privileged: bool) -> str:
    """Chat messages, as JSON, that a model reads for a row of the problems table.

    Raises:
        DataError: the model is privileged and the problem has no reference solution.
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


def choice_prompt(
    problem: Problem, examples: Sequence[Problem], score: Literal["letters", "texts"], chat: bool
) -> str | list[dict[str, str]]:
    """A multiple-choice question behind solved examples: text that ends in ``Answer:``, or chat messages.

    With ``letters`` it is, character for character, the prompt of the task ``mmlu`` of EleutherAI's
    lm-evaluation-harness, with ``texts`` that of ``mmlu_continuation``; in a chat the first line is the system's.
    """
    kind = "multiple choice questions" if score == "letters" else "questions"
    about = f" about {problem.subject.replace('_', ' ')}" if problem.subject else ""
    task = f"The following are {kind} (with answers){about}.\n\n"
    solved = [_asked(p, score) + _continuation(p, p.gold, score) for p in examples]
    body = "\n\n".join([*solved, _asked(problem, score)])
    return [{"role": "system", "content": task}, {"role": "user", "content": body}] if chat else task + body


def continuations(problem: Problem, score: Literal["letters", "texts"], chat: bool) -> list[str]:
    """What is compared by log-likelihood behind the prompt; an assistant's turn begins without a space."""
    found = [_continuation(problem, letter, score) for letter in LETTERS[: len(problem.choices)]]
    return [f.removeprefix(" ") for f in found] if chat else found


def _asked(problem: Problem, score: str) -> str:
    if score == "texts":
        return f"Question: {problem.question}\nAnswer:"
    listed = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, problem.choices, strict=False))
    return f"{problem.question}{listed}\nAnswer:"


def _continuation(problem: Problem, letter: str, score: str) -> str:
    return " " + (letter if score == "letters" else problem.choices[LETTERS.index(letter)])
