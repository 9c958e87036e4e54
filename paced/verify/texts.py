"""Answers that are words: names, days, "no solution", numbers spelled out."""

import contextlib
import re

from paced.verify.algebra import number
from paced.verify.decision import Decision, Engine
from paced.verify.nodes import Node
from paced.verify.notation import Unreadable, tidy
from paced.verify.parse import parse

_NOTHING = set(
    "nosolution nosolutions norealsolution norealsolutions nosolutionexists none emptyset theemptyset empty "
    "norealnumber norealnumbers".split()
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ONES = "one two three four five six seven eight nine".split()
WORDS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100}
WORDS |= {f"{ten}{mark}{one}": WORDS[ten] + WORDS[one] for ten in _TENS for one in _ONES for mark in "- "}


def read(text: str) -> Node:
    """The structure of an answer; a text that is no mathematics is a ``text`` node."""
    try:
        return parse(text)
    except (Unreadable, RecursionError):
        return ("text", words(text))


def words(text: str) -> str:
    """A text as it is compared: letters and digits of its LaTeX, without case, articles and marks."""
    with contextlib.suppress(Unreadable):
        text = tidy(text)
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf|mathbf|textit|operatorname|textnormal)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\s+", " ", text).strip(" .,;:!?")
    plain = re.fullmatch(r"[\w .,'&()/-]*", text)
    text = re.sub(r"^(?:the|a|an) ", "", text, flags=re.IGNORECASE) if plain else text
    return text.casefold() if plain and not (text.isupper() and len(text) < 9) else text.replace(" ", "")


def same_texts(a: Node, g: Node, answer: str, gold: str, engine: Engine) -> Decision:
    first, second = words(answer), words(gold)
    if not first or not second:
        return Decision(False, "nothing to compare")
    if first.replace(" ", "") == second.replace(" ", ""):
        return Decision(True, "the same words")
    if g == ("set", ()) or second.replace(" ", "") in _NOTHING:
        return Decision(a == ("set", ()) or first.replace(" ", "") in _NOTHING, "no solutions")
    for node, spelled in ((g, first), (a, second)):
        if node[0] in ("n", "unit") and spelled in WORDS:
            value = node[1] if node[0] == "n" else number(node[1])
            return Decision(value == WORDS[spelled], "a number in words")
    if " " not in second and re.fullmatch(rf"{re.escape(second)} (?:function|number|triangle|polygon)s?", first):
        return Decision(True, "the same words, with what they describe")
    if len(second) > 2 and re.match(rf"{re.escape(second)} (?:is|has|have|was|had|will|wins|won)\b(?!.* not )", first):
        return Decision(True, "the same words, with what is said of them")
    if (said := re.fullmatch(r"(?:\S+ ){1,6}?(?:is|are) (?:an? |the )?(.+)", first)) and said[1] == second:
        return Decision(True, "the same words, in a sentence")
    if first in WORDS and second in WORDS:
        return Decision(WORDS[first] == WORDS[second], "numbers in words")
    listed = [sorted(p.strip() for p in re.split(r",|;| and | or ", t) if p.strip()) for t in (first, second)]
    if len(listed[1]) > 1 and listed[0] == listed[1]:
        return Decision(True, "the same words in another order")
    all_reals = {"allrealnumbers", "allreals", "realnumbers", "allrealx"}
    reals = [
        (n[0] == "seq" and n == read(r"\mathbb{R}")) or w.replace(" ", "") in all_reals
        for n, w in ((a, first), (g, second))
    ]
    if all(reals):
        return Decision(True, "all real numbers")
    if not _mathematical(answer, a) or not _mathematical(gold, g):
        return Decision(False, "different words")
    return Decision(engine.outside(answer, gold), "outside the grammar: math-verify")


def _mathematical(text: str, node: Node) -> bool:
    return node[0] != "text" or "\\" in re.sub(r"\\(?:text|mbox|mathrm|textbf)\b", "", text) or "=" in text
