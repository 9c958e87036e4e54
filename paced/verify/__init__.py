"""Verifiers: does a response answer its problem? Correct, wrong or unknown, and what was compared.

docs/verifier.md states the rules. Folders, each importing only from those behind it: workers, rules, extraction,
grammar. This file holds no logic; it offers what the other packages use.
"""

from paced.verify.extraction.golds import plain_gold
from paced.verify.grammar.nodes import List, Text, spoken
from paced.verify.grammar.parse import read
from paced.verify.references import SeveralAnswersError, boxed_answer, same_answer
from paced.verify.verifier import Outcome, Sample, Verdict, Verifier

__all__ = [
    "List",
    "Outcome",
    "Sample",
    "SeveralAnswersError",
    "Text",
    "Verdict",
    "Verifier",
    "boxed_answer",
    "plain_gold",
    "read",
    "same_answer",
    "spoken",
]
