"""Several answers in one response: which of them it takes back, and which stand side by side."""

import re

from paced.verify.extraction.statements import MOST_STATEMENTS, Statement
from paced.verify.grammar.nodes import Node
from paced.verify.grammar.notation import Unreadable
from paced.verify.grammar.parse import parse

# Between two answers: what takes the first back, and what leaves both standing.
_REVOKED = re.compile(
    r"\b(?:wait|correct(?:ion|ed|ing)?|actually|sorry|mistake|incorrect|wrong|re-?check\w*|instead|should|no|"
    r"not|hmm|apolog\w+|error|let me|let's|double-check|re-?evaluat\w*|however|but|check|verify|oops|rather|"
    r"revis\w+|re-?examin\w*)\b",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?:or|alternative(?:ly)?|maybe|perhaps|possibl[ey]|possibility|could(?: also)? be|might(?: also)? be|"
    r"guess(?:es)?|another (?:answer|option|candidate|guess)|either)\b",
    re.IGNORECASE,
)
_LED_ON = re.compile(r"\b(?:so|thus|therefore|hence|which gives|giving|finally)\b", re.IGNORECASE)
_FINAL = re.compile(r"\bfinal\s+$", re.IGNORECASE)
_FINAL_WINDOW = 12  # characters before an answer that may call it final
_REASONING = 60  # characters of prose between two answers that make the first a step on the way
_FARTHEST = 2_000  # characters between two answers that may stand side by side


def side_by_side(text: str, statements: list[Statement]) -> tuple[str, ...]:
    """The last answer, with those before it that it does not replace.

    An earlier answer is replaced if something between the two takes it back, if there is reasoning between them, if the
    later one alone is called final, or if it alone has a line or a heading of its own. Answers side by side, or with
    "or" and "maybe" between them, all stand.
    """
    kept = [statements[-1]]
    for earlier in reversed(statements[-MOST_STATEMENTS:-1]):
        between = text[earlier.end : kept[0].start]
        if len(between) > _FARTHEST:
            break
        if kept[-1].formal and not earlier.formal:
            continue
        prose = _prose(between)
        led_on = len(prose) > _REASONING or _LED_ON.search(prose)
        if _REVOKED.search(prose) or (led_on and not _HEDGED.search(prose)):
            break
        if _FINAL.search(between) and not _FINAL.search(text[: earlier.start][-_FINAL_WINDOW:]):
            break
        kept.insert(0, earlier)
    parts: dict[Node | str, str] = {}
    for statement in kept:
        parts.setdefault(same_meaning(statement.content), statement.content.strip())
    return tuple(parts.values())


def _prose(text: str) -> str:
    """The words of a stretch of text, without mathematics and marks."""
    return " ".join(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[a-zA-Z]+", " ", text)))


def same_meaning(content: str) -> Node | str:
    """A key under which answers are the same that differ in spelling only: the structure, or else the words."""
    try:
        return parse(content)
    except (Unreadable, RecursionError):
        return " ".join(content.split())
