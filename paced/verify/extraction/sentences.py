"""What a sentence comes to: the answer it states, or None where that is not clear."""

import itertools
import re
from collections.abc import Callable
from functools import cached_property

from paced.verify.extraction.choices import QUESTION_WINDOW
from paced.verify.grammar.notation import Unreadable
from paced.verify.grammar.parse import parse
from paced.verify.grammar.units import unit
from paced.verify.grammar.words import NUMBER_WORDS

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
# Words in brackets behind the answer: "6 trips (5 full ones and 1 partial)".
_ASIDE = re.compile(r"\s\([^()]*[A-Za-z]{2}[^()]*\)")
# What the last verb of a sentence says: "the total number of them is 12".
_IS = re.compile(r"\b(?:is|are|be|equals)\s+(?:at\s+|about\s+)?((?:(?!\b(?:is|are|be|equals)\b).)+)$", re.IGNORECASE)
# The letter of a choice: "so I would go with B", "Option C is correct".
_CHOSEN = re.compile(
    r"^[^\d$\\]*\b(?:with|choose|select|pick|is|it's|be|option|choice|answer)\s+\(?([A-J])\)?$"
    r"|^(?:[Oo]ption |[Cc]hoice )?\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:correct|right|best|true)\b"
)
# What may stand right before a formula that is the answer.
_SAYS = re.compile(
    r"(?:\b(?:is|are|be|so|thus|hence|therefore|gives?|get|have|obtain|find|yields?)|equals|:|=),?\s*[*_]*$",
    re.IGNORECASE,
)
# What may connect the formula at the end of a sentence with what leads to it.
_CONNECTS = re.compile(
    r"\b(?:or|of|with|that|by|total|remain(?:s|ing)?|to|costs?|pays?|spends?|contains|has|have|are|at|only|roughly)\s*$",
    re.IGNORECASE,
)
# What a question asks for by its name.
_ASKED = re.compile(
    r"\b(?:find|what is|what are|compute|determine|solve for|value of|values of)\b[^.?!$]{0,50}\$$", re.I
)
_NAME = r"(?:[A-Za-z]{1,3}|\\[a-z]+)(?:_\{?\w+\}?)?(?:\(\w+\))?"
_NAME_ALONE = re.compile(rf"\s*{_NAME}\s*[.,]?\s*")
# A number of things, where the question asks how many there are.
_COUNT = re.compile(
    r"\b(?:there (?:is|are|were|will be|must be)|leaves|leaving|makes|total of)\s+(?:only |exactly |a total of )?"
    r"\$(\d[\d,{}!\\]*)\$",
    re.IGNORECASE,
)
_HOW_MANY = re.compile(r"\bhow many\b|\bnumber of\b", re.IGNORECASE)
# The value that a formula is said to have: "$\\binom{5}{2}$ is equal to 5 x 4 / 2 = 10".
_WORTH = re.compile(
    r"\s*(?:is|are|=|equals|gives|yields|becomes)\s+(?:(?:equal to|exactly|approximately|about)\s+)?(?=[-−(]?\\?\$?\d)"
)
# What a sentence leads to: "There are 12 boys and 6 girls, making a total of 18 kids".
_LED_TO = re.compile(
    r",?\s+(?:(?:so|thus|hence|therefore|i\.e\.|that is|namely),?|which (?:gives|means|makes|rounds (?:up |down )?to"
    r"|equals|totals|implies)|giving|making|leaving|resulting in|for a total of)\s+(?=\S)",
    re.IGNORECASE,
)
_ROUNDED = re.compile(r",?\s+which rounds (?:up |down )?to\s+(?=\S)")
# What may stand right before a number that is the answer.
_STATES = re.compile(r"(?:\bis|\bare|equals|be|:|=)\s*(?:about\s|approximately\s)?$")
# Where something is attained, behind what it is: "The minimum, 42, is attained at x = 3".
_ATTAINED = re.compile(
    r",?\s*(?:which\s+|and\s+)?(?:(?:it\s+)?(?:is|are|being|was)\s+)?"
    r"(?:attained|achieved|reached|realized|occurs|occurring|with equality|where equality)\b.*$",
    re.IGNORECASE,
)
# Words that make another value of the number or formula next to them, in one table for each class of words.
_COMPARING = "least most less more fewer greater larger smaller higher lower below above under over exceeds beyond"
_MULTIPLYING = "twice thrice half double triple third quarter times square cube root multiple power reciprocal"
_DENYING = "but except not never cannot can't isn't without"
_REFERRING = (
    "section equation formula step figure problem page part line case table theorem lemma chapter example exercise "
    "method eq fig"
)
_JOINING = r"(?:\s+(?:of|than|or|the|a|an|be|to|by|equal))*"  # may stand between such a word and the value
_CHANGED_IN_FRONT = re.compile(
    rf"(?<![\w'])(?P<word>{'|'.join(f'{_COMPARING} {_MULTIPLYING} {_DENYING} {_REFERRING}'.split())})"
    rf"\.?{_JOINING}\s+[*_$\\(]*$",
    re.IGNORECASE,
)
_CHANGED_BEHIND = re.compile(
    r"[*_$\\)]*\s+(?:(?P<word>times|squared|cubed|factorial|hundred|dozen)\b"
    r"|and (?:a|one|three) (?:half|third|quarters?)"
    r"|(?:less|more|fewer|greater|smaller|larger) than \\?\$?\d|(?:or|and) (?:more|less|fewer|greater|above|below)\b"
    r"|(?:plus|minus|out of|to the)\s+\S|%? ?(?:percent )?of \\?\$?\d)",
    re.IGNORECASE,
)
_SIGN_IN_WORDS = re.compile(r"(?<![\w$)}]\s)(?<!\w)(?:negative|minus)\s+(\$?)(?=\\?\$?\d|\\frac|\\sqrt)", re.IGNORECASE)
_MEASURED_IN_WORDS = re.compile(r"\s*((?:\\?\$\s?)?-?\d[\d,]*(?:\.\d+)?%?)((?:\s[A-Za-z'-]+){1,8})")
_CONDITION = re.compile(r"\b(?:and|or|not|if|when|where|for|[ap]m|mod|more|less|fewer|to)\b")
_ANSWER = re.compile(r"\banswer (?:is|=|:)", re.IGNORECASE)
_ASKED_WINDOW = 80
_CHANGING_WINDOW, _MOST_WORDS_IN_FRONT = 60, 12
_EXTREME = re.compile(r"\b(?:least|most|minimum|maximum|smallest|largest|fewest|greatest|how many|how much)\b", re.I)
_MOST_WORDS = 4  # of a formula with its unit, or of an answer in words
# A number in words; "one" is more often none.
_SPELLED = re.compile(
    rf"(?<![\w-])(?:{'|'.join(sorted(NUMBER_WORDS.keys() - {'one'}, key=len, reverse=True))})(?![\w-])", re.IGNORECASE
)
_PROSE_VALUE = re.compile(rf"\d|{_SPELLED.pattern}", re.IGNORECASE)
_VALUE = re.compile(r"\d|\$|\\\(")
# A name as the answer: "60 days later it is a Saturday".
_NAMED = re.compile(r"\b(?:is|be)\s+(?:on\s+)?(?:an?\s+)?[A-Z][a-z]{2,}$")
_LONGEST_SENTENCE = 600  # characters


def content_of(formula: re.Match[str]) -> str:
    """A formula, found by ``FORMULA``, without its marks."""
    return next(g for g in formula.groups() if g)


def _without_names(formula: re.Match[str]) -> str:
    """A formula that is one letter and not the value of anything, "the number of $n$", as a letter of the text."""
    inside = content_of(formula).strip(" .,")
    before, after = formula.string[: formula.start()], formula.string[formula.end() :]
    name = re.fullmatch(r"[A-Za-z](?:_\{?\w\}?)?", inside) and not _SAYS.search(before)
    return inside if name and _PROSE_VALUE.search(FORMULA.sub(" ", before + after)) else formula[0]


def sentence_from(text: str, start: int) -> str:
    """From ``start`` to the end of the sentence; ends inside a formula do not count."""
    stretch = text[start : start + _LONGEST_SENTENCE]
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
    if re.match(r"[A-Za-z']+ [a-z]{2,}\b.*=", line):  # He makes $6*$7=$42
        return False
    return bool(re.search(r"[\d\\=]", line)) and readable(line)


def is_label(text: str) -> bool:
    """Is a text the letter of a choice and nothing else?"""
    return bool(re.fullmatch(r"\W{0,4}(?:\\text(?:bf)?\{)?\(?[A-J]\)?\}?\W{0,3}", text))


class Sentence:
    """A sentence whose answer is looked for; what the steps need of it is found once.

    With ``marked`` it is what follows "the answer is". ``result`` is the number that the working before it came to.
    """

    def __init__(self, text: str, marked: bool, result: str, question: str):
        self.text, self.marked, self.result, self.question = text, marked, result, question

    @cached_property
    def formulas(self) -> list[re.Match[str]]:
        return list(FORMULA.finditer(self.text))

    @cached_property
    def contents(self) -> list[str]:
        """The formulas without their marks."""
        return [content_of(m) for m in self.formulas]

    @cached_property
    def bold(self) -> list[str]:
        return [a or b for a, b in _BOLD.findall(self.text)]

    @cached_property
    def numbers(self) -> list[re.Match[str]]:
        return list(_NUMBER.finditer(self.text))


Step = Callable[[Sentence], str | None]
"""The answer of a sentence; empty if it surely has none, None if the step does not apply."""
_NO_ANSWER = ""


def answer_in(sentence: str, marked: bool = False, result: str = "", question: str = "") -> str | None:
    """The answer that a sentence comes to; None if that is not clear.

    With ``marked`` it is what follows "the answer is", and what it begins with is the answer. ``result`` is the number
    that the working before it came to: of several numbers in the sentence that one is the answer, or else the only one
    that ``question`` does not have.
    """
    text = sentence
    if question and not marked and (value := _value_of_the_asked_name(sentence, question)):
        return value
    for simplified, steps in _STAGES:
        text = simplified(text)
        simple = Sentence(text, marked, result, question)
        for step in steps:
            answer = step(simple)
            if answer is not None:
                return answer or None
    return None


def _value_of_the_asked_name(sentence: str, question: str) -> str | None:
    """``x = 3`` of a sentence, where the question asks for x by its name and nothing else; or how many "there are"."""
    question = question[-QUESTION_WINDOW:]
    counts = _COUNT.findall(sentence) if _HOW_MANY.search(question) else []
    if counts:
        return counts[-1]
    formulas = FORMULA.finditer(question)
    asked = {content_of(m).strip(" .") for m in formulas if _ASKED.search(question[: m.start() + 1][-_ASKED_WINDOW:])}
    if len(asked) != 1 or not re.fullmatch(_NAME, name := asked.pop()):
        return None
    given = [c for c in map(content_of, FORMULA.finditer(sentence)) if re.match(rf"\s*{re.escape(name)}\s*=[^=]", c)]
    return given[0] if len(set(given)) == 1 and "\\pm" not in given[0] else None


# The sentence as it stands


def _without_opening(text: str) -> str:
    text = text.strip().removeprefix("**" if text.count("**") % 2 else "").strip("_ \t")
    text = _SIGN_IN_WORDS.sub(r"\1-", OPENING.sub("", _HEADED.sub("", text)))
    if (attained := _ATTAINED.search(text)) and _VALUE.search(text[: attained.start()]):
        text = text[: attained.start()]
    return text


def _choice_with_its_text(s: Sentence) -> str | None:
    return s.text if re.match(r"\(?[A-J][).:]\s", s.text) else None


def _refusal(s: Sentence) -> str | None:
    """A sentence that says what the answer is not, or that is a box, which is looked at elsewhere."""
    refused = not s.text or re.search(r"\\(?:boxed|fbox)", s.text) or _REFUSES.match(s.text)
    return _NO_ANSWER if refused else None


def _what_it_leads_to(s: Sentence) -> str | None:
    led = [
        m
        for m in (_ROUNDED if s.marked else _LED_TO).finditer(s.text)
        if not m[0].strip(" ,").endswith("ing") or _PROSE_VALUE.search(s.text, m.end())  # 12 will be leaving early
    ]
    return answer_in(s.text[led[-1].end() :]) if led else None


def _chosen_letter(s: Sentence) -> str | None:
    chosen = _CHOSEN.search(s.text)
    return (chosen[1] or chosen[2]) if chosen else None


def _whole_sentence(s: Sentence) -> str | None:
    return s.text if readable(s.text) or is_label(s.text) else None


def _changed_value(s: Sentence) -> str | None:
    """A value that the words next to it change: "at least 5", "half of 5", "5 squared", "can't be 5", "section 5"."""
    values = s.formulas or s.numbers
    if not values or not (s.marked or len(values) == 1 or _ANSWER.search(s.text)):
        return None
    before, after = s.text[: values[0].start()], s.text[values[0].end() :]
    changed = _CHANGED_IN_FRONT.search(before[-_CHANGING_WINDOW:]) or _CHANGED_BEHIND.match(after[:_CHANGING_WINDOW])
    if changed is None or (s.marked and before.count(" ") > _MOST_WORDS_IN_FRONT):
        return None
    word = (changed["word"] or "").lower()
    asked = word in _COMPARING.split() and not s.marked and _EXTREME.search(s.question)
    return None if asked or (word == "times" and "times" in s.question) else _NO_ANSWER


def _number_in_front(s: Sentence) -> str | None:
    """The number with which what follows "the answer is" begins, if it is not the first of a computation."""
    if not s.marked or FORMULA.match(s.text):  # $8, 32,$ and $44$
        return None
    first = _NUMBER.match(s.text)
    if first is None or re.match(r"[^.]{0,30}?[-+*/=×÷^<>]", s.text[first.end() :]):
        return None
    return first[0] + _time_tail(s.text[first.end() :])


def _bold_part(s: Sentence) -> str | None:
    if len(s.bold) != 1:
        return None
    [part] = s.bold
    if readable(part) or not re.search(r"\d", s.text.replace(part, "")):
        return answer_in(part) or part
    if (first := _NUMBER.match(part)) and not _VALUE.search(s.text.rpartition(part)[2]):
        return first[0].strip()  # 3 - 2 = **1 more hot dog** than Luke
    return None


# Its formulas


def _with_names_as_letters(text: str) -> str:
    return FORMULA.sub(_without_names, text)


def _formulas_side_by_side(s: Sentence) -> str | None:
    if len(s.contents) < 2:
        return None
    gaps = [s.text[a.end() : b.start()] for a, b in itertools.pairwise(s.formulas)]
    if not all(re.fullmatch(r"[\s,;&]*(?:and|or)?[\s,]*", g) for g in gaps):
        return None
    last = s.contents[-1]
    if (name := re.match(r"\s*([A-Za-z](?:_\{?\w\}?)?)\s*=[^=]+$", last)) and any(
        re.search(rf"(?<![a-zA-Z\\]){re.escape(name[1])}(?![a-zA-Z])", c) and not c.strip().startswith(name[1])
        for c in s.contents[:-1]
    ):
        return last  # 5x = 30 and x = 6
    if all("=" in c for c in s.contents) and not re.match(rf"\s*{_NAME}\s*=", last):
        return last  # 625 = 5^4 and \log_{625} 5 = 1/4
    combined = re.match(r"[^=]*[^\s=(][+-][^=]*=", last.replace(" ", ""))  # p = 3 and q = 4 and p + q = 7
    return last if combined else ", ".join(s.contents)


def _only_formula(s: Sentence) -> str | None:
    """The only formula, with its unit behind it or the value that it is said to be equal to."""
    if len(s.contents) != 1:
        return None
    [content] = s.contents
    tail = s.text[s.formulas[0].end() :]
    if (value := _WORTH.match(tail)) and "=" not in content and (found := answer_in(tail[value.end() :])):
        return found
    with_unit = content + rf"\text{{{tail.strip()}}}"
    return with_unit if re.fullmatch(r"\s*[a-z ]{1,30}", tail) and readable(with_unit) else content


def _formula_in_front(s: Sentence) -> str | None:
    return s.contents[0] if s.marked and s.formulas and s.formulas[0].start() == 0 else None


def _stated_formula(s: Sentence) -> str | None:
    """Of several formulas the one behind "is" or "so", or an equation at the end; else the first, an equation alone."""
    if not s.contents:
        return None
    formulas = [m for m in s.formulas if not _NAME_ALONE.fullmatch(content_of(m)) or _SAYS.search(s.text[: m.start()])]
    closing = formulas[-1] if formulas else s.formulas[-1]
    last, before = content_of(closing), s.text[: closing.start()]
    ends = len(re.findall(r"[A-Za-z]{2,}", FORMULA.sub("", s.text[closing.end() :]))) <= _MOST_WORDS
    if ends and (_SAYS.search(before) or "=" in last or _CONNECTS.search(before)):
        return last
    stated = [c for c, m in zip(s.contents, s.formulas, strict=True) if _SAYS.search(s.text[: m.start()])]
    if stated:
        return stated[-1]
    equations = [c for c in s.contents if "=" in c]
    if s.formulas[0].start() == 0 and len(equations) == 1 and "=" in s.contents[0]:
        return s.contents[0]  # f(x) = x^2 for all real x
    return last if ends else _NO_ANSWER


def _right_side(s: Sentence) -> str | None:
    _, sign, right = s.text.rpartition("=")
    return right if sign and readable(right) else None


def _number_behind_equals(s: Sentence) -> str | None:
    """``10 * 5 = $50 a week``: the number behind the last equals sign, with nothing but words behind it."""
    _, sign, right = s.text.rpartition("=")
    value = _MEASURED_IN_WORDS.fullmatch(right) if sign else None
    if value is None or _CHANGED_BEHIND.match(value[2]) or _CONDITION.search(value[2]):
        return None
    words = value[2].split()
    return value[1] + value[2] if len(words) == 1 or unit(value[2].strip()).dimension else value[1]


def _what_it_is(s: Sentence) -> str | None:
    said = _IS.search(s.text)
    return said[1] if said and re.search(r"\d", said[1]) and readable(said[1]) else None


# Its numbers and words


def _without_asides(text: str) -> str:
    return _ASIDE.sub("", text)


def _only_number(s: Sentence) -> str | None:
    if len({m[0] for m in s.numbers}) != 1:
        return None
    last = s.numbers[-1]
    if _NAMED.search(s.text) and last.end() < len(s.text) / 2:
        return None
    return last[0].strip() + _time_tail(s.text[last.end() :])


def _stated_number(s: Sentence) -> str | None:
    stated = [m for m in s.numbers if _STATES.search(s.text[: m.start()])]
    return stated[-1][0].strip() if stated else None


def _result_of_the_working(s: Sentence) -> str | None:
    same = [m[0] for m in s.numbers if s.result and digits_of(m[0]) == s.result]
    return same[-1].strip() if same else None


def _number_that_the_question_lacks(s: Sentence) -> str | None:
    if not s.question:
        return None
    given = {digits_of(m[0]) for m in _NUMBER.finditer(s.question[-QUESTION_WINDOW:])}
    new = {digits: m[0] for m in s.numbers if (digits := digits_of(m[0])) not in given}
    return new.popitem()[1].strip() if len(new) == 1 else None


def _spelled_number(s: Sentence) -> str | None:
    spelled = [] if s.numbers else _SPELLED.findall(s.text)
    return spelled[0] if len(spelled) == 1 else None


def _few_words(s: Sentence) -> str | None:
    """The words behind the last "is", or a sentence of a few words; with a number in it only if it ends in a name."""
    if s.numbers and not _NAMED.search(s.text):
        return None
    named = re.search(r"\b(?:is|are|be)\s+((?:on\s+)?(?:\S+\s+){0,2}\S+)$", s.text)
    if named:
        return named[1]
    return s.text if len(s.text.split()) <= _MOST_WORDS else None


# The steps are tried in order, each stage on the text of the one before it, further simplified.
_STAGES: tuple[tuple[Callable[[str], str], tuple[Step, ...]], ...] = (
    (
        _without_opening,
        (
            _choice_with_its_text,
            _refusal,
            _what_it_leads_to,
            _chosen_letter,
            _number_behind_equals,
            _whole_sentence,
            _changed_value,
            _number_in_front,
            _bold_part,
        ),
    ),
    (
        _with_names_as_letters,
        (
            _formulas_side_by_side,
            _only_formula,
            _formula_in_front,
            _stated_formula,
            _right_side,
            _what_it_is,
        ),
    ),
    (
        _without_asides,
        (
            _only_number,
            _stated_number,
            _result_of_the_working,
            _number_that_the_question_lacks,
            _spelled_number,
            _few_words,
        ),
    ),
)


def digits_of(number: str) -> str:
    """A number as written, without money signs and commas."""
    return re.sub(r"[\\$,\s%]|\.0+$", "", number)


def _time_tail(text: str) -> str:
    """What makes a number a time of day: minutes, and the half of the day; empty if neither follows."""
    tail = re.match(r"\s?(?:[ap]\.?m\b\.?|:\d\d(?:\s?[ap]\.?m\b)?)", text, re.IGNORECASE)
    return tail[0] if tail else ""
