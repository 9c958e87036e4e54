"""Gold answers as data sets write them, put as one answer that a response can be compared with. Imports no torch."""

import re

from paced.verify import List, plain_gold, read, same_answer

# What stands in the place of an answer that there is not: what software writes for a missing value, and the marks of
# NuminaMath-1.5 for problems that ask for a proof and for answers that its authors could not find.
_NOTHING = re.compile(r"nan|null|n/?a|none(?-i:(?<=None))|proof|not ?found", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*(?:[,;]|\bor\b|\band\b)\s*")


def stated(gold: str) -> str:
    """The answer that a gold states: ``169`` of ``["169"]``, ``The answer is 169.`` and ``169, 169``."""
    said = plain_gold(gold).strip()
    if said != gold:
        said = re.sub(r"(?<=[\w}\)])\.$", "", said)
    node = read(said)
    if not isinstance(node, List):
        return said
    items = _BETWEEN.split(said)
    alike = len(items) == len(node.items) and all(equal(items[0], item) for item in items[1:])
    return items[0] if alike else said


def equal(one: str, other: str) -> bool:
    """Whether two golds are one, whichever of them is taken for the answer to the other."""
    return same_answer(one, other) and same_answer(other, one)


def nothing(gold: str) -> str:
    """Why a gold is no answer, '' if it may be one."""
    if _NOTHING.fullmatch(gold):
        return f"gold {gold!r} stands in the place of an answer: give the answer or remove the row"
    return ""
