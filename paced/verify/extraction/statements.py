"""Where a response says what its answer is: boxes, "#### ..." lines, "the answer is ...", headings.

Every search is linear in the text.
"""

import re
from typing import NamedTuple

from paced.verify.extraction.endings import concluded, first_block, last_value
from paced.verify.extraction.sentences import FORMULA, SENTENCE_END, answer_in, content_of, readable, sentence_from

MOST_STATEMENTS = 30  # of one kind that are looked at, from the last
# Characters that are looked at: behind a box that is never closed, behind and before the word "answer" and before that
# for a denial, below a heading; and those behind a box that may end in an "Answer:" line.
_UNCLOSED_WINDOW, _AFTER_WINDOW, _BEFORE_WINDOW, _DENIAL_WINDOW, _TITLE_WINDOW = 300, 140, 250, 60, 1_000
_LONGEST_END = 400


class Statement(NamedTuple):
    """The place of a statement in the text, and the answer that it states.

    ``formal`` says that it stands on a line or under a heading of its own, and not in a sentence.
    """

    start: int
    end: int
    content: str
    formal: bool = False


_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*")
_BRACE = re.compile(r"\\[{}\\]|[{}]")
_FORMULA_END = re.compile(r"\$|\\\)|\\\]")
_BARE = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?|\\frac\s*\d\s*\d|\\[a-zA-Z]+|[A-Za-z]")
_INTRODUCTION = re.compile(
    r"^\s*\\text\s*\{(?:[^{}]{0,80}(?:\b(?:is|are|equals)(?:\s+about)?:?|:)|\s*(?:therefore|thus|hence|so|then),?)\s*\}"
    r"(?=\s*[^\s{])",
    re.IGNORECASE,
)
_HASHES = re.compile(r"^[ \t>*]*####[ \t]*(?=\S)([^\n]{1,300})", re.MULTILINE)
# The word for "answer", and what may stand between it and the answer, in the languages that models answer in.
_ANSWER_WORDS = "Antwort|Lösung|réponse|respuesta|resposta|risposta|ответ|답|정답|答案|答え|答："
_COPULAS = "lautet|ist|est|es|é|è|это|은|는|は"
_ENGLISH_MARK = r"answer|\bans(?=[:.] ?\S)|(?:correct|right|best) (?:option|choice)"
_MARK = re.compile(_ENGLISH_MARK, re.IGNORECASE)
_ANY_MARK = re.compile(rf"{_ENGLISH_MARK}|{_ANSWER_WORDS}", re.IGNORECASE)
_COPULA_BEHIND = re.compile(r"(?:です|である|だ|입니다|이다)$")
# A choice in Chinese: "故选C", "正确选项为(C)".
_CHOSEN_IN_CHINESE = re.compile(
    r"(?<![不没])(?:选|選)(?:择|擇)?\s*[:：]?\s*[*(（$]*([A-J])(?![A-Za-z])|(?:选项|選項)(?:是|为|為)\s*[:：]?\s*[*(（$]*([A-J])(?![A-Za-z])"
)
_BEFORE = re.compile(
    r"([^\n]{1,200}?)(?:,?\s+which)?\s+(?:is|are)\s+(?:the|our|my)\s+(?:final\s+|correct\s+|right\s+|best\s+)?$",
    re.IGNORECASE,
)  # "42 is the answer"
_AFTER = re.compile(
    r"[*_]{0,3}(?:(?:s|\(s\))?[*_]{0,3}(?:[ \t]{0,2}|\n(?=(?:to|of|for|is|are)\b))"
    r"(?:to|of|for|in|,|therefore|thus|then|choice|option|value|key)?\b"
    r"[^.\n:=$\\]{0,80}?)?\s{0,3}[*_]{0,3}\s{0,2}"
    rf"(?P<sign>:|=|：|是|为|為|[-–—](?=\s+\S)|"
    rf"\b(?:is|are|was|be|equals|would be|should be|must be|{_COPULAS})\b|[은는は])"
    r"(?P<rest>[\s*_:：]{0,12})",
    re.IGNORECASE,
)
_TITLE = re.compile(
    r"(?:^|\n)[ \t]*(?:#{1,6}[ \t]*|[*_]{2})?(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t]*[*_:.]{0,4}[ \t]*\n+",
    re.IGNORECASE,
)
_ANSWER_LINE = re.compile(
    r"^[#*\s]{0,6}(?:final )?answer\W{0,4}[:：]\**[ \t]*(\S[^\n]{0,200})$", re.IGNORECASE | re.MULTILINE
)
_LINE_START = re.compile(r"[#*_>\s]{0,8}(?:the\s+)?(?:final\s+|correct\s+)?", re.IGNORECASE)
_INSTEAD = re.compile(r",?\s+(?:and\s+)?(?:not|rather than|instead of)\s+\(?[A-J]\)?$")  # "C, not B"
_REFUSED = re.compile(r"\b(?:not|never|cannot)\b|n't\b", re.IGNORECASE)  # between "answer" and what it is
_DENIED = re.compile(
    r"\b(?:not|never|isn't|cannot|whether|if|check|verify|suppose|assume|guess)\b"
    r"(?:(?!,\s*(?:and\s+)?(?:so|thus|hence|therefore)\b)[^.\n]){0,40}$",
    re.IGNORECASE,
)


def boxes(text: str) -> list[Statement]:
    """All boxes that are not inside another one, in order; one that is never closed behind others has no content."""
    closings: dict[int, int] | None = None
    found: list[Statement] = []
    for match in _BOX.finditer(text):
        start, at = match.start(), match.end()
        if found and start < found[-1].end:
            continue
        closings = _closings(text, start) if closings is None else closings
        if (box := _box(text, start, at, closings)) is not None:
            found.append(box)
        elif found and text[at : at + 1] == "{":
            found.append(Statement(start, len(text), ""))
    return [s._replace(content=without_introduction(s.content)) for s in found]


def without_introduction(content: str) -> str:
    """An answer without the words that lead up to it: ``\\text{The maximum is } 12``, ``\\text{Therefore, } 12``."""
    return _INTRODUCTION.sub("", content)


def _box(text: str, start: int, at: int, closings: dict[int, int]) -> Statement | None:
    """The box from ``start`` on, whose content begins at ``at``; None if it has no content that ends."""
    if text[at : at + 1] != "{":
        bare = _BARE.match(text, at)
        return Statement(start, bare.end(), bare[0]) if bare else None
    if (end := closings.get(at)) is not None:
        return Statement(start, end + 1, text[at + 1 : end])
    stop = _FORMULA_END.search(text, at, at + _UNCLOSED_WINDOW)  # never closed: read to the end of its formula
    if stop is None or "\n" in text[at : stop.start()].strip():
        return None
    return Statement(start, stop.start(), text[at + 1 : stop.start()])


def _closings(text: str, start: int) -> dict[int, int]:
    """Where each brace from ``start`` on closes, found in one pass."""
    closings: dict[int, int] = {}
    opened: list[int] = []
    for match in _BRACE.finditer(text, start):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            closings[opened.pop()] = match.start()
    return closings


def hashes(text: str) -> list[Statement]:
    """The last ``#### ...`` lines that are no headings."""
    lines = list(_HASHES.finditer(text))[-MOST_STATEMENTS:]
    return [Statement(m.start(), m.end(), answer, True) for m in lines if (answer := _on_hash_line(m[1]))]


def _on_hash_line(content: str) -> str | None:
    """The answer on a ``####`` line; None for a heading."""
    content = content.strip()
    if re.match(r"[\d\-+.$\\(\[{−]|\*\*[\d\-+.$\\(]", content) or len(content.split()) == 1:
        return answer_in(content) or content
    return None


def statements(text: str) -> list[Statement]:
    """What stands before and after "answer is", "Answer:" and the like, and below headings of that name."""
    found: list[Statement] = []
    lowered = text.lower()
    marks = _ANY_MARK if any(word in lowered for word in _ANSWER_WORDS.lower().split("|")) else _MARK
    for mark in list(marks.finditer(text))[-MOST_STATEMENTS:]:
        after = _AFTER.match(text, mark.end(), mark.end() + _AFTER_WINDOW)
        if after is None:
            content = _said_before(text, mark.start())
            found += [Statement(mark.start(), mark.end(), content)] if content else []
        elif not _DENIED.search(text[max(0, mark.start() - _DENIAL_WINDOW) : mark.start()]):
            formal = after["sign"] in ":：" and _LINE_START.fullmatch(
                text, text.rfind("\n", 0, mark.start()) + 1, mark.start()
            )
            statement = _said_after(text, mark.start(), after.end(), bool(formal))
            found += [statement] if statement else []
    for title in list(_TITLE.finditer(text))[-MOST_STATEMENTS:]:
        content = last_value(first_block(text[title.end() : title.end() + _TITLE_WINDOW]))
        found += [Statement(title.start(), title.end(), content, True)] if content else []
    chinese = "选" in text or "選" in text
    for chosen in list(_CHOSEN_IN_CHINESE.finditer(text))[-MOST_STATEMENTS:] if chinese else ():
        found.append(Statement(chosen.start(), chosen.end(), chosen[1] or chosen[2]))
    return found


def _said_after(text: str, mark: int, rest: int, formal: bool) -> Statement | None:
    """The answer that stands from ``rest`` on, behind "the answer is", which begins at ``mark``."""
    if re.match(r"(?:not|n't)\b", text[rest : rest + 4]) or _REFUSED.search(text[mark:rest]):
        return None
    if text.startswith("\\begin{", rest):
        shown = concluded(text[rest : rest + _TITLE_WINDOW])
        content = content_of(m) if (m := FORMULA.match(shown.strip())) else None
        return Statement(mark, rest + len("\\begin{"), content, formal) if content else None
    sentence = _INSTEAD.sub("", _COPULA_BEHIND.sub("", sentence_from(text, rest)))
    if not sentence.strip("*_ \t$"):
        return None
    opened_in_bold = text.count("**", text.rfind("\n", 0, mark) + 1, rest) % 2 == 1
    content = answer_in(sentence.partition("**")[0] if opened_in_bold else sentence, marked=True)
    return Statement(mark, rest + len(sentence), content, formal) if content else None


def _said_before(text: str, mark: int) -> str | None:
    """The answer that stands before its name: "42 is the answer"."""
    line = text[max(text.rfind("\n", 0, mark) + 1, mark - _BEFORE_WINDOW) : mark]
    before = _BEFORE.search(line)
    return answer_in(SENTENCE_END.split(before[1])[-1]) if before else None


def answer_line(rest: str) -> str | None:
    """The answer of an "Answer:" line after the last box, near the end of the response."""
    lines = list(_ANSWER_LINE.finditer(rest)) if len(rest) < _LONGEST_END else []
    content = answer_in(lines[-1][1], marked=True) if lines else None
    return content if content and re.search(r"\d", content) and readable(content) else None
