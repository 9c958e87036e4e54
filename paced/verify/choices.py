"""Multiple choice: the letter, the letter with its text, or the text alone where the question lists the choices."""

import re
from typing import NamedTuple

from paced.verify.algebra import Undecided
from paced.verify.compare import decide
from paced.verify.decision import Decision, Engine
from paced.verify.notation import Unreadable, tidy
from paced.verify.texts import words

_LISTED = re.compile(
    r"(?:\\(?:text(?:bf|rm|it)?|mathrm|mathbf|textbf)\s*\{\s*\(?([A-J])[).]?\s*\}|\(([A-J])\)|(?:^|\n|\s\s)\s*([A-J])[.):](?=\s))[.):~\s]*"
)
_EDGES = re.compile(r"^(?:\\ |[\s$~])+|(?:\\q?quad|\\hspace\{[^}]*\}|\\\\|\\ |[\s$~,;])+$")
_LABELLED = re.compile(
    r"(?:the\s+)?(?:option|choice|answer|graph|figure|diagram|curve|point|statement|box|letter)?\s*(?:\\(?:text(?:bf|rm|it)?|mathrm|mathbf)\s*\{)?\s*(?:\(([A-J])\)|([A-J])[).:]?)\s*[.:]?\s*\}?\s*(.*)",
    re.IGNORECASE | re.DOTALL,
)


class Label(NamedTuple):
    """A choice's letter and what stands after it."""

    letter: str
    rest: str


def listed(question: str) -> dict[str, str]:
    """The choices a question lists, by letter; empty unless they run from A on."""
    marks = list(_LISTED.finditer(question[-20_000:]))
    letters = ["".join(filter(None, m.groups())) for m in marks]
    for start in range(len(letters) - 1, -1, -1):
        run = letters[start:]
        if run[0] == "A" and len(run) >= 3 and run == [chr(65 + i) for i in range(len(run))]:
            ends = [m.start() for m in marks[start + 1 :]] + [len(question)]
            texts = [question[-20_000:][m.end() : e] for m, e in zip(marks[start:], ends, strict=True)]
            return {k: _EDGES.sub("", t) for k, t in zip(run, texts, strict=True)}
    return {}


def label(answer: str) -> Label | None:
    """The letter an answer gives: ``C``, ``(C)``, ``\\textbf{(C)}``, ``C. 12``."""
    try:
        text = tidy(answer)
    except Unreadable:
        return None
    match = _LABELLED.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        return None
    letter, rest = match[1] or match[2], match[3].strip()
    bare = match[1] is None and not re.match(rf".*?{letter}\s*[).:}}]", text)
    if rest and (bare or re.match(r"[=<>+*/^,_]|-\s", rest) or re.match(r"\W*[A-J]\)-", text)):
        return None
    return Label(letter.upper(), rest)


def decide_choice(answer: str, gold: str, choices: dict[str, str], engine: Engine) -> Decision:
    """Compare, with letters standing for the choices of the question.

    Raises:
        Undecided: as :func:`paced.verify.compare.decide` does.
    """
    given, expected = label(answer), label(gold)
    if given and choices and given.letter not in choices:  # (i) and (iii) only
        given = None
    if expected and not expected.rest and re.fullmatch(r"\W*(?:text\w*\W*)?[A-J]\W*", gold):
        if given and (given.rest or choices or given.letter in answer):
            return Decision(given.letter == expected.letter, "the letter of the choice")
        if choices.get(expected.letter) and words(answer):
            decision = decide(answer, choices[expected.letter], engine)
            return decision._replace(rule=f"the text of choice {expected.letter}: {decision.rule}")
        return decide(answer, gold, engine)
    undecided: Undecided | None = None
    try:
        decision = decide(answer, gold, engine)
        if decision.correct or given is None:
            return decision
    except Undecided as error:
        if given is None:
            raise
        undecided, decision = error, Decision(False, "")
    meant = given.rest or choices.get(given.letter, "")
    if meant and (choices or given.rest):
        return decide(meant, gold, engine)
    if undecided:
        raise undecided
    return decision
