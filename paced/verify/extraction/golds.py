"""Gold answers as data sets write them: JSON lists, quoted, behind "####" or "The answer is"."""

import re

from paced.verify.extraction.statements import without_introduction

_QUOTED = re.compile(r"\s*[\[{(]\s*((['\"]).*\2)\s*,?\s*[\]})]\s*", re.DOTALL)
_ITEM = re.compile(r"\s*(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)')\s*(?:,|$)", re.DOTALL)
_SAID = re.compile(r"\s*(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is|:)\s*:?\s*(\S.*)", re.IGNORECASE | re.DOTALL)


def plain_gold(gold: str) -> str:
    """The answer itself: ``169`` of ``["169"]``, ``{'169'}``, ``The answer is 169.`` and ``... #### 169``."""
    if "####" in gold:
        gold = gold.rpartition("####")[2].strip()
    if said := _SAID.fullmatch(gold):
        gold = said[1]
    if quoted := _QUOTED.fullmatch(gold):
        items = [a or b for a, b in _ITEM.findall(quoted[1])]
        gold = ", ".join(items) if items else gold
    return without_introduction(gold)
