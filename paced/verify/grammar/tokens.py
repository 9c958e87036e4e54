"""The tokens of an answer: numbers, commands, letters, and words where letters are words."""

import re
from typing import NamedTuple

from paced.verify.grammar.notation import Unreadable, closing
from paced.verify.grammar.units import LETTERS, UNITS

_MOST_TOKENS = 1_200
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)?(?:\.\d+)|\d{1,3}(?:,\d{3})+(?!,?\d)|\d+\.?"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>{_NUMBER})|(?P<command>\\(?:[a-zA-Z]+|.))|(?P<word>[a-zA-Z]+)"
    rf"|(?P<text>[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+)|(?P<other>\S))"
)
_TEXT_COMMANDS = {  # with an argument that is set as text
    "\\" + name
    for name in (
        "text textbf textit textrm textnormal texttt textsf textup mbox hbox mathrm mathbf mathit mathsf mathtt "
        "mathcal mathscr operatorname emph bf rm it bm boldsymbol boxed fbox underline"
    ).split()
}
FUNCTIONS = set(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp max min gcd lcm det arccot deg "
    "cis".split()
)
ALIASES = {"tg": "tan", "ctg": "cot", "cotg": "cot", "cosec": "csc", "arctg": "arctan", "arcctg": "arccot"}
SEPARATORS = {",": ",", ";": ",", "and": "and", "or": "or", "&": "and"}
PLAIN = {"sqrt": r"\sqrt", "pi": r"\pi", "infinity": r"\infty", "infty": r"\infty", "inf": r"\infty", "oo": r"\infty"}
_FACTOR_ENDS = {"}", ")", "]", r"\pi"}
_SHORT_WORDS = ("to", "no", "of", "is", "so", "if", "we", "on")  # no products of two variables


class Token(NamedTuple):
    """A number, a command, a word (letters that may be variables), text (words set as text), or another character.

    ``kind`` is one of these, or ``end`` behind the last token; ``spaced`` says that a blank stands before it.
    """

    kind: str
    text: str
    spaced: bool = False


def tokens(source: str) -> list[Token]:
    """The tokens of an answer that is in its one spelling (``notation.tidy``).

    Raises:
        Unreadable: a brace is not closed, or there are more symbols than an answer has.
    """
    found: list[Token] = []
    position, end = 0, len(source.rstrip())
    while position < end:
        match = _TOKEN.match(source, position)
        assert match
        kind, text = str(match.lastgroup), match[match.lastgroup or 0]
        spaced = match.start(kind) > position
        position = match.end()
        if text.lstrip("\\") in ALIASES and (kind == "command" or len(text) > 2):
            kind, text = "command", "\\" + ALIASES[text.lstrip("\\")]
        if text in _TEXT_COMMANDS and (opened := _skip(source, position)) < end and source[opened] == "{":
            closed = closing(source, opened)
            if closed is None:
                raise Unreadable("a brace is not closed")
            found += _set_as_text(text, source[opened + 1 : closed], spaced, found[-1] if found else None)
            position = closed + 1
        elif text not in _TEXT_COMMANDS:
            measured = bool(found) and (found[-1].kind in ("number", "text") or found[-1].text in ("}", ")"))
            found.append(Token("text" if kind == "word" and _prose(text, measured) else kind, text, spaced))
    if len(found) > _MOST_TOKENS:
        raise Unreadable(f"more than {_MOST_TOKENS} symbols")
    return found


def _prose(word: str, measured: bool) -> bool:
    """Is a run of letters outside ``\\text{}`` a word or a unit, and no product of variables?

    ``measured`` says that it stands behind what may have a unit.
    """
    if word in FUNCTIONS or word in PLAIN or word.lower() in SEPARATORS:
        return False
    if measured and (word.lower() in ("am", "pm") or (len(word) > 1 and word.lower() in UNITS)):
        return True
    if word.isupper():
        return False
    if word.lower() in _SHORT_WORDS:
        return True
    return len(word) > 2 and word not in "abcdefghijklmnopqrstuvwxyz"


def _skip(source: str, position: int) -> int:
    while position < len(source) and source[position] == " ":
        position += 1
    return position


def _set_as_text(command: str, content: str, spaced: bool, before: Token | None) -> list[Token]:
    """The tokens of what is set as text: words, or the unit of what stands ``before`` it.

    Numbers, letters and lists that are set as text are mathematics all the same.
    """
    measured = before is not None and (before.kind in ("number", "word") or before.text in _FACTOR_ENDS)
    if measured and command in (r"\text", r"\mathrm", r"\textrm") and content.strip(" ~.") in LETTERS:
        return [Token("text", content.strip(" ~."), spaced)]
    content = content.strip(" ~")
    if measured and content.lower() in UNITS:
        return [Token("text", content, spaced)]
    if (name := ALIASES.get(content, content)) in FUNCTIONS and not (measured and content == "deg"):
        return [Token("command", "\\" + name, spaced)]
    content = re.sub(r"\\(?:cdot|times)\b|\\[,; ]", " ", content) if measured else content
    if measured and re.fullmatch(r"[A-Za-z][A-Za-z /.*(){}^\d-]*[\^/][A-Za-z /.*(){}^\d-]*", content):
        return [Token("text", content, spaced)]  # g/cm^3
    if not re.fullmatch(r"[A-Za-z][A-Za-z .'/-]+", content):
        return tokens(content)
    return [Token("text", w.strip("."), spaced) for w in content.split() if w != "."]
