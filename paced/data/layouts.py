"""Data sets as their authors publish them: one reader a layout, told apart by the fields of a row.

A row that cannot be used (an empty question or answer) is yielded with ``fault``, so that it is counted and listed; a
row of another layout is an error. Imports no torch.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from paced.config import Columns, Data
from paced.config.extensions import function
from paced.data.fields import (
    Fields,
    characters,
    dig,
    level_of,
    messages,
    optional,
    required,
    said,
    subject_of,
    text,
)
from paced.data.golds import nothing, stated
from paced.data.rows import rows
from paced.errors import DataError
from paced.tiny.world import working
from paced.verify import SeveralAnswersError, boxed_answer

LETTERS = "ABCDEFGHIJ"
ASSISTANTS = ("assistant", "gpt", "model")  # who answers, in chat messages and in ShareGPT's turns


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
    "verl (DAPO, DeepScaleR, Eurus, guru, Skywork, CrossThink)": Layout("prompt", "reward_model.ground_truth"),
    "INTELLECT and SYNTHETIC": Layout("prompt", "verification_info.ground_truth", "gold_standard_solution"),
    "Nemotron post-training": Layout("messages", "metadata.expected_answer", "messages"),
    "OpenThoughts": Layout("conversations", None, "conversations", boxed=True),
    "OlympiadBench and DeepMath": Layout("question", "final_answer", "solution", subject="subfield"),
    "problem and answer (MATH-500, AIME, AMC, NuminaMath, OpenR1, Big-Math)": Layout(
        "problem", "answer", "solution", "level", "subject"
    ),
    "problem and expected answer (OpenMathReasoning)": Layout("problem", "expected_answer", "generated_solution"),
    "Problem and Answer (AIME)": Layout("Problem", "Answer", "Solution"),
    "problem and solution (MATH, Minerva, NuminaMath-CoT)": Layout(
        "problem", None, "solution", "level", "type", boxed=True
    ),
    "OpenThoughts' metadata": Layout("problem", None, "ground_truth_solution", boxed=True),
}  # fmt: skip
# Instructions that publishers put around a question; a recipe has its own.
WRAPPERS = (
    (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\n",
        '\n\nRemember to put your answer on its own line after "Answer:".',
    ),
    ("", " Let's think step by step and output the final answer within \\boxed{}."),
)


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


def fitting(layouts: dict[str, Layout], row: Fields, where: str) -> Layout:
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
        f"{where}: no known layout has its fields ({', '.join(map(str, row))}); known: {'; '.join(layouts)}. Any other "
        "can be read with source 'table' and data.columns"
    )


def maths(path: Path, data: Data) -> Iterator[Problem]:
    """Every published layout of competition mathematics."""
    layout: Layout | None = None
    for where, row in rows(path):
        layout = layout or fitting(MATHS, row, where)
        question = unwrapped(text(row, layout.question, where))
        if context := optional(row, "context"):  # OlympiadBench: what several questions share
            question = f"{said(context, 'context', where)}\n{question}"
        solution = _solution(row, layout, where)
        gold = text(row, layout.answer, where) if layout.answer else ""
        fault = repair = ""
        if layout.boxed:
            boxed, fault = _boxed(solution, question)
            if layout.answer and boxed and not gold:
                repair = f"field '{layout.answer}' is empty: gold {boxed!r} taken from the solution"
            gold = boxed
        if layout is MATHS["OlympiadBench and DeepMath"]:
            unit = said(optional(row, "unit"), "unit", where)
            gold = with_unit(gold.replace("$", ""), unit, optional(row, "is_multiple_answer"))
        problem = Problem(
            where,
            question,
            plain_number(stated(gold)),
            solution or None,
            level_of(optional(row, layout.level), where),
            question,
            subject_of(row, layout.subject, where),
            fault=fault,
            repair=repair,
        )
        yield checked(problem, layout.question, layout.answer or layout.solution or "answer")


def _solution(row: Fields, layout: Layout, where: str) -> str:
    """The reference solution: text, a list of several, or the assistant's last turn of a chat."""
    path, value = str(layout.solution), optional(row, layout.solution)
    if chat := messages(value, path, where):
        value = next((m["content"] for m in reversed(chat) if m["role"] in ASSISTANTS), None)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return characters("\n\n".join(value), path, where)
    return said(value, path, where)


def _boxed(solution: str, question: str) -> tuple[str, str]:
    """The gold that a solution boxes, and why there is none."""
    try:
        boxed = boxed_answer(solution, question)
    except SeveralAnswersError as error:
        return ", ".join(error.answers), f"{error}: state one in a field of its own, or remove the row"
    return boxed or "", "the solution holds no \\boxed answer" if boxed is None else ""


def gsm8k(path: Path, data: Data) -> Iterator[Problem]:
    """The original layout: ``question``, and ``answer`` whose last line is ``#### gold``."""
    for where, row in rows(path):
        question, answer = text(row, "question", where), text(row, "answer", where)
        solution, mark, gold = answer.rpartition("####")
        if answer and not (mark and gold.strip()):
            raise DataError(f"{where}: answer holds no '#### number' line: is this the original GSM8K layout?")
        gold = gold.strip().replace(",", "")
        yield checked(Problem(where, question, gold, solution.strip(), None, question), "question", "answer")


def table(path: Path, data: Data) -> Iterator[Problem]:
    """A file of the user's own; ``data.columns`` says which fields hold what."""
    columns = data.columns or Columns()
    for where, row in rows(path):
        question, gold = text(row, columns.question, where), stated(text(row, columns.answer, where))
        solution, level, name = (
            # A field that the recipe names must be there.
            required(row, path, where) if path else optional(row, usual)
            for path, usual in ((columns.solution, "solution"), (columns.level, "level"), (columns.id, "id"))
        )
        solution = said(solution, columns.solution or "solution", where) or None
        name = said(name, columns.id or "id", where)
        key = f"id:{name}" if name else question
        problem = Problem(where, question, gold, solution, level_of(level, where, bool(columns.level)), key)
        yield checked(problem, columns.question, columns.answer)


def tiny(path: Path, data: Data) -> Iterator[Problem]:
    """Prompts of the tiny world in field ``question``; their answers follow from them."""
    for where, row in rows(path):
        prompt = text(row, "question", where)
        try:
            gold, fault = working(prompt), ""
        except ValueError as error:
            gold, fault = "", str(error)
        problem = Problem(where, prompt, gold, None, level_of(optional(row, "level"), where), prompt, fault=fault)
        yield checked(problem, "question", "answer")


def checked(problem: Problem, question: str, answer: str) -> Problem:
    """The problem with its fault noted: a field is empty, or the gold stands in the place of an answer."""
    if problem.fault:
        return problem
    for path, value in ((question, problem.question), (answer, problem.gold)):
        if not value:
            return problem._replace(fault=f"field '{path}' is empty: fill it in or remove the line")
    return problem if problem.choices else problem._replace(fault=nothing(problem.gold))


Reader = Callable[[Path, Data], Iterator[Problem]]  # what the record of a source in paced/config/catalog.py names


def read(data: Data, path: Path) -> Iterator[Problem]:
    """The problems of a data file, in its order.

    Raises:
        DataError: the file cannot be read, or a row is of another layout than ``data.source`` says.
        ConfigError: the package that adds the source cannot be imported.
    """
    reader: Reader = function("data source", data.source)
    return reader(path, data)
