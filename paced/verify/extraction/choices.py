"""Multiple choice: the choices that a question lists, and the letter that an answer gives."""

import re
from typing import NamedTuple

from paced.verify.grammar.notation import Unreadable, tidy
from paced.verify.grammar.words import words

# The letter before a choice that a question lists: "(A)", "B.", "\\textbf{(C)}".
_LISTED = re.compile(
    r"(?:\\(?:text(?:bf|rm|it)?|mathrm|mathbf|textbf)\s*\{\s*\(?([A-J])[).]?\s*\}"
    r"|\(([A-J])\)|(?:^|\n|\s\s)\s*([A-J])[.):](?=\s))[.):~\s]*"
)
# What stands around the text of a choice.
_EDGES = re.compile(r"^(?:\\ |[\s$~])+|(?:\\q?quad|\\hspace\{[^}]*\}|\\\\|\\ |[\s$~,;])+$")
# An answer that gives a choice by its letter, with or without its text: "Option (C) 12".
_LABELLED = re.compile(
    r"(?:the\s+)?(?:option|choice|answer|graph|figure|diagram|curve|point|statement|box|letter)?\s*"
    r"(?:\\(?:text(?:bf|rm|it)?|mathrm|mathbf)\s*\{)?\s*(?:\(([A-J])\)|([A-J])[).:]?)\s*[.:]?\s*\}?\s*(.*)",
    re.IGNORECASE | re.DOTALL,
)

# "Answer: C" inside of a box, set as text or not.
_ANNOUNCED = re.compile(
    r"^(?:\\text\s*\{\s*)?(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|option|choice)(?:\s+is)?\s*:?\s*\}?\s*(\(?[A-J]\)?)\}?$",
    re.IGNORECASE,
)
_BEHIND_LETTER = re.compile(r"\(?([A-J])\)?[\s~]*[-–—:]?[\s~]*\((.+)\)", re.DOTALL)

QUESTION_WINDOW = 20_000  # characters of a question that are looked at, from its end


class ChoiceLabel(NamedTuple):
    """A choice's letter and what stands after it."""

    letter: str
    rest: str


def listed(question: str) -> dict[str, str]:
    """The choices that a question lists, by letter; empty unless there are three or more, from A on."""
    question = question[-QUESTION_WINDOW:]
    marks = list(_LISTED.finditer(question))
    letters = ["".join(filter(None, m.groups())) for m in marks]
    for start in range(len(letters) - 1, -1, -1):
        run = letters[start:]
        if run[0] == "A" and len(run) >= 3 and run == [chr(65 + i) for i in range(len(run))]:
            ends = [m.start() for m in marks[start + 1 :]] + [len(question)]
            texts = [question[m.end() : e] for m, e in zip(marks[start:], ends, strict=True)]
            return {k: _EDGES.sub("", t) for k, t in zip(run, texts, strict=True)}
    return {}


def choice_with_text(answer: str, choices: dict[str, str]) -> str | None:
    """The letter of a choice that an answer gives with its text in brackets: ``C (7)``; None if the text is another."""
    try:
        named = _BEHIND_LETTER.fullmatch(tidy(answer))
    except Unreadable:
        return None
    if named is None or words(choices.get(named[1], "")) != words(named[2]):
        return None
    return named[1]


def label(answer: str) -> ChoiceLabel | None:
    """The letter an answer gives: ``C``, ``(C)``, ``\\textbf{(C)}``, ``C. 12``."""
    try:
        text = tidy(answer)
    except Unreadable:
        return None
    text = _ANNOUNCED.sub(r"\1", text)
    match = _LABELLED.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        return None
    letter, rest = match[1] or match[2], match[3].strip()
    bare = match[1] is None and not re.match(rf".*?{letter}\s*[).:}}]", text)
    if rest and (bare or re.match(r"[=<>+*/^,_]|-\s", rest) or re.match(r"\W*[A-J]\)-", text)):
        return None
    return ChoiceLabel(letter.upper(), rest)
