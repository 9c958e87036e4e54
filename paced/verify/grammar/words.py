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
    plain = re.fullmatch(r"[\w .,'&()/-]*", text)
    text = re.sub(r"^(?:the|a|an) ", "", text, flags=re.IGNORECASE) if plain else text
    return text.casefold() if plain and not (text.isupper() and len(text) < 9) else text.replace(" ", "")
