"""Multiple choice: the letter, the letter with its text, or the text alone where the question lists the choices."""

import re

from paced.verify.extraction.choices import label
from paced.verify.grammar.words import words
from paced.verify.rules.compare import decide
from paced.verify.rules.decision import Decision, Engine, Undecided

_A_LETTER = re.compile(r"\W*(?:text\w*\W*)?[A-J]\W*")


def decide_choice(answer: str, gold: str, choices: dict[str, str], engine: Engine) -> Decision:
    """Compare, with letters standing for the choices of the question.

    Raises:
        Undecided: as :func:`paced.verify.rules.compare.decide` does.
    """
    given, expected = label(answer), label(gold)
    if given and choices and given.letter not in choices:  # (i) and (iii) only
        given = None
    if expected and not expected.rest and _A_LETTER.fullmatch(gold):
        if given and (given.rest or choices or given.letter in answer):
            return Decision(given.letter == expected.letter, "the letter of the choice")
        if choices.get(expected.letter) and words(answer):
            decision = decide(answer, choices[expected.letter], engine)
            return decision._replace(rule=f"the text of choice {expected.letter}: {decision.rule}")
        return decide(answer, gold, engine)
    meant = (given.rest or choices.get(given.letter, "")) if given else ""
    try:
        decision = decide(answer, gold, engine)
    except Undecided:
        if not meant:
            raise
    else:
        if decision.correct or not meant:
            return decision
    return decide(meant, gold, engine)
