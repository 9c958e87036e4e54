"""Multiple choice: the letter, the letter with its text, or the text alone where the question lists the choices."""

import re

from paced.verify.extraction.choices import ChoiceLabel, choice_with_text, label
from paced.verify.grammar.words import words
from paced.verify.rules.compare import decide
from paced.verify.rules.decision import Decision, EqualityEngine, Undecided

_A_LETTER = re.compile(r"\W*(?:text\w*\W*)?[A-J]\W*")


def decide_choice(answer: str, gold: str, choices: dict[str, str], engine: EqualityEngine) -> Decision:
    """Compare, with letters standing for the choices of the question.

    Raises:
        Undecided: as :func:`paced.verify.rules.compare.decide` does.
    """
    answer = choice_with_text(answer, choices) or answer
    given, expected = label(answer), label(gold)
    if given and choices and given.letter not in choices:  # (i) and (iii) only
        given = None
    if expected and not expected.rest and _A_LETTER.fullmatch(gold):
        return _decide_letter(answer, given, gold, expected.letter, choices, engine)
    if expected and expected.rest and not given:  # the gold is "A. 169"
        decision = decide(answer, expected.rest, engine)
        return decision if decision.correct else decide(answer, gold, engine)
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


def _decide_letter(
    answer: str, given: ChoiceLabel | None, gold: str, expected: str, choices: dict[str, str], engine: EqualityEngine
) -> Decision:
    """Compare with a gold answer that is the letter of a choice: by the letter, or else by the text of the choice."""
    if given and (given.rest or choices or given.letter in answer):
        return Decision(given.letter == expected, "the letter of the choice")
    if choices.get(expected) and words(answer):
        decision = decide(answer, choices[expected], engine)
        return decision._replace(rule=f"the text of choice {expected}: {decision.rule}")
    return decide(answer, gold, engine)
