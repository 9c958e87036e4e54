"""The symbols of an answer as a parser takes them, one after the other."""

from abc import ABC, abstractmethod

from paced.verify.nodes import Node
from paced.verify.notation import Unreadable
from paced.verify.tokens import Token

DEPTH = 40  # of nesting; deeper is no answer
RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\approx": "~", r"\in": "in",
    r"\equiv": "=", r"\to": "->", r"\simeq": "~", r"\mapsto": "->", r"\rightarrow": "->", r"\sim": "~",
}  # fmt: skip


class Stream(ABC):
    """``brackets`` counts those that are open: inside them a comma parts coordinates, not thousands.

    With ``names_skipped`` what stands before an equals sign is a name and need not be readable.
    """

    def __init__(self, found: list[Token], names_skipped: bool = False):
        self.tokens, self.at, self.depth, self.brackets = found, 0, 0, 0
        self.names_skipped = names_skipped

    @abstractmethod
    def items(self, closers: tuple[str, ...]) -> Node:
        """Items up to one of ``closers``; a single one stands for itself."""

    @abstractmethod
    def item(self) -> Node:
        """A chain of relations, or one side alone."""

    def peek(self, ahead: int = 0) -> Token:
        i = self.at + ahead
        return self.tokens[i] if i < len(self.tokens) else Token("end", "")

    def take(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def accept(self, *texts: str) -> str | None:
        token = self.peek()
        if token.text in texts and token.kind != "end":
            self.at += 1
            return token.text
        return None

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise Unreadable(f"{text!r} expected, {self.peek().text or 'the end'!r} found")

    def plain_group(self) -> str:
        if not self.accept("{"):
            return self.take().text
        text = ""
        while (token := self.take()).text != "}":
            if token.kind == "end":
                raise Unreadable("a brace is not closed")
            text += token.text
        return text
