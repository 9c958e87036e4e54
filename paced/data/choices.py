"""Multiple choice as its publishers lay it out: told apart by the fields that hold the choices and the right one.

Imports no torch.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paced.config import Data
from paced.data.fields import Fields, characters, dig, optional, required, said, subject_of, text
from paced.data.layouts import LETTERS, Problem, checked
from paced.data.rows import rows
from paced.errors import DataError
from paced.storage.identity import digest


class Choices(NamedTuple):
    """Where a published row keeps what; paths are dotted.

    ``choices`` is a list of texts, a list of labels with texts or fields of both (ARC, CommonsenseQA), or the names of
    the fields that hold one each. ``answer`` holds the right one's letter, label, number from 0 or text; if it is None
    the right one is the first of ``choices``, and they are put in an order that their texts decide.
    """

    question: str
    choices: str | tuple[str, ...]
    answer: str | None
    subject: str | None = None


# The first layout fits whose fields a row has.
LAYOUTS = {
    "the hub's MMLU": Choices("question", "choices", "answer", "subject"),
    "the Qwen evaluation's STEM part": Choices("question", "choices", "answer", "type"),
    "MMLU-Pro": Choices("question", "options", "answer", "category"),
    "SuperGPQA": Choices("question", "options", "answer_letter", "discipline"),
    "ARC and CommonsenseQA of the hub": Choices("question", "choices", "answerKey"),
    "ARC and CommonsenseQA as published": Choices("question.stem", "question.choices", "answerKey"),
    "GPQA": Choices(
        "Question",
        ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        None,
        "High-level domain",
    ),
    "a column a choice": Choices("question", tuple("ABCD"), "answer", "subject"),
    "MMMLU": Choices("Question", tuple("ABCD"), "Answer", "Subject"),
    "a column a choice (input, target)": Choices("input", tuple("ABCD"), "target", "subject"),
}


def fitting(row: Fields, where: str) -> Choices:
    """The layout of a row: of those whose fields it has the first that also has its subject, else the first.

    Raises:
        DataError: there is none.
    """
    found = [layout for layout in LAYOUTS.values() if _has(row, layout)]
    if not found:
        raise DataError(
            f"{where}: no known layout of multiple choice has its fields ({', '.join(map(str, row))}); known: "
            f"{'; '.join(LAYOUTS)}"
        )
    return next((layout for layout in found if layout.subject and optional(row, layout.subject) is not None), found[0])


def _has(row: Fields, layout: Choices) -> bool:
    listed = layout.choices if isinstance(layout.choices, tuple) else (layout.choices,)
    try:
        for path in (layout.question, *listed, *filter(None, [layout.answer])):
            dig(row, path)
    except KeyError:
        return False
    return True


def multiple_choice(path: Path, data: Data) -> Iterator[Problem]:
    """Problems whose gold is the letter of the right choice, judged by likelihood."""
    layout: Choices | None = None
    for where, row in rows(path):
        layout = layout or fitting(row, where)
        subject = subject_of(row, layout.subject, where)
        if data.subjects and subject not in data.subjects:
            continue
        question = text(row, layout.question, where)
        choices, labels = _offered(row, layout, where)
        gold = _gold(row, layout, choices, labels, where)
        if layout.answer is None:
            right = choices[0]
            choices = tuple(sorted(choices, key=lambda choice: digest([question, choice])))
            gold = LETTERS[choices.index(right)]
        fault = "" if gold in LETTERS[: len(choices)] and gold else f"answer {gold!r} is none of the choices"
        if len(set(choices)) < len(choices) and layout.answer is None:
            fault = "two choices are the same"
        key = "\n".join([subject or "", question, *choices])
        split = str(row.get("split") or "")
        problem = Problem(where, question, gold, None, None, key, subject, choices, split, fault)
        yield checked(problem, layout.question, layout.answer or "Correct Answer")


def _offered(row: Fields, layout: Choices, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices' texts, and the labels that the file gives them, if it does."""
    if isinstance(layout.choices, tuple):
        return tuple(text(row, path, where) for path in layout.choices), layout.choices
    name = layout.choices
    offered, labels = required(row, name, where), ()
    if isinstance(offered, list) and offered and all(isinstance(c, dict) for c in offered):
        offered = {key: [choice.get(key) for choice in offered] for key in ("text", "label")}
    if isinstance(offered, dict) and {"text", "label"} <= offered.keys():
        labels = tuple(str(label) for label in offered["label"] or ())
        offered = offered["text"]
    if not isinstance(offered, list) or not 2 <= len(offered) <= len(LETTERS):
        raise DataError(f"{where}: field '{name}' must be a list of 2 to {len(LETTERS)} texts")
    texts = tuple(c if isinstance(c, str) else said(c, name, where) for c in offered)
    return tuple(characters(c, name, where) for c in texts), labels


def _gold(row: Fields, layout: Choices, choices: tuple[str, ...], labels: tuple[str, ...], where: str) -> str:
    """The letter of the right choice, or what the file says instead."""
    if layout.answer is None:
        return LETTERS[0]
    answer = text(row, layout.answer, where)
    if labels and answer in labels:
        return LETTERS[labels.index(answer)]
    if answer.isdecimal() and len(answer) < 10 and int(answer) < len(choices) and not labels:
        return LETTERS[int(answer)]
    if answer not in LETTERS[: len(choices)] and choices.count(answer) == 1:
        return LETTERS[choices.index(answer)]
    return answer
