"""What a sentence comes to: the answer it states, or None where that is not clear."""

import itertools
import re

from paced.verify.notation import Unreadable
from paced.verify.parse import parse
from paced.verify.texts import WORDS

# Dollars are mathematics as pandoc reads them: no blank inside, no digit behind (or blanks on both sides); else money.
FORMULA = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$"
    r"|(?<!\\)\$(?=\S)((?:[^$\n\\]|\\.)+?)(?<=\S)\$(?!\d)|(?<!\\)\$(?=[ ])((?:[^$\n\\]|\\.)+?)(?<=[ ])\$(?!\d)"
    r"|\\\((.+?)\\\)|\\\[(.+?)\\\]",
    re.DOTALL,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*|__([^_\n]{1,200})__")
SENTENCE_END = re.compile(
    r"(?<![ap]\.m)(?<!\bi\.e)(?<!\be\.g)(?<!\bNo)(?<!\bsq)(?<!\bapprox)[.!?。](?=\s|$|[*_\"')\]}]+(?:\s|$))|\n\s*\n|\n"
)
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?<![)\]}])[-+−–])?(?:\\?\$\s?)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:\s?/\s?\d+(?:\.\d+)?)?(?:\s?\\?%)?(?![\w^_/])"
)
OPENING = re.compile(
    r"^(?:(?:therefore|thus|hence|so|then|simply|just|indeed|approximately|about|exactly|equal to)[,\s]+|[∴⇒→=]\s*)",
    re.IGNORECASE,
)
_HEADED = re.compile(r"^\*\*[^*\n]{1,40}(?:[:：]\*\*|\*\*[:：])\s*(?=\S)")
# A "not" before any value (but in "Not in the club: 30 - 18 = 12"), or one that takes a value back; "15 students did
# not come" is neither.
_REFUSES = re.compile(
    r"[^\d$*\\]*\b(?:not|isn't|cannot|can't)\b(?![^\d$*\\:]*:[^:=]+=)"
    r"|.*\b(?:not|isn't) (?:the|an?|correct|valid|possible|right|true)\b",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\s\([^()]*[A-Za-z]{2}[^()]*\)")
_IS = re.compile(r"\b(?:is|are|be|equals)\s+(?:at\s+|about\s+)?((?:(?!\b(?:is|are|be|equals)\b).)+)$", re.IGNORECASE)
_CHOSEN = re.compile(
    r"^[^\d$\\]*\b(?:with|choose|select|pick|is|it's|be|option|choice|answer)\s+\(?([A-J])\)?$"
    r"|^(?:[Oo]ption |[Cc]hoice )?\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:correct|right|best|true)\b"
)
_SAYS = re.compile(
    r"(?:\b(?:is|are|be|so|thus|hence|therefore|gives?|get|have|obtain|find|yields?)|equals|:|=)\s*[*_]*$",
    re.IGNORECASE,
)
_WORTH = re.compile(  # "$\\binom{5}{2}$ is equal to 5 x 4 / 2 = 10"
    r"\s*(?:is|are|=|equals|gives|yields|becomes)\s+(?:(?:equal to|exactly|approximately|about)\s+)?(?=[-−(]?\\?\$?\d)"
)
# What a sentence leads to: "There are 12 boys and 6 girls, making a total of 18 kids".
_LED_TO = re.compile(
    r",?\s+(?:so|thus|hence|therefore|which (?:gives|means|makes|rounds to|equals|totals)|giving|making|leaving"
    r"|resulting in|for a total of)\s+(?=\S)",
    re.IGNORECASE,
)
_MOST_WORDS = 4  # of a formula with its unit
_SPELLED = re.compile(  # "one" is more often no number
    rf"(?<![\w-])(?:{'|'.join(sorted(WORDS.keys() - {'one'}, key=len, reverse=True))})(?![\w-])", re.IGNORECASE
)
_PROSE_VALUE = re.compile(rf"\d|{_SPELLED.pattern}", re.IGNORECASE)
_VALUE = re.compile(r"\d|\$|\\\(")
_NAMED = re.compile(r"\b(?:is|be)\s+(?:on\s+)?(?:an?\s+)?[A-Z][a-z]{2,}$")  # "60 days later it is a Saturday"


def _without_names(formula: re.Match[str]) -> str:
    """A formula that is one letter and not the value of anything, "the number of $n$", as a letter of the text."""
    inside = next(g for g in formula.groups() if g).strip()
    before, after = formula.string[: formula.start()], formula.string[formula.end() :]
    name = re.fullmatch(r"[A-Za-z](?:_\{?\w\}?)?", inside) and not _SAYS.search(before)
    return inside if name and _PROSE_VALUE.search(FORMULA.sub(" ", before + after)) else formula[0]


def sentence_from(text: str, start: int) -> str:
    """From ``start`` to the end of the sentence; ends inside a formula do not count."""
    stretch = text[start : start + 600]
    masked = FORMULA.sub(lambda m: "x" * len(m[0]), stretch)
    end = SENTENCE_END.search(masked)
    return stretch[: end.start()] if end else stretch


def readable(text: str) -> bool:
    """Is a sentence mathematics as a whole, and not words with formulas in them?"""
    around, formulas = FORMULA.subn(" ", text)
    if formulas > 1 or (formulas and re.search(r"[A-Za-z]{2}", around)):
        return False
    if len(re.findall(r"(?<![\\A-Za-z{])[A-Za-z]{2,}", text)) > _MOST_WORDS:
        return False
    try:
        parse(text)
    except (Unreadable, RecursionError):
        return False
    return True


def is_formula(line: str) -> bool:
    """Is a line mathematics and nothing else?"""
    return bool(re.search(r"[\d\\=]", line)) and readable(line)


def is_label(text: str) -> bool:
    return bool(re.fullmatch(r"\W{0,4}(?:\\text(?:bf)?\{)?\(?[A-J]\)?\}?\W{0,3}", text))


def answer_in(sentence: str, marked: bool = False, result: str = "", question: str = "") -> str | None:
    """The answer that a sentence comes to; None if that is not clear.

    With ``marked`` it is what follows "the answer is", and what it begins with is the answer. ``result`` is the number
    that the working before it came to: of several numbers in the sentence that one is the answer, or else the only one
    that ``question`` does not have.
    """
    sentence = sentence.strip().removeprefix("**" if sentence.count("**") % 2 else "").strip("_ \t")
    sentence = OPENING.sub("", _HEADED.sub("", sentence))
    if re.match(r"\(?[A-J][).:]\s", sentence):  # a choice with its text, whatever that says
        return sentence
    if not sentence or re.search(r"\\(?:boxed|fbox)", sentence) or _REFUSES.match(sentence):
        return None
    if not marked and (led := list(_LED_TO.finditer(sentence))) and (found := answer_in(sentence[led[-1].end() :])):
        return found
    if chosen := _CHOSEN.search(sentence):
        return chosen[1] or chosen[2]
    if readable(sentence) or is_label(sentence):
        return sentence
    if (
        marked
        and not FORMULA.match(sentence)  # $8, 32,$ and $44$
        and (first := _NUMBER.match(sentence))
        and not re.match(r"[^.]{0,30}?[-+*/=×÷^<>]", sentence[first.end() :])
    ):
        return first[0] + _time_tail(sentence[first.end() :])
    bold = [a or b for a, b in _BOLD.findall(sentence)]
    if len(bold) == 1 and (readable(bold[0]) or not re.search(r"\d", sentence.replace(bold[0], ""))):
        return answer_in(bold[0]) or bold[0]
    if len(bold) == 1 and (first := _NUMBER.match(bold[0])) and not _VALUE.search(sentence.rpartition(bold[0])[2]):
        return first[0].strip()  # 3 - 2 = **1 more hot dog** than Luke
    sentence = FORMULA.sub(_without_names, sentence)
    pieces = [m for m in FORMULA.finditer(sentence)]
    contents = [next(g for g in m.groups() if g) for m in pieces]
    if len(contents) > 1:
        gaps = [sentence[a.end() : b.start()] for a, b in itertools.pairwise(pieces)]
        if all(re.fullmatch(r"[\s,;&]*(?:and|or)?[\s,]*", g) for g in gaps):
            asked = re.match(r"[^=]*[^\s=(][+-][^=]*=", contents[-1].replace(" ", ""))  # p = 3 and q = 4 and p + q = 7
            return contents[-1] if asked else ", ".join(contents)
    if len(contents) == 1:
        tail = sentence[pieces[0].end() :]
        if (value := _WORTH.match(tail)) and "=" not in contents[0] and (found := answer_in(tail[value.end() :])):
            return found
        with_unit = contents[0] + rf"\text{{{tail.strip()}}}"
        if re.fullmatch(r"\s*[a-z ]{1,30}", tail) and readable(with_unit):
            return with_unit
        return contents[0]
    if contents and marked and pieces[0].start() == 0:
        return contents[0]
    if contents:
        said = [c for c, m in zip(contents, pieces, strict=True) if _SAYS.search(sentence[: m.start()])]
        if not said and pieces[0].start() == 0 and ["=" in c for c in contents].count(True) == 1 and "=" in contents[0]:
            return contents[0]  # f(x) = x^2 for all real x
        return said[-1] if said else None
    if "=" in sentence and readable(right := sentence.rpartition("=")[2]):
        return right
    if (said := _IS.search(sentence)) and re.search(r"\d", said[1]) and readable(said[1]):
        return said[1]
    sentence = _ASIDE.sub("", sentence)
    numbers = [m for m in _NUMBER.finditer(sentence)]
    if len({m[0] for m in numbers}) == 1 and not (_NAMED.search(sentence) and numbers[-1].end() < len(sentence) / 2):
        return numbers[-1][0].strip() + _time_tail(sentence[numbers[-1].end() :])
    said = [
        m
        for m in numbers
        if re.search(r"(?:\bis|\bare|equals|be|:|=)\s*(?:about\s|approximately\s)?$", sentence[: m.start()])
    ]
    if said:
        return said[-1][0].strip()
    if result and (same := [m[0] for m in numbers if digits_of(m[0]) == result]):
        return same[-1].strip()
    given = {digits_of(m[0]) for m in _NUMBER.finditer(question[-20_000:])}
    if question and len(new := {digits_of(m[0]): m[0] for m in numbers if digits_of(m[0]) not in given}) == 1:
        return new.popitem()[1].strip()
    if not numbers and len(spelled := _SPELLED.findall(sentence)) == 1:
        return spelled[0]
    if not numbers or _NAMED.search(sentence):
        named = re.search(r"\b(?:is|are|be)\s+((?:on\s+)?(?:\S+\s+){0,2}\S+)$", sentence)
        if named or len(sentence.split()) <= 4:
            return named[1] if named else sentence
    return None


def digits_of(number: str) -> str:
    """A number as written, without money signs and commas."""
    return re.sub(r"[\\$,\s%]|\.0+$", "", number)


def _time_tail(text: str) -> str:
    tail = re.match(r"\s?(?:[ap]\.?m\b\.?|:\d\d(?:\s?[ap]\.?m\b)?)", text, re.IGNORECASE)
    return tail[0] if tail else ""
