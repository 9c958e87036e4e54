"""What a question asks for: a unit, in which a gold answer without one is; an expression that is to be worked out."""

import re

from paced.verify.extraction.choices import QUESTION_WINDOW
from paced.verify.extraction.sentences import FORMULA, content_of
from paced.verify.grammar.nodes import Call, Measured, PlainExpression, Power, Product, Sum
from paced.verify.grammar.parse import read
from paced.verify.grammar.units import Unit, unit
from paced.verify.rules.relations import last_side

# The unit that a question asks for: "in square inches", "how many feet".
_ASKED = re.compile(
    r"\b(?:in|how many|number of)\s+"
    r"((?:(?:square|cubic)\s+)?[a-z]{2,}(?:\s+per\s+(?:(?:square|cubic)\s+)?[a-z]{2,})?)",
    re.IGNORECASE,
)
_LENGTHS = re.compile(r"\b(?:miles|yards|feet|inches|(?:kilo|centi|milli)?met(?:er|re)s|[kcm]m|ft)\b")
# What a question tells to do with the formula behind it.
_TASK = re.compile(
    r"\b(?:simplif\w+|comput\w+|evaluat\w+|calculat\w+|expand\w*|factor\w*|rationali[sz]\w+|multipl\w+|express|rewrite"
    r"|find|determine|what is|perform|convert|reduce)\b[^.?!]{0,200}$",
    re.IGNORECASE,
)
_TASK_WINDOW = 240  # characters before a formula that may say what to do with it
_WORKED = re.compile(r"[-+*/^\\!]|\d\s?[(a-z]|\)")


def restated(answer: str, gold: str, question: str) -> bool:
    """Is an answer the very expression that the question asks to work out, and not the gold answer?"""
    if not question or not _WORKED.search(answer):
        return False
    given = last_side(read(answer))
    if not isinstance(given, Sum | Product | Power | Call) or given == last_side(read(gold)):
        return False
    question = question[-QUESTION_WINDOW:]
    return any(
        given == last_side(read(content_of(formula)))
        for formula in FORMULA.finditer(question)
        if _TASK.search(question[max(0, formula.start() - _TASK_WINDOW) : formula.start()])
    )


def with_asked_unit(gold: str, answer: str, question: str) -> str:
    """The gold in the question's unit, where the answer has another one of its kind: 42 inches are not 42 feet."""
    if not question:
        return gold
    given = last_side(read(answer))
    if not isinstance(given, Measured) or given.unit.dimension is None or not isinstance(read(gold), PlainExpression):
        return gold
    asked = _asked(question, given.unit.dimension)
    if not asked or any(u.size == given.unit.size for u in asked):
        return gold
    words, power = asked[-1].words, given.unit.dimension.partition("^")[2]
    return rf"{gold}\text{{ {words}}}" + (f"^{power}" if power and " " not in words else "")


def _asked(question: str, dimension: str) -> list[Unit]:
    """The units of a dimension that a question asks for, in its order."""
    question = question[-QUESTION_WINDOW:]
    units = [unit(words) for words in _ASKED.findall(question)]
    if dimension == "money" and r"\$" in question and not re.search(r"\bcents?\b", question):
        units.append(unit("dollars"))
    found = [u for u in units if u.dimension == dimension]
    if not found and dimension.startswith("length") and "/" not in dimension:  # nothing but miles: miles
        named = {unit(word, dimension[-1]) for word in _LENGTHS.findall(question)}
        found = list(named) if len({u.size for u in named}) == 1 else []
    return found
