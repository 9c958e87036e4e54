"""Verifiers: does a response answer its problem? Each returns correct, wrong or unknown, and what it extracted."""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple

from paced.tiny.world import working

Outcome = Literal["correct", "wrong", "unknown"]


class Verdict(NamedTuple):
    """``extracted`` is the part of the response that was compared, None when there was none."""

    outcome: Outcome
    extracted: str | None


# A number: sign (after a digit it is an operator), thousands commas, a decimal part. A fraction is taken whole, so that
# neither of its halves passes for the answer.
_NUMBER = r"(?:(?<![\d)])[-+\u2212])?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?"
_MARKED = (
    re.compile(rf"####\s*\$?\s*({_NUMBER})"),
    re.compile(rf"\\boxed\{{\s*\\?\$?\s*({_NUMBER})[^{{}}]*\}}"),
    re.compile(rf"answer\s*(?:is\s*:?|:)\s*\**\s*\$?\s*({_NUMBER})", re.IGNORECASE),
)


def _value(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "").replace("$", "").replace("\u2212", "-"))
    except InvalidOperation:
        return None


def number(response: str, gold: str, question: str) -> Verdict:
    """Compare the response's final number with the gold number (GSM8K).

    The final number is the last one marked by ``####``, ``\\boxed{}`` or "the answer is", else the last one written.
    """
    extracted = next((found[-1] for pattern in _MARKED if (found := pattern.findall(response))), None)
    if extracted is None:
        numbers = re.findall(_NUMBER, response)
        extracted = numbers[-1] if numbers else None
    if extracted is None:
        return Verdict("wrong", None)
    value, expected = _value(extracted), _value(gold)
    return Verdict("correct" if value is not None and value == expected else "wrong", extracted)


def written_working(response: str, gold: str, question: str) -> Verdict:
    """The tiny world: the whole working must be right, because its last number alone can be guessed."""
    try:
        expected = working(question)
    except ValueError:
        return Verdict("wrong", response)
    return Verdict("correct" if response == expected == gold else "wrong", response)


Verifier = Callable[[str, str, str], Verdict]

VERIFIERS: dict[str, Verifier] = {"gsm8k": number, "math": number, "table": number, "tiny": written_working}


def grade(source: str, response: str, gold: str, question: str, finish: str) -> Verdict:
    """Grade one sample of a problem from ``source``.

    A sample that failed is unknown, never wrong (method section 1). One cut by the token limit is wrong: whatever
    number stands in the middle of an unfinished response is not its answer.
    """
    if finish == "error":
        return Verdict("unknown", None)
    if finish == "length":
        return Verdict("wrong", None)
    return VERIFIERS[source](response, gold, question)


def grade_gold(source: str, gold: str, question: str) -> Verdict:
    """Grade a gold answer as if it were a response: a gold its own verifier rejects would make every sample wrong."""
    response = gold if VERIFIERS[source] is written_working else f"#### {gold}"
    return VERIFIERS[source](response, gold, question)
