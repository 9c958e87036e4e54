"""What of a response is the model's own answer: without its thinking, another turn, or a next problem of its making."""

import re

from paced.verify.extraction.statements import boxes, hashes, statements

WINDOW = 100_000  # characters of a response that are looked at; an answer stands at the end

# Names of sections in which models think, as a tag <think>, <seed:think>, [THINK] or <|begin_of_thought|>.
_LOWER = "think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad|inner_monologue"
_NAMES = f"(?:{_LOWER}|{_LOWER.upper()})"
_OPENED = re.compile(
    rf"<\|?(?:[a-z]+:)?(?:begin_of_|start_of_)?{_NAMES}\|?>|◁{_NAMES}▷|\[(?:{_LOWER.upper()})\]"
    r"|<\|channel\|>\s*(?:analysis|commentary)"
)
_CLOSED = re.compile(
    rf"</(?:[a-z]+:)?{_NAMES}>|<\|(?:/|end_of_){_NAMES}\|>|◁/{_NAMES}▷|\[/(?:{_LOWER.upper()})\]"
    r"|<\|channel\|>\s*final\s*(?:<\|message\|>)?"
)
# The same channels where the special tokens were left out when the text was decoded.
_BARE_CHANNELS = re.compile(r"\A\s*analysis.*assistantfinal", re.DOTALL)
# A chat template's tokens: what stands behind the first one is another turn.
_TOKEN = r"(?:<[|｜][A-Za-z_▁]{2,30}[|｜]>|</?s>|<(?:end|start)_of_turn>|<eos>|\[/?INST\])"
_TURN = (  # searches, each from a character that is rare
    re.compile(_TOKEN),
    re.compile(r"\n(?:(?:Human|User): |#{2,3} ?(?:Instruction|Input|Human|User)\b)"),
)
_HEAD = re.compile(rf"\A(?:\s*{_TOKEN}\s*(?:(?:assistant|model)\b)?(?:<\|message\|>)?)+")
_NEXT_PROBLEM = re.compile(
    r"\n[ \t]*(?:#{1,6}[ \t]*)?(?:\*\*)?(?:(?:next |new |another )?(?:problem|question|exercise|example)|Q)"
    r"[ \t]*(?:#?\d{1,3})?(?:\*\*)?[ \t]*[:.：](?:\*\*)?(?=\s)",
    re.IGNORECASE,
)
_PICTURE = re.compile(r"\[asy\].*?\[/asy\]|\\begin\{tikzpicture\}.*?\\end\{tikzpicture\}", re.DOTALL)


def own_text(response: str) -> str | None:
    """The end of a response, without its thinking and without another turn; None if the thinking never ends."""
    text = _without_thinking(response)
    if text is None:
        return None
    text = _HEAD.sub("", text[-WINDOW:]).strip()
    for turn in _TURN:
        if (end := turn.search(text)) and end.start():
            text = text[: end.start()]
    if "\\boxed" not in text and "boxed{" in text:
        text = re.sub(r"\bboxed(?=\{)", r"\\boxed", text)
    if "[asy]" in text or "tikzpicture" in text:
        text = _PICTURE.sub(" ", text).strip()
    return _before_the_next_problem(text)


def _without_thinking(response: str) -> str | None:
    """A response without its thinking section, None if that never ends."""
    closed = max(_CLOSED.finditer(response), key=lambda mark: mark.end(), default=None)
    behind = response[closed.end() :] if closed else response
    if closed and not behind.strip() and (opened := _OPENED.search(response)) and response[: opened.start()].strip():
        return response[: opened.start()]
    if _OPENED.search(behind):
        return None
    if not closed and (bare := _BARE_CHANNELS.match(response)):
        return response[bare.end() :]
    return behind


def _before_the_next_problem(text: str) -> str:
    """A text up to where the model, its answer given, goes on with a problem of its own making."""
    for following in _NEXT_PROBLEM.finditer(text):
        before = text[: following.start()]
        if boxes(before) or hashes(before) or statements(before):
            return before.strip()
    return text
