"""Answers that are words: names, days, "no solution", numbers spelled out."""

import re
from collections.abc import Callable
from typing import NamedTuple

from paced.verify.grammar.nodes import INFINITY, Bracketed, Measured, Node, Number, Set, Text
from paced.verify.grammar.parse import read
from paced.verify.grammar.words import NUMBER_WORDS, words
from paced.verify.rules.decision import Decision, EqualityEngine
from paced.verify.rules.forms import number

_NO_SOLUTION = set(
    "nosolution nosolutions norealsolution norealsolutions nosolutionexists none emptyset theemptyset empty "
    "norealnumber norealnumbers".split()
)
# Words for the same thing, in one set for each.
_SYNONYMS = (
    {"infinity", "infinite", "infinitelymany", "infinitelymanysolutions", "infinitesolutions", "unbounded"},
    {"doesnotexist", "dne", "limitdoesnotexist", "doesn'texist", "notexist", "nonexistent"},
    {"impossible", "notpossible", "itisimpossible", "itisnotpossible", "cannotbedone"},
)
_YES_OR_NO = ("yes", "no", "true", "false")
# Words that describe numbers, and those beside them that say nothing more: "all odd n", "n odd", "odd integers".
_KINDS_OF_NUMBERS = set("odd even prime composite positive negative nonzero irrational rational perfect square".split())
_BESIDE_KINDS = set("all the any every each number integer value of for is are be must and".split())
_ALL_REALS = {"allrealnumbers", "allreals", "realnumbers", "allrealx"}
_DESCRIBED = "(?:function|number|triangle|polygon)s?"
_PREDICATE = r"(?:is|has|have|was|had|will|wins|won)\b(?!.* not )"
_IN_A_SENTENCE = re.compile(r"(?:\S+ ){1,6}?(?:is|are) (?:an? |the )?(.+)")
_BETWEEN_ITEMS = re.compile(r",|;| and | or ")


class Side(NamedTuple):
    """One of two answers: as given, as read, as words, and its words without blanks."""

    text: str
    node: Node
    words: str
    letters: str


TextRule = Callable[[Side, Side], Decision | None]
"""Compares the answer with the gold answer; None if the rule does not apply to them."""


def same_texts(a: Node, g: Node, answer: str, gold: str, engine: EqualityEngine) -> Decision:
    """Compare two answers of which at least one is no mathematics that the grammar covers.

    Raises:
        Undecided: no rule applies, and the engine cannot tell.
    """
    given, expected = _side(answer, a), _side(gold, g)
    for rule in _RULES:
        decision = rule(given, expected)
        if decision is not None:
            return decision
    return Decision(engine.outside(answer, gold), "outside the grammar: math-verify")


def _side(text: str, node: Node) -> Side:
    said = words(text)
    return Side(text, node, said, said.replace(" ", ""))


def _nothing(a: Side, g: Side) -> Decision | None:
    return None if a.words and g.words else Decision(False, "nothing to compare")


def _same_words(a: Side, g: Side) -> Decision | None:
    return Decision(True, "the same words") if a.letters == g.letters else None


def _no_solutions(a: Side, g: Side) -> Decision | None:
    if g.node != Set(()) and g.letters not in _NO_SOLUTION:
        return None
    return Decision(a.node == Set(()) or a.letters in _NO_SOLUTION, "no solutions")


def _synonyms(a: Side, g: Side) -> Decision | None:
    said = [{s.letters.casefold(), *(("infinity",) if s.node == INFINITY else ())} for s in (a, g)]
    for names in _SYNONYMS:
        if said[1] & names:
            return Decision(bool(said[0] & names), "words of one meaning")
    return None


def _yes_or_no(a: Side, g: Side) -> Decision | None:
    """``Yes, it is possible`` where the gold is ``yes``."""
    first, mark, rest = a.words.partition(",")
    if g.words not in _YES_OR_NO or not mark or re.search(r"\b(?:yes|no|true|false)\b", rest):
        return None
    return Decision(first.strip() == g.words, "yes or no")


def _kinds_of_numbers(a: Side, g: Side) -> Decision | None:
    """``all odd n`` and ``n odd``: the same kind of numbers."""
    kinds = [{w.removesuffix("s") for w in re.findall(r"[a-z]{2,}", s.words)} - _BESIDE_KINDS for s in (a, g)]
    if not kinds[1] or not kinds[1] <= _KINDS_OF_NUMBERS or re.search(r"\d|[<>=]", a.words + g.words):
        return None
    return Decision(True, "the same kind of numbers") if kinds[0] == kinds[1] else None


def _number_in_words(a: Side, g: Side) -> Decision | None:
    for node, spelled in ((g.node, a.words), (a.node, g.words)):
        if spelled in NUMBER_WORDS and isinstance(node, Number | Measured):
            value = node.value if isinstance(node, Number) else number(node.value)
            return Decision(value == NUMBER_WORDS[spelled], "a number in words")
    return None


def _with_what_they_describe(a: Side, g: Side) -> Decision | None:
    if " " not in g.words and re.fullmatch(rf"{re.escape(g.words)} {_DESCRIBED}", a.words):
        return Decision(True, "the same words, with what they describe")
    return None


def _with_what_is_said_of_them(a: Side, g: Side) -> Decision | None:
    if len(g.words) > 2 and re.match(rf"{re.escape(g.words)} {_PREDICATE}", a.words):
        return Decision(True, "the same words, with what is said of them")
    return None


def _in_a_sentence(a: Side, g: Side) -> Decision | None:
    said = _IN_A_SENTENCE.fullmatch(a.words)
    return Decision(True, "the same words, in a sentence") if said and said[1] == g.words else None


def _numbers_in_words(a: Side, g: Side) -> Decision | None:
    if a.words in NUMBER_WORDS and g.words in NUMBER_WORDS:
        return Decision(NUMBER_WORDS[a.words] == NUMBER_WORDS[g.words], "numbers in words")
    return None


def _in_another_order(a: Side, g: Side) -> Decision | None:
    given, expected = (sorted(p.strip() for p in _BETWEEN_ITEMS.split(s.words) if p.strip()) for s in (a, g))
    return Decision(True, "the same words in another order") if len(expected) > 1 and given == expected else None


def _all_real_numbers(a: Side, g: Side) -> Decision | None:
    real_line = read(r"\mathbb{R}")
    if all((isinstance(s.node, Bracketed) and s.node == real_line) or s.letters in _ALL_REALS for s in (a, g)):
        return Decision(True, "all real numbers")
    return None


def _prose(a: Side, g: Side) -> Decision | None:
    return None if _mathematical(a) and _mathematical(g) else Decision(False, "different words")


def _mathematical(side: Side) -> bool:
    if not isinstance(side.node, Text):
        return True
    return "\\" in re.sub(r"\\(?:text|mbox|mathrm|textbf)\b", "", side.text) or "=" in side.text


_RULES: tuple[TextRule, ...] = (
    _nothing,
    _same_words,
    _no_solutions,
    _synonyms,
    _yes_or_no,
    _kinds_of_numbers,
    _number_in_words,
    _with_what_they_describe,
    _with_what_is_said_of_them,
    _in_a_sentence,
    _numbers_in_words,
    _in_another_order,
    _all_real_numbers,
    _prose,
)
