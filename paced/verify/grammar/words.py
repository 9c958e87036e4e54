"""Answers in words: the spelling in which they are compared, and numbers that are spelled out."""

import contextlib
import re

from paced.verify.grammar.notation import Unreadable, tidy

_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ONES = "one two three four five six seven eight nine".split()
_BASIC = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100}
NUMBER_WORDS = _BASIC | {
    f"{ten}{mark}{one}": _BASIC[ten] + _BASIC[one] for ten in _TENS for one in _ONES for mark in "- "
}


_MONTHS = {
    name[:3].lower(): name
    for name in ("January February March April May June July August September October November December".split())
}
_NAMES_OF_MONTHS = "|".join(_MONTHS.values())
_MONTH = re.compile(
    r"\b(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?(?=\s+\d)|(?<=\d\s)(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?"
    r"|Oct|Nov|Dec)\b\.?"
)
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_NAMES_OF_MONTHS})\b")
_DAY_BEHIND = re.compile(rf"\b({_NAMES_OF_MONTHS}) (?:the )?(\d{{1,2}})(?:st|nd|rd|th)\b")


def squeezed(text: str) -> str:
    """A text in its one spelling, without blanks."""
    try:
        return tidy(text).replace(" ", "")
    except Unreadable:
        return text.replace(" ", "")


def words(text: str) -> str:
    """A text as it is compared: letters and digits of its LaTeX, without case, articles and marks."""
    with contextlib.suppress(Unreadable):
        text = tidy(text)
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf|mathbf|textit|operatorname|textnormal)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\s+", " ", text).strip(" .,;:!?")
    text = _MONTH.sub(lambda m: _MONTHS[m[0][:3].lower()], text) if _MONTH.search(text) else text
    text = _DAY_FIRST.sub(r"\2 \1", text)
    text = _DAY_BEHIND.sub(r"\1 \2", text)
    plain = re.fullmatch(r"[\w .,'&()/-]*", text)
    text = re.sub(r"^(?:the|a|an) ", "", text, flags=re.IGNORECASE) if plain else text
    return text.casefold() if plain and not (text.isupper() and len(text) < 9) else text.replace(" ", "")
