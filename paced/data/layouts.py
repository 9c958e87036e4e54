"""Data sets as their authors publish them: one reader a layout, told apart by the fields of a row.

A row that cannot be used (an empty question or answer) is yielded with ``fault``, so that it is counted and listed; a
row of another layout is an error. Imports no torch.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from paced.config import Columns, Data
from paced.config.extensions import function
from paced.data.rows import rows
from paced.errors import DataError
from paced.tiny.world import working

LETTERS = "ABCDEFGHIJ"


class Problem(NamedTuple):
    """One problem as read; ``where`` names its line or row for messages."""

    where: str
    question: str
    gold: str  # for multiple choice the letter of the right one
    solution: str | None
    level: int | None
    key: str  # what tells problems apart: an id of the data set's own, else the question
    subject: str | None = None
    choices: tuple[str, ...] = ()
    split: str = ""  # 'dev' marks examples for few-shot prompts
    fault: str = ""  # why it cannot be used
    repair: str = ""  # what had to be put right


class Layout(NamedTuple):
    """Where a published row keeps what. Paths are dotted; ``boxed`` takes the gold from the solution's last \\boxed."""

    question: str
    answer: str | None = None
    solution: str | None = None
    level: str | None = None
    subject: str | None = None
    boxed: bool = False


# The first layout fits whose fields a row has. MATH's own normalised target is passed over for the \boxed it was made
# from: it is empty in 4 rows and reads "2,3,{}4" where the solution says "2, 3, and 4".
MATHS = {
    "MATH of verl": Layout(
        "reward_model.ground_truth.question", "reward_model.ground_truth.target", "reward_model.ground_truth.solution",
        "level", "type", boxed=True,
    ),
    "verl (DAPO, DeepScaleR)": Layout("prompt", "reward_model.ground_truth"),
    "OlympiadBench": Layout("question", "final_answer", "solution", subject="subfield"),
    "problem and answer (MATH-500, AIME, AMC)": Layout("problem", "answer", "solution", "level", "subject"),
    "problem and solution (MATH, Minerva)": Layout("problem", None, "solution", "level", "type", boxed=True),
}  # fmt: skip
CHOICES = {
    "multiple choice of the hub": Layout("question", "answer", subject="subject"),
    "multiple choice by type": Layout("question", "answer", subject="type"),
}

# Instructions that publishers put around a question; a recipe has its own.
WRAPPERS = (
    (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\n",
        '\n\nRemember to put your answer on its own line after "Answer:".',
    ),
    ("", " Let's think step by step and output the final answer within \\boxed{}."),
)


def dig(row: Any, path: str) -> Any:
    """The value at a dotted path.

    Raises:
        KeyError: a step of the path is not there.
    """
    for name in path.split("."):
        if not isinstance(row, dict) or name not in row:
            raise KeyError(path)
        row = row[name]
    return row


def characters(found: str, path: str, where: str) -> str:
    """A text that can be written as UTF-8.

    Raises:
        DataError: it cannot.
    """
    try:
        found.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: field '{path}' holds half a surrogate pair, which is no character") from None
    return found


def said(value: Any, path: str, where: str) -> str:
    """What a field holds as text, stripped; '' for null. Chat messages stand for the user's last one."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
        if not all(isinstance(m, dict) for m in value):
            raise DataError(f"{where}: field '{path}' holds chat messages, of which one has no fields")
        value = next((m.get("content") for m in reversed(value) if m.get("role") == "user"), None)
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, dict):
        raise DataError(f"{where}: field '{path}' holds fields of its own ({', '.join(value)}): name one of them")
    return characters("" if value is None else str(value).strip(), path, where)


def text(row: dict[str, Any], path: str, where: str) -> str:
    """What the field at a path, which must be there, says."""
    return said(required(row, path, where), path, where)


def subject_of(row: dict[str, Any], path: str | None, where: str) -> str | None:
    value = optional(row, path)
    return None if value is None else said(value, str(path), where)


def level_of(value: Any, where: str) -> int | None:
    """5 of 5, 5.0 or "Level 5"; None of null and "Level ?"."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    found = re.fullmatch(r"(?:level\s*)?(\d{1,9}|\?)", str(value).strip(), re.IGNORECASE)
    if isinstance(value, bool) or not found:
        raise DataError(f"{where}: level must be a whole number of at most 9 digits, got {str(value)[:60]!r}")
    return None if found[1] == "?" else int(found[1])


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


def unwrapped(question: str) -> str:
    """A question without the instruction its publisher put around it."""
    for before, after in WRAPPERS:
        if question.startswith(before) and question.endswith(after):
            return question.removeprefix(before).removesuffix(after).strip()
    return question


def plain_number(gold: str) -> str:
    """``073`` and ``27.0`` as competitions mean them: 73 and 27. Anything else stays."""
    return re.sub(r"^(-?)0+(?=\d+$)", r"\1", re.sub(r"(?<=\d)\.0$", "", gold))


def with_unit(gold: str, unit: str | None, several: bool | None) -> str:
    """A gold answer with the unit that OlympiadBench keeps apart, so that 45 minutes are also 0.75 hours.

    Its ``error`` needs no place: a decimal gold takes what rounds to it (docs/verifier.md).
    """
    named = re.fullmatch(r"([A-Za-z/]+)(\^\{?\d\}?)?", (unit or "").strip("$ "))
    if several or not unit:
        return gold
    if named:
        return rf"{gold}\text{{ {named[1]}}}{named[2] or ''}"
    return gold + {"%": r"\%", r"^{\circ}": r"^{\circ}"}.get(unit, "")


def fitting(layouts: dict[str, Layout], row: dict[str, Any], where: str) -> Layout:
    """The first layout whose fields the row has."""
    for layout in layouts.values():
        try:
            for path in (layout.question, layout.answer, layout.solution if layout.boxed else None):
                if path:
                    dig(row, path)
        except KeyError:
            continue
        return layout
    raise DataError(
        f"{where}: no known layout has its fields ({', '.join(row)}); known: {'; '.join(layouts)}. Any other can "
        "be read with source 'table' and data.columns"
    )


def optional(row: dict[str, Any], path: str | None) -> Any:
    try:
        return dig(row, path) if path else None
    except KeyError:
        return None


def maths(path: Path, data: Data) -> Iterator[Problem]:
    """Every published layout of competition mathematics."""
    layout: Layout | None = None
    for where, row in rows(path):
        layout = layout or fitting(MATHS, row, where)
        question = unwrapped(text(row, layout.question, where))
        if context := optional(row, "context"):  # OlympiadBench: what several questions share
            question = f"{characters(str(context), 'context', where)}\n{question}"
        solution = optional(row, layout.solution) or ""
        solution = "\n\n".join(map(str, solution)) if isinstance(solution, list) else str(solution).strip()
        solution = characters(solution, str(layout.solution), where)
        gold = text(row, layout.answer, where) if layout.answer else ""
        fault = repair = ""
        if layout.boxed:
            boxed = last_boxed(solution)
            fault = "the solution holds no \\boxed answer" if boxed is None else ""
            if layout.answer and boxed and not gold:
                repair = f"field '{layout.answer}' is empty: gold {boxed!r} taken from the solution"
            gold = boxed or ""
        if layout is MATHS["OlympiadBench"]:
            unit = said(optional(row, "unit"), "unit", where)
            gold = with_unit(gold.replace("$", ""), unit, optional(row, "is_multiple_answer"))
        problem = Problem(
            where,
            question,
            plain_number(gold),
            solution or None,
            level_of(optional(row, layout.level), where),
            question,
            subject_of(row, layout.subject, where),
            fault=fault,
            repair=repair,
        )
        yield _checked(problem, layout.question, layout.answer or layout.solution or "answer")


def gsm8k(path: Path, data: Data) -> Iterator[Problem]:
    """The original layout: ``question``, and ``answer`` whose last line is ``#### gold``."""
    for where, row in rows(path):
        question, answer = text(row, "question", where), text(row, "answer", where)
        solution, mark, gold = answer.rpartition("####")
        if answer and not (mark and gold.strip()):
            raise DataError(f"{where}: answer holds no '#### number' line: is this the original GSM8K layout?")
        gold = gold.strip().replace(",", "")
        yield _checked(Problem(where, question, gold, solution.strip(), None, question), "question", "answer")


def table(path: Path, data: Data) -> Iterator[Problem]:
    """A file of the user's own; ``data.columns`` says which fields hold what."""
    columns = data.columns or Columns()
    for where, row in rows(path):
        question, gold = text(row, columns.question, where), text(row, columns.answer, where)
        solution, level, name = (
            # A field that the recipe names must be there.
            required(row, path, where) if path else optional(row, usual)
            for path, usual in ((columns.solution, "solution"), (columns.level, "level"), (columns.id, "id"))
        )
        solution = characters(str(solution), columns.solution or "solution", where) if solution else None
        key = question if name is None else characters(f"id:{name}", columns.id or "id", where)
        problem = Problem(where, question, gold, solution, level_of(level, where), key)
        yield _checked(problem, columns.question, columns.answer)


def tiny(path: Path, data: Data) -> Iterator[Problem]:
    """Prompts of the tiny world in field ``question``; their answers follow from them."""
    for where, row in rows(path):
        prompt = text(row, "question", where)
        try:
            gold, fault = working(prompt), ""
        except ValueError as error:
            gold, fault = "", str(error)
        problem = Problem(where, prompt, gold, None, level_of(optional(row, "level"), where), prompt, fault=fault)
        yield _checked(problem, "question", "answer")


def required(row: dict[str, Any], path: str, where: str) -> Any:
    try:
        return dig(row, path)
    except KeyError:
        raise DataError(f"{where}: field '{path}' is missing (it has: {', '.join(row)})") from None


def multiple_choice(path: Path, data: Data) -> Iterator[Problem]:
    """MMLU: the original CSV files, the hub's layout, and the STEM part of the Qwen evaluation."""
    layout: Layout | None = None
    for where, row in rows(path):
        if layout is None:
            layout = CHOICES["multiple choice by type"]
            if "subject" in row:
                layout = CHOICES["multiple choice of the hub"]
        subject = subject_of(row, layout.subject, where)
        if data.subjects and subject not in data.subjects:
            continue
        question = text(row, layout.question, where)
        choices = required(row, "choices", where)
        answer = text(row, layout.answer or "answer", where)
        if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
            raise DataError(f"{where}: field 'choices' must be a list of 2 to {len(LETTERS)} texts")
        choices = tuple(characters(str(choice), "choices", where) for choice in choices)
        if answer.isdecimal() and len(answer) < 10 and int(answer) < len(choices):
            answer = LETTERS[int(answer)]
        fault = "" if answer and answer in LETTERS[: len(choices)] else f"answer {answer!r} is none of the choices"
        key = "\n".join([subject or "", question, *choices])
        split = str(row.get("split") or "")
        problem = Problem(where, question, answer, None, None, key, subject, choices, split, fault)
        yield _checked(problem, layout.question, "answer")


def _checked(problem: Problem, question: str, answer: str) -> Problem:
    """The problem with its fault noted, if a field is empty."""
    empty = question if not problem.question else answer if not problem.gold and not problem.fault else None
    if empty:
        return problem._replace(fault=f"field '{empty}' is empty: fill it in or remove the line")
    return problem


Reader = Callable[[Path, Data], Iterator[Problem]]  # what the record of a source in paced/config/catalog.py names


def read(data: Data, path: Path) -> Iterator[Problem]:
    """The problems of a data file, in its order.

    Raises:
        DataError: the file cannot be read, or a row is of another layout than ``data.source`` says.
        ConfigError: the package that adds the source cannot be imported.
    """
    reader: Reader = function("data source", data.source)
    return reader(path, data)
