"""How a response ends: what stands behind its answer, whether it is finished, and what its last lines come to."""

import re

from paced.verify.extraction.sentences import FORMULA, OPENING, SENTENCE_END, answer_in, digits_of, is_formula

# Behind a finished answer: signs of an end, pictures, rules, special tokens of a chat template.
_SIGNS = re.compile(
    r"(?:\s|\$?\\(?:blacksquare|square|Box|qed|qedsymbol)\b\$?|Q\.?E\.?D\.?|<\|[^|<>\n]{1,30}\|>|</s>|(?<=\n)[-*_]{3,}"
    r"|[\u25a0-\u25ff\u2600-\u27bf\u220e\ufe0f\u2b50\U0001f000-\U0001faff])+$"
)
# What a model adds to be polite, on the last line.
_PLEASANTRY = re.compile(
    r"\s+(?:let me know|i hope (?:this|it|that)|hope (?:this|that)|feel free|if you (?:have|need|want|would)|"
    r"is there anything|would you like)\b[^\n]{0,200}$",
    re.IGNORECASE,
)
# A choice alone: "B", "Option (B)", "B. a surplus".
_CHOICE = re.compile(r"(?:(?:option|choice)\s+)?\(?[A-J]\)?(?:[.:)]\s*\S[^\n]*|[.:]?)", re.IGNORECASE)
# The number to which an equation comes.
_RESULT = re.compile(
    r"(?<![<>≤≥!])=\s*(?:\\?\$\s?)?(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(?![\d.,]*\d|\s*[-+*/×÷^=(])"
)
# A line that names what it comes to: "Total kittens = 7 + 21 + 12 = 40".
_TOTAL = re.compile(
    r"^(?:[-*]\s)?[A-Za-z' ]*\b(?:total|sum|remaining|left|altogether|result|final)\b[A-Za-z' ]*[:=]"
    r"(?:.*=)?\s*\\?\$?-?\d[\d,.]*(?:\s[a-z]+)?$",
    re.IGNORECASE,
)
# A display environment of several rows; what it comes to is its last row.
_ROWS = r"(?:align(?:ed|at)?|gather(?:ed)?|multline|eqnarray|equation|split|flalign)\*?"
_DISPLAY = re.compile(rf"\\begin\{{{_ROWS}\}}((?:(?!\\begin\{{{_ROWS}\}}).)*?)\\end\{{{_ROWS}\}}", re.DOTALL)
# A display formula with a new sentence right behind it, and a remark in brackets behind the last sentence.
_BEHIND_DISPLAY = re.compile(r"(?:\$\$(?:(?!\$\$).)+\$\$|\\\[(?:(?!\\\]).)+\\\])\s*(?=\s[A-Z]|[A-Z][a-z])", re.DOTALL)
_ASIDE_BEHIND = re.compile(
    r"(?<=[.!$\])])\s+(?:Notes?|Remarks?)(?::| that | the )[^\n]*$"
    r"|(?<=[.$\])])\s+\((?:[A-Z]|[^()$]*[a-z]{3})(?:[^()]|\([^()]*\))*\)\s*\.?$"
)
_INNER_ROW = "\0"  # stands for the end of a row of a matrix
_NAMED_ROW = re.compile(r"([A-Za-z](?:_\{?\w\}?)?)\s*=[^=]+")
# The end of a line that says what something comes to: "30 * 2 = $60 a week", "rounds to 33%".
_COMES_TO = re.compile(
    r"(?:=\s*(?:\\?\$\s?)?-?\d[\d,]*(?:\.\d+)?%?(?<=[\d%])(?:\s[A-Za-z'-]+){1,7}|=\s*\\?\$\s?\d[\d,.]*"
    r"|\brounds (?:up |down |off )?to\s+\\?\$?\d[\d,.]*%?)\.?$"
)
_END_WINDOW, _RESULT_WINDOW, _SIGNS_WINDOW = 3_000, 1_000, 200  # characters from the end that are looked at
_PENDING = re.compile(r"\d\)?\s*[-+*×]\s*\(?\d[\d.,]*\)?$")  # (150 + 30) + 150, not worked out
_UNFINISHED = re.compile(r"\b(?:is|are|be|the|an?|of|to|and|or|so|that|we|then)$", re.IGNORECASE)


def looks_finished(text: str) -> bool:
    """Does the text end as a finished response does: with a stop, a closed formula, or a line of mathematics?"""
    last = text.rstrip()
    if _CHOICE.fullmatch(last) or last.endswith((".", "!", "?", "。", "$", "\\]", "\\)", "**", "```", "</answer>")):
        return True
    line = OPENING.sub("", last.rpartition("\n")[2])
    if _COMES_TO.search(line) and not _UNFINISHED.search(line):
        return True
    if _TOTAL.search(line) or (line == last and len(line) < 80 and is_formula(line)):  # the whole response is a formula
        return True
    if len(last.split()) <= 3 and re.search(r"\w$", last) and not _UNFINISHED.search(last):  # nothing but an answer
        return True
    if re.search(r"(?:\$|\\\]|\\\))\s*(?:sq\.?\s|square\s|cubic\s)?[a-z]{1,15}$", line):  # a formula and its unit
        return True
    return is_formula(line) and bool(re.match(r"[a-zA-Z]\s*=[^=]*$|[^=]*$", line)) and not _PENDING.search(line)


def last_block(text: str) -> str:
    """The last paragraph or display formula."""
    text = text.rstrip()
    text = re.sub(r"\n?```\s*$", "", text)
    if text.endswith(("$$", "\\]")):
        mark = text[-2:]
        opened = text[:-2].rfind("$$" if mark == "$$" else "\\[")
        if opened >= 0:
            return text[opened:]
    return text[-_END_WINDOW:].rpartition("\n\n")[2]


def first_block(text: str) -> str:
    """The first paragraph or display formula."""
    text = text.strip()
    text = concluded(text).strip()
    return text if text.startswith(("$$", "\\[")) and "\n\n" not in text else text.split("\n\n")[0].strip()


def last_value(block: str, result: str = "", question: str = "") -> str | None:
    """What a last paragraph comes to: a formula on its own, or the answer in its last sentence."""
    display = re.search(r"(?:\$\$(.+?)\$\$|\\\[(.+?)\\\])[\s.*]*$", block, re.DOTALL)
    if display:
        return display[1] or display[2]
    block = _ASIDE_BEHIND.sub("", block.strip())
    line = re.sub(r"^(?:[-*>•]\s+)+", "", block.splitlines()[-1].strip()) if block.strip() else ""
    if (stray := re.match(r"[^\[]*\\\](?=\s*[A-Z])", line)) or (
        stray := re.match(r"[^$]*\$\$(?=\s*[A-Z][^$]*$)", line)
    ):
        line = line[stray.end() :].strip()  # the end of a display formula that began on a line before
    line = OPENING.sub("", line)
    if is_formula(line) or _CHOICE.fullmatch(line):
        return line
    masked = FORMULA.sub(lambda m: "x" * len(m[0]), line)
    masked = (
        _BEHIND_DISPLAY.sub(lambda m: "x" * (len(m[0]) - 1) + ".", line) if "\\]" in line or "$$" in line else masked
    )
    masked = FORMULA.sub(lambda m: "x" * len(m[0]), masked)
    ends = [m.end() for m in SENTENCE_END.finditer(masked) if m.end() < len(masked.rstrip(" *_\"')"))]
    last = line[ends[-1] if ends else 0 :].rstrip(" .!?*_。")
    last += "**" if last.count("**") % 2 and not last.startswith("**") else ""
    return answer_in(last, result=result, question=question)


def result_of(text: str) -> str:
    """The number that the last equation of a text came to, empty if there is none."""
    results = _RESULT.findall(text[-_RESULT_WINDOW:])
    return digits_of(results[-1]) if results else ""


def end_of_response(text: str) -> str:
    """The end of a response without what may stand behind an answer; of a display environment its last row."""
    end = _without_signs(_PLEASANTRY.sub("", _without_signs(text[-_END_WINDOW:])))
    return concluded(end)


def concluded(text: str) -> str:
    """A text with ``$$...$$`` in place of each display environment: what its last row comes to."""
    if "\\end{" not in text:
        return text
    text = _DISPLAY.sub(lambda m: f" $${_last_row(m[1])}$$ ", text)
    if (cut := re.search(rf"\\end\{{{_ROWS}\}}\W{{0,3}}$", text)) and "\\begin" not in text[: cut.start()]:
        return f"$${_last_row(text[: cut.start()])}$$"  # it began before the part that is looked at
    return text


def _last_row(rows: str) -> str:
    """What the rows of an environment come to: the last one, or all of them if each gives another name its value."""
    rows = re.sub(r"\\(?:label|tag)\s*\{[^{}]*\}|\\(?:no(?:tag|number)|hline)\b|&", " ", rows)
    rows = re.sub(r"\\begin.*?\\end\{\w+\}", lambda m: m[0].replace("\\\\", _INNER_ROW), rows, flags=re.DOTALL)
    split = (row.replace(_INNER_ROW, "\\\\") for row in re.split(r"\\\\(?:\[[^\]]*\])?", rows))
    found = [row.strip(" \n.,;") for row in split if row.strip(" \n.,;")]
    named = [_NAMED_ROW.fullmatch(row) for row in found]
    if len(found) > 1 and all(named) and len({m[1] for m in named if m}) == len(found):
        return ", ".join(found)
    last = found[-1] if found else ""
    return re.sub(r"^(?:\s|\\q?quad|\\[,;! ])*(?:=|\\equiv(?![a-zA-Z])|\\approx(?![a-zA-Z]))\s*", "", last)


def _without_signs(text: str) -> str:
    return text[:-_SIGNS_WINDOW] + _SIGNS.sub("", text[-_SIGNS_WINDOW:])
