"""Find the final answer in a response: what the response itself says is its answer.

In this order: the last ``\\boxed{}``; ``<answer>``; the last ``####`` line, "answer is ..." or "Answer: ..." statement
or "# Answer" heading; and, where nothing says "answer", what the last sentence of a finished response comes to. Every
pass over the text is linear, over at most the last ``turns.WINDOW`` characters.
"""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from paced.verify.extraction.choices import label, listed
from paced.verify.extraction.endings import end_of_response, last_block, last_value, looks_finished, result_of
from paced.verify.extraction.sentences import answer_in
from paced.verify.extraction.statements import answer_line, boxes, hashes, statements
from paced.verify.extraction.together import same_meaning, side_by_side
from paced.verify.extraction.turns import own_text
from paced.verify.grammar.words import words

_GUESSES = 6  # different boxed answers in one response: no answer any more
_MOST_BOXES = 60  # that are looked at to count them


class Answer(NamedTuple):
    """``parts`` are the answers given side by side (one, as a rule); ``where`` says in words where they stand."""

    parts: tuple[str, ...]
    where: str

    @property
    def text(self) -> str:
        return ", ".join(self.parts)


class NoAnswer(NamedTuple):
    """The response states no answer that could be graded."""

    reason: str


class _Response(NamedTuple):
    """What the model says, without its thinking; ``finished`` says that it ended by itself."""

    text: str
    finished: bool
    question: str


_Place = Callable[[_Response], Answer | NoAnswer | None]
"""Looks for the answer in one kind of place; None if the response has no such place."""

_TAGS = re.compile(r"<((?:final[_-]?)?answer)>", re.IGNORECASE)
_FIELD = re.compile(
    r"[\"'](?:final[_ ]?)?(?:answer|result)[\"']\s*:\s*(\"(?:[^\"\\\n]|\\.)*\""
    r"|-?\d+(?:\.\d+)?|\[[^\[\]{}\n]*\])\s*(?=[,}])",
    re.IGNORECASE,
)
_JSON_WINDOW = 3_000  # characters from the end
# Right behind a box: it is taken back.
_TAKEN_BACK = re.compile(
    r"[^.\w\n]{0,8}(?:is|was|would be|seems)\b[^.\n\d]{0,30}"
    r"\b(?:wrong|incorrect|mistaken|not (?:right|correct|the answer))",
    re.IGNORECASE,
)
_LONGEST_RETRACTION = 400  # characters behind a box
_LETTERED = re.compile(r"(?<![\w(])[(*_]{0,4}([A-J])[).:][*_\s]*(?=\S)")
_DENIED_CHOICE = re.compile(r"\b(?:not|isn't|except|than|eliminates?|excludes?)\W*$", re.IGNORECASE)


def extract(response: str, finished: bool = False, question: str = "") -> Answer | NoAnswer:
    """The final answer of a response.

    ``finished`` says that the model itself ended it; without, its last sentence must look like an end. Of several
    numbers in that sentence the one that ``question`` does not have is the answer.
    """
    text = own_text(response)
    if text is None:
        return NoAnswer("the thinking section never ends")
    for place in _PLACES:
        found = place(_Response(text, finished, question))
        if found is not None:
            return found
    return NoAnswer("no answer statement, and no clear last value")


def _in_boxes(response: _Response) -> Answer | NoAnswer | None:
    text = response.text
    found = boxes(text)
    if not found:
        return None
    if not found[-1].content.strip():
        return NoAnswer("the last box is empty or never closed")
    behind = text[found[-1].end :]
    if tags := _in_answer_tags(response._replace(text=behind)):
        return tags
    if later := answer_line(behind) or _said_behind_the_box(behind, found[-1].content, response.question):
        return Answer((later,), "the answer line after the last \\boxed{}")
    found = [box for box in found if box.content.strip()]
    parts = side_by_side(text, found)
    different = {same_meaning(box.content) for box in found[-_MOST_BOXES:]}
    if len(different) >= _GUESSES and len(found) > 2 * len(parts):
        return NoAnswer(f"{_GUESSES} or more different boxed answers")
    return Answer(parts, "the last \\boxed{}" if len(parts) == 1 else f"{len(parts)} boxes side by side")


def _said_behind_the_box(behind: str, boxed: str, question: str) -> str | None:
    """An answer that is stated behind the last box and takes its place: it is said to be wrong, or was no choice."""
    if len(behind) > _LONGEST_RETRACTION:
        return None
    taken_back = _TAKEN_BACK.match(behind)
    choices = {} if taken_back or label(boxed) else listed(question)
    stated = statements(behind) if taken_back or choices else []
    if not stated:
        return None
    chosen = label(stated[-1].content)
    return stated[-1].content if taken_back or (chosen and chosen.letter in choices) else None


def _in_answer_tags(response: _Response) -> Answer | NoAnswer | None:
    tags = list(_TAGS.finditer(response.text))
    if not tags:
        return None
    inner = response.text[tags[-1].end() :].partition(f"</{tags[-1][1]}>")[0]
    if found := boxes(inner):
        inner = found[-1].content
    return Answer((answer_in(inner) or inner.strip(),), f"<{tags[-1][1]}>")


def _in_json(response: _Response) -> Answer | NoAnswer | None:
    """``{"answer": "C"}`` at the end of a response."""
    fields = list(_FIELD.finditer(response.text[-_JSON_WINDOW:]))
    if not fields:
        return None
    try:
        value = json.loads(fields[-1][1])
    except ValueError:
        return None
    return Answer((", ".join(map(str, value)) if isinstance(value, list) else str(value),), "a field of JSON")


def _in_statements(response: _Response) -> Answer | NoAnswer | None:
    lines = hashes(response.text)
    stated = sorted(lines + statements(response.text))
    if not stated:
        return None
    where = "the last '####' line" if stated[-1] in lines else "the last answer statement"
    return Answer(side_by_side(response.text, stated), where)


def _in_the_last_sentence(response: _Response) -> Answer | NoAnswer | None:
    text = end_of_response(response.text)
    if not response.finished and not looks_finished(text):
        return NoAnswer("no answer statement, and the response ends in the middle")
    block = last_block(text)
    value = _named_choice(block, response.question) or last_value(block, result_of(text), response.question)
    return Answer((value,), "the last sentence") if value else None


_PLACES: tuple[_Place, ...] = (_in_boxes, _in_answer_tags, _in_json, _in_statements, _in_the_last_sentence)


def _named_choice(block: str, question: str) -> str | None:
    """The only choice of the question that a last line names by its letter and its text: "so it is D. a surplus"."""
    choices = listed(question) if block.strip() else {}
    line = block.splitlines()[-1] if choices else ""
    named = {
        m[1]: line[m.start(1) :].rstrip(" *_")
        for m in _LETTERED.finditer(line)
        if (text := words(choices.get(m[1], ""))) and words(line[m.end() : m.end() + 400]).startswith(text)
        if not _DENIED_CHOICE.search(line[: m.start()])
    }
    return named.popitem()[1] if len(named) == 1 else None
