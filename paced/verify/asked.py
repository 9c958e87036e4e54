"""The unit that a question asks for: a gold answer without one is in it."""

import re

from paced.verify.nodes import PLAIN_EXPRESSIONS
from paced.verify.relations import last_side
from paced.verify.texts import read
from paced.verify.units import Unit, unit

_ASKED = re.compile(
    r"\b(?:in|how many|number of)\s+"
    r"((?:(?:square|cubic)\s+)?[a-z]{2,}(?:\s+per\s+(?:(?:square|cubic)\s+)?[a-z]{2,})?)",
    re.IGNORECASE,
)
_LENGTHS = re.compile(r"\b(?:miles|yards|feet|inches|(?:kilo|centi|milli)?met(?:er|re)s|[kcm]m|ft)\b")


def with_asked_unit(gold: str, answer: str, question: str) -> str:
    """The gold in the question's unit, where the answer has another one of its kind: 42 inches are not 42 feet."""
    if not question:
        return gold
    given = last_side(read(answer))
    if given[0] != "unit" or given[2].dimension is None or read(gold)[0] not in PLAIN_EXPRESSIONS:
        return gold
    asked = _asked(question, given[2].dimension)
    if not asked or any(u.size == given[2].size for u in asked):
        return gold
    words, power = asked[-1].words, given[2].dimension.partition("^")[2]
    return rf"{gold}\text{{ {words}}}" + (f"^{power}" if power and " " not in words else "")


def _asked(question: str, dimension: str) -> list[Unit]:
    question = question[-20_000:]
    units = [unit(words) for words in _ASKED.findall(question)]
    if dimension == "money" and r"\$" in question and not re.search(r"\bcents?\b", question):
        units.append(unit("dollars"))
    found = [u for u in units if u.dimension == dimension]
    if not found and dimension.startswith("length") and "/" not in dimension:  # nothing but miles: miles
        named = {unit(word, dimension[-1]) for word in _LENGTHS.findall(question)}
        found = list(named) if len({u.size for u in named}) == 1 else []
    return found
