"""What a question asks for, and what it gives: units, rounding, and its own expressions, which are no answers."""

import re

from paced.verify.extraction.choices import QUESTION_WINDOW, listed
from paced.verify.extraction.sentences import FORMULA, content_of
from paced.verify.grammar.nodes import (
    Call,
    Matrix,
    Measured,
    Node,
    Number,
    PlainExpression,
    Power,
    Product,
    Relation,
    Sum,
    Text,
    walk,
)
from paced.verify.grammar.notation import unwrapped
from paced.verify.grammar.parse import read
from paced.verify.grammar.units import SCALES_OF_TEMPERATURE, Unit, unit
from paced.verify.grammar.words import squeezed
from paced.verify.rules.forms import names, number
from paced.verify.rules.measures import decimal_places
from paced.verify.rules.relations import contradictory, last_side, name_and_value

# The unit that a question asks for: "in square inches", "how many feet".
_ASKED = re.compile(
    r"\b(?:in|how many|number of)\s+"
    r"((?:(?:square|cubic)\s+)?[a-z]{2,}(?:\s+per\s+(?:(?:square|cubic)\s+)?[a-z]{2,})?)",
    re.IGNORECASE,
)
_SCALE = re.compile(r"\b(?:in|to)\s+(?:degrees?\s+)?(Celsius|Fahrenheit)\b", re.IGNORECASE)
_LENGTHS = re.compile(r"\b(?:miles|yards|feet|inches|(?:kilo|centi|milli)?met(?:er|re)s|[kcm]m|ft)\b")
# What a question tells to do with the number behind it, in the languages of the data sets.
_REWRITING = re.compile(
    r"\b(?:simplif\w+|expand\w*|factor\w*|rationali[sz]\w+|express|rewrite|write|convert|reduce|round\w*|what fraction"
    r"|fraction that equals|equal to)\b|化简|计算|约分|化成|改写|表示",
    re.IGNORECASE,
)
# What a question tells to do with the formula behind it, or before it.
_TASK = re.compile(
    r"(?:\b(?:simplif\w+|comput\w+|evaluat\w+|calculat\w+|expand\w*|factor\w*|rationali[sz]\w+|multipl\w+|express|rewrite"
    r"|write|find|determine|what is|perform|convert|reduce)\b|[求算]|化简)[^?!]{0,200}$",
    re.IGNORECASE,
)
_TASK_BEHIND = re.compile(r"\s*(?:的值|=\s*\?|化简)")
_TASK_WINDOW = 240  # characters before a formula that may say what to do with it
_LOOSE = re.compile(r"\\[,;:! ]|\\(?:left|right)(?![a-zA-Z])|[\s${}]")
_REWRITING_WINDOW = 240  # characters from such a word on
_OPERATOR = re.compile(r"[-+*/^\\!&@]|\d\s?[(a-z]|\)|[=<>]")
_WRITTEN = re.compile(r"[.\\/]")  # a number that may be written otherwise: a decimal, a fraction, a repeating one
_PLACES = re.compile(
    r"\b(?:round\w*|nearest|decimal (?:place|digit)s?|significant (?:figure|digit)s?)\b", re.IGNORECASE
)
_EQUATION = re.compile(r"\bequations?\b|\blocus\b|\bcurve\b|方程", re.IGNORECASE)
_COUNTED = re.compile(r"\b(?:how many|number of)\b", re.IGNORECASE)
_SHARED = re.compile(r"percent|%|probab|chance|fraction|ratio|rate|proportion|likel", re.IGNORECASE)


def no_answer(answer: str, gold: str, question: str) -> str | None:
    """Why an answer is none to this question, though it may have the gold's value; None if nothing speaks against it.

    It is the question's own expression, statement or number; it has more digits than were asked for; or it is a share
    where a number of things was asked for.
    """
    if not question:
        return None
    question = question[-QUESTION_WINDOW:]
    if _restated(answer, gold, question) and not _is_choice(answer, question):
        return "the question's own expression, not worked out"
    given, expected = last_side(read(answer)), read(gold)
    if isinstance(given, Number) and isinstance(expected, Number) and _PLACES.search(question):
        places = decimal_places(expected)
        if places is not None and _decimals(given) > places and given.value != expected.value:
            return f"more digits than the {places} that the question asks for"
    share = isinstance(given, Measured) and given.unit.dimension == "share" and isinstance(expected, Number)
    if share and _COUNTED.search(question) and not _SHARED.search(question):
        return "a share, where the question asks for a number"
    return None


def rounded_as_asked(answer: str, question: str) -> str:
    """What an answer comes to by rounding, where the question asks for rounding: 96 of ``95.7 \\approx 96``."""
    node = read(answer)
    if not isinstance(node, Relation) or node.signs[-1] != "~" or not _PLACES.search(question[-QUESTION_WINDOW:]):
        return answer
    if contradictory(node):
        return answer
    return re.split(r"\\approx(?![a-zA-Z])|≈|\\simeq(?![a-zA-Z])|\\sim(?![a-zA-Z])", answer)[-1]


def _decimals(node: Number) -> int:
    return len(node.written.partition("e")[0].partition(".")[2])


def _restated(answer: str, gold: str, question: str) -> bool:
    """Is an answer what the question itself says, and not the gold answer?"""
    node, expected = read(answer), read(gold)
    text = squeezed(answer)
    if not _OPERATOR.search(text) and not _WRITTEN.search(text):
        return False
    if text == squeezed(gold) or (node == expected and not isinstance(node, Number)):
        return False
    if isinstance(node, Number):
        return bool(_WRITTEN.search(text)) and _to_be_rewritten(text, question)
    if isinstance(node, Relation) or "=" in text:
        return _stated(answer, node, question)
    composite = isinstance(node, Sum | Product | Power | Call | Matrix | Text)
    for formula in FORMULA.finditer(question) if composite else ():
        content = content_of(formula)
        if _to_work_out(question, formula) and (text == squeezed(content) or _given_by(content) == node):
            return True
    return _to_be_rewritten(text, question)


def _is_choice(answer: str, question: str) -> bool:
    return squeezed(answer) in {squeezed(choice) for choice in listed(question).values()}


def _stated(answer: str, node: Node, question: str) -> bool:
    """Does a question state an equation or inequality, or ask for the value of its expression?"""
    loose = _LOOSE.sub("", unwrapped(answer))
    if len(loose) > 2 and re.search(
        rf"(?<![\w^_+\-*/]){re.escape(loose)}(?![\w.]\d|[\w^_+*/])", _LOOSE.sub("", question.replace("$", "\0"))
    ):
        return True
    given = last_side(node)
    for formula in FORMULA.finditer(question):
        content = content_of(formula)
        if isinstance(node, Relation) and node == read(content):
            return True
        composite = isinstance(given, Sum | Product | Power | Call)
        if composite and _to_work_out(question, formula) and _given_by(content) == given:
            return True
    return False


def _given_by(formula: str) -> Node:
    """What a formula of a question is, or comes to."""
    return last_side(read(formula))


def _to_work_out(question: str, formula: re.Match[str]) -> bool:
    """Does a question tell to work a formula out, before it or behind it?"""
    before = question[max(0, formula.start() - _TASK_WINDOW) : formula.start()]
    return bool(_TASK.search(before) or _TASK_BEHIND.match(question, formula.end()))


def _to_be_rewritten(text: str, question: str) -> bool:
    """Does a question tell to write what ``text`` says, squeezed, in another way?"""
    node = read(text)
    for task in _REWRITING.finditer(question):
        stretch = squeezed(question[task.end() : task.end() + _REWRITING_WINDOW])
        at = stretch.find(text)
        sentence = re.split(r"[.?!](?:\s|$)", question[task.end() : task.end() + _REWRITING_WINDOW])[0]
        if squeezed(sentence.strip(" $:")) == text or (
            not isinstance(node, Text) and read(sentence.strip(" $:")) == node
        ):
            return True
        if at >= 0 and not stretch[at - 1 : at].isdigit() and not re.match(r"\d|\.\d", stretch[at + len(text) :]):
            return True
    return False


def with_asked_value(gold: str, answer: str, question: str) -> str:
    """The value alone of a gold such as ``|AB| = 5`` or ``xy + yz = 7``, where the answer is no equation.

    Not where the question asks for an equation, where the value is 0, which says nothing of what is asked for, or where
    the equation is of a curve whose left side the question does not name.
    """
    node = read(gold)
    if not isinstance(node, Relation) or node.signs != ("=",) or isinstance(read(answer), Relation):
        return gold
    left, right = node.sides
    if name_and_value(node) or names(right) or not names(left) or number(right) == 0 or _EQUATION.search(question):
        return gold
    if _of_a_curve(left) and squeezed(gold.partition("=")[0]) not in squeezed(question):
        return gold
    return gold.rpartition("=")[2]


def _of_a_curve(left: Node) -> bool:
    """Is it of second degree or more in the coordinates x and y, as the left side of a circle's equation is?"""
    if names(left) != {"x", "y"}:
        return False
    powers = any(isinstance(node, Power) and names(node.base) for node in walk(left))
    return powers or any(isinstance(node, Product) and names(node) == {"x", "y"} for node in walk(left))


def with_asked_unit(gold: str, answer: str, question: str) -> str:
    """The gold in the question's unit, where the answer has another one of its kind: 42 inches are not 42 feet."""
    if not question:
        return gold
    given = last_side(read(answer))
    if isinstance(given, Measured) and given.unit.dimension in SCALES_OF_TEMPERATURE:
        scales = _SCALE.findall(question)
        return rf"{gold}\text{{ degrees {scales[-1]}}}" if scales and isinstance(read(gold), PlainExpression) else gold
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
        named = [unit(word, dimension[-1]) for word in dict.fromkeys(_LENGTHS.findall(question))]
        found = named if len({u.size for u in named}) == 1 else []
    return found
