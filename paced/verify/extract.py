"""Find the final answer in a response: what the response itself says is its answer.

In this order: the last ``\\boxed{}``; the last ``####`` line; the last "answer is ..." or "Answer: ..." statement or
"# Answer" heading; and, where nothing says "answer", what the last sentence of a finished response comes to. Every
pass over the text is linear, over at most the last ``WINDOW`` characters.
"""

import re
from typing import NamedTuple

from paced.verify.choices import listed
from paced.verify.endings import block_at_end, first_block, last_value, last_words, looks_finished, result_of
from paced.verify.notation import Unreadable
from paced.verify.parse import parse
from paced.verify.sentences import SENTENCE_END, answer_in, readable, sentence_from
from paced.verify.texts import words

WINDOW = 100_000  # an answer stands at the end
_STATEMENTS = 30  # of one kind that are looked at, from the last


class Found(NamedTuple):
    """``parts`` are the answers given side by side (one, as a rule); ``where`` says in words where they stand."""

    parts: tuple[str, ...]
    where: str

    @property
    def text(self) -> str:
        return ", ".join(self.parts)


class NoAnswer(NamedTuple):
    """The response states no answer that could be graded."""

    reason: str


class _Statement(NamedTuple):
    start: int
    end: int
    content: str


_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*")
# A chat template's end of turn: what stands behind it is another conversation.
_TURN = (  # two searches, each from a character that is rare
    re.compile(r"<(?:\|(?:im_end|endoftext|eot_id|end_of_text|end)\|>|/s>|end_of_turn>)"),
    re.compile(r"\n(?:Human|User): "),
)
_BRACE = re.compile(r"\\[{}\\]|[{}]")
_BARE = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?|\\frac\s*\d\s*\d|\\[a-zA-Z]+|[A-Za-z]")
_HASHES = re.compile(r"^[ \t>*]*####[ \t]*(?=\S)([^\n]{1,300})", re.MULTILINE)
_MARK = re.compile(r"answer|\bans(?=[:.] ?\S)|(?:correct|right|best) (?:option|choice)|答案|答：", re.IGNORECASE)
_BEFORE = re.compile(
    r"([^\n]{1,200}?)(?:,?\s+which)?\s+(?:is|are)\s+(?:the|our|my)\s+(?:final\s+|correct\s+|right\s+|best\s+)?$",
    re.IGNORECASE,
)  # "42 is the answer"
_AFTER = re.compile(
    r"[*_]{0,3}(?:(?:s|\(s\))?[*_]{0,3}\s{0,2}(?:to|of|for|in|,|therefore|thus|then|choice|option|value|key)?\b"
    r"[^.\n:=$\\]{0,80}?)?\s{0,3}[*_]{0,3}\s{0,2}"
    r"(?P<sign>:|=|：|是|为|\b(?:is|are|was|be|equals|would be|should be|must be)\b)(?P<rest>[\s*_:：]{0,12})",
    re.IGNORECASE,
)
_TITLE = re.compile(
    r"(?:^|\n)[ \t]*(?:#{1,6}[ \t]*|[*_]{2})?(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t]*[*_:.]{0,4}[ \t]*\n+",
    re.IGNORECASE,
)
_ANSWER_LINE = re.compile(
    r"^[#*\s]{0,6}(?:final )?answer\W{0,4}[:：]\**[ \t]*(\S[^\n]{0,200})$", re.IGNORECASE | re.MULTILINE
)
_DENIED = re.compile(
    r"\b(?:not|never|isn't|cannot|whether|if|check|verify|suppose|assume|guess)\b[^.\n]{0,40}$", re.IGNORECASE
)
_LETTERED = re.compile(r"(?<![\w(])[(*_]{0,4}([A-J])[).:][*_\s]*(?=\S)")
_DENIED_CHOICE = re.compile(r"\b(?:not|isn't|except|than|eliminates?|excludes?)\W*$", re.IGNORECASE)
# Between two answers: what takes the first back, and what leaves both standing.
_REVOKED = re.compile(
    r"\b(?:wait|correct(?:ion|ed|ing)?|actually|sorry|mistake|incorrect|wrong|re-?check\w*|instead|should|no|"
    r"not|hmm|apolog\w+|error|let me|let's|double-check|re-?evaluat\w*|however|but|check|verify|oops|rather|"
    r"revis\w+|re-?examin\w*)\b",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?:or|alternative(?:ly)?|maybe|perhaps|possibl[ey]|possibility|could(?: also)? be|might(?: also)? be|"
    r"guess(?:es)?|another (?:answer|option|candidate|guess)|either)\b",
    re.IGNORECASE,
)
_LED_ON = re.compile(r"\b(?:so|thus|therefore|hence|which gives|giving|finally)\b", re.IGNORECASE)
_FINAL = re.compile(r"\bfinal\s+$", re.IGNORECASE)
_REASONING = 60  # characters of prose between two answers that make the first a step on the way
_GUESSES = 6  # different boxed answers in one response: no answer any more


def _braces(text: str, start: int) -> dict[int, int]:
    """Where each brace from ``start`` on closes, found in one pass."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for match in _BRACE.finditer(text, start):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            pairs[opened.pop()] = match.start()
    return pairs


_SAID = re.compile(r"^\s*\\text\s*\{[^{}]{0,80}(?:\b(?:is|are|equals)(?:\s+about)?:?|:)\s*\}(?=\s*[^\s{])")


def _boxes(text: str) -> list[_Statement]:
    """All boxes that are not inside another one, in order."""
    pairs: dict[int, int] | None = None
    found: list[_Statement] = []
    for match in _BOX.finditer(text):
        start, at = match.start(), match.end()
        if found and start < found[-1].end:
            continue
        pairs = _braces(text, start) if pairs is None else pairs
        if text[at : at + 1] == "{":
            end = pairs.get(at)
            if end is None:  # never closed: read to the end of its formula, if the formula ends
                stop = re.compile(r"\$|\\\)|\\\]").search(text, at, at + 300)
                if stop is None or "\n" in text[at : stop.start()].strip():
                    continue
                found.append(_Statement(start, stop.start(), text[at + 1 : stop.start()]))
            else:
                found.append(_Statement(start, end + 1, text[at + 1 : end]))
        elif bare := _BARE.match(text, at):
            found.append(_Statement(start, bare.end(), bare[0]))
    return [s._replace(content=_SAID.sub("", s.content)) for s in found if s.content.strip()] or found


def _prose(text: str) -> str:
    """The words of a stretch of text, without mathematics and marks."""
    return " ".join(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[a-zA-Z]+", " ", text)))


def _key(content: str) -> str:
    try:
        return repr(parse(content))
    except (Unreadable, RecursionError):
        return " ".join(content.split())


def _together(text: str, statements: list[_Statement]) -> tuple[str, ...]:
    """The last answer, with those before it that it does not replace.

    An earlier answer is replaced if something between the two takes it back, if there is reasoning between them, or if
    the later one alone is called final.
    Answers side by side, or with "or" and "maybe" between them, all stand.
    """
    kept = [statements[-1]]
    for earlier in reversed(statements[-_STATEMENTS:-1]):
        between = text[earlier.end : kept[0].start]
        if len(between) > 2_000:
            break
        prose = _prose(between)
        led_on = len(prose) > _REASONING or _LED_ON.search(prose)
        if _REVOKED.search(prose) or (led_on and not _HEDGED.search(prose)):
            break
        if _FINAL.search(between) and not _FINAL.search(text[: earlier.start][-12:]):
            break
        kept.insert(0, earlier)
    parts: dict[str, str] = {}
    for statement in kept:
        parts.setdefault(_key(statement.content), statement.content.strip())
    return tuple(parts.values())


def _statements(text: str) -> list[_Statement]:
    """What stands after "answer is", "Answer:" and headings of that name."""
    found: list[_Statement] = []
    marks = list(_MARK.finditer(text))[-_STATEMENTS:]
    for mark in marks:
        after = _AFTER.match(text, mark.end(), mark.end() + 140)
        if after is None and (before := _said_before(text, mark.start())):
            found.append(_Statement(mark.start(), mark.end(), before))
        if after is None or _DENIED.search(text[max(0, mark.start() - 60) : mark.start()]):
            continue
        rest = after.end()
        if re.match(r"(?:not|n't)\b", text[rest : rest + 4]):
            continue
        bold = text.count("**", text.rfind("\n", 0, mark.start()) + 1, rest) % 2 == 1  # opened before the answer
        sentence = sentence_from(text, rest)
        if not sentence.strip("*_ \t$"):
            continue
        content = answer_in(sentence.partition("**")[0] if bold and "**" in sentence else sentence, marked=True)
        if content:
            found.append(_Statement(mark.start(), rest + len(sentence), content))
    for title in list(_TITLE.finditer(text))[-_STATEMENTS:]:
        content = last_value(first_block(text[title.end() : title.end() + 1_000]))
        if content:
            found.append(_Statement(title.start(), title.end(), content))
    return found


def _said_before(text: str, mark: int) -> str | None:
    """The answer that stands before its name: "42 is the answer"."""
    line = text[max(text.rfind("\n", 0, mark) + 1, mark - 250) : mark]
    before = _BEFORE.search(line)
    return answer_in(SENTENCE_END.split(before[1])[-1]) if before else None


def extract(response: str, finished: bool = False, question: str = "") -> Found | NoAnswer:
    """The final answer of a response.

    ``finished`` says that the model itself ended it; without, its last sentence must look like an end. Of several
    numbers in that sentence the one that ``question`` does not have is the answer.
    """
    thought = response.rfind("</think>")
    if thought >= 0:
        response = response[thought + len("</think>") :]
    elif "<think>" in response:
        return NoAnswer("the thinking section never ends")
    text = response[-WINDOW:].strip()
    for turn in _TURN:
        if (end := turn.search(text)) and end.start():
            text = text[: end.start()]
    if "\\boxed" not in text and "boxed{" in text:
        text = re.sub(r"\bboxed(?=\{)", r"\\boxed", text)
    boxes = _boxes(text)
    if boxes and not boxes[-1].content.strip():
        return NoAnswer("the last box is empty")
    if boxes and (later := _later_statement(text[boxes[-1].end :])):
        return Found((later,), "the answer line after the last \\boxed{}")
    if boxes:
        parts = _together(text, boxes)
        if len({_key(b.content) for b in boxes[-60:]}) >= _GUESSES and len(boxes) > 2 * len(parts):
            return NoAnswer(f"{_GUESSES} or more different boxed answers")
        return Found(parts, "the last \\boxed{}" if len(parts) == 1 else f"{len(parts)} boxes side by side")
    if "<answer>" in text:
        inner = text.rpartition("<answer>")[2].partition("</answer>")[0]
        return Found((answer_in(inner) or inner.strip(),), "<answer>")
    hashes = [_Statement(m.start(), m.end(), m[1]) for m in list(_HASHES.finditer(text))[-_STATEMENTS:]]
    hashes = [h._replace(content=value) for h in hashes if (value := _hashed(h.content))]
    stated = sorted(hashes + _statements(text))
    if stated:
        where = "the last '####' line" if stated[-1] in hashes else "the last answer statement"
        return Found(_together(text, stated), where)
    text = last_words(text)
    if not finished and not looks_finished(text):
        return NoAnswer("no answer statement, and the response ends in the middle")
    block = block_at_end(text)
    value = _chosen(block, question) or last_value(block, result_of(text), question)
    return Found((value,), "the last sentence") if value else NoAnswer("no answer statement, and no clear last value")


def _later_statement(rest: str) -> str | None:
    """The answer of an "Answer:" line after the last box, near the end of the response."""
    lines = [m for m in _ANSWER_LINE.finditer(rest)] if len(rest) < 400 else []
    content = answer_in(lines[-1][1], marked=True) if lines else None
    return content if content and re.search(r"\d", content) and readable(content) else None


def _chosen(block: str, question: str) -> str | None:
    """The only choice of the question that a last line names by its letter and its text: "so it is D. a surplus"."""
    choices = listed(question) if block.strip() else {}
    line = block.splitlines()[-1] if choices else ""
    named = {
        m[1]: line[m.start(1) :].rstrip(" *_")
        for m in _LETTERED.finditer(line)
        if (text := words(choices.get(m[1], ""))) and words(line[m.end() : m.end() + 400]).startswith(text)
        if not _DENIED_CHOICE.search(line[: m.start()])
    }
    return named.popitem()[1] if len(named) == 1 else None


def _hashed(content: str) -> str | None:
    """The answer on a ``####`` line; None for a heading."""
    content = content.strip()
    if re.match(r"[\d\-+.$\\(\[{−]|\*\*[\d\-+.$\\(]", content) or len(content.split()) == 1:
        return answer_in(content) or content
    return None
