"""The tokens of an answer as a parser takes them, one after the other."""

from abc import ABC, abstractmethod

from paced.verify.grammar.nodes import Node
from paced.verify.grammar.notation import Unreadable
from paced.verify.grammar.tokens import Token

DEEPEST = 40  # levels of nesting; nobody's answer is deeper
RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\approx": "~", r"\in": "in",
    r"\equiv": "=", r"\to": "->", r"\simeq": "~", r"\mapsto": "->", r"\rightarrow": "->", r"\sim": "~",
}  # fmt: skip
END = Token("end", "")


class Stream(ABC):
    """The base of the parser: where it stands among the tokens, and what its parts need of each other.

    ``brackets`` counts the brackets that are open: inside them a comma separates coordinates, not thousands.
    With ``names_skipped`` whatever stands before an equals sign is a name and need not be readable.
    """

    def __init__(self, found: list[Token], names_skipped: bool = False):
        self.tokens, self.at, self.depth, self.brackets = found, 0, 0, 0
        self.names_skipped = names_skipped

    @abstractmethod
    def items(self, closers: tuple[str, ...]) -> Node:
        """Read items up to one of ``closers``, which is left; a single item stands for itself."""

    @abstractmethod
    def item(self) -> Node:
        """Read a chain of relations, or one side alone."""

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or the one ``ahead`` of it; ``END`` behind the last."""
        i = self.at + ahead
        return self.tokens[i] if i < len(self.tokens) else END

    def take(self) -> Token:
        """The next token, which is then behind the parser."""
        token = self.peek()
        self.at += 1
        return token

    def accept(self, *texts: str) -> str | None:
        """Take the next token if it is one of ``texts``; None if it is not."""
        token = self.peek()
        if token.text in texts and token.kind != "end":
            self.at += 1
            return token.text
        return None

    def expect(self, text: str) -> None:
        """Take the next token, which has to be ``text``.

        Raises:
            Unreadable: it is another one.
        """
        if not self.accept(text):
            raise Unreadable(f"{text!r} expected, {self.peek().text or 'the end'!r} found")

    def plain_group(self) -> str:
        """The characters of a group in braces, or of the next token, without a look at what they mean."""
        if not self.accept("{"):
            return self.take().text
        text = ""
        while (token := self.take()).text != "}":
            if token.kind == "end":
                raise Unreadable("a brace is not closed")
            text += token.text
        return text
