"""Control tokens that stand inside a question are text: no question may end a turn, or begin another one.

A mark inside each of them, put there before the chat template is filled in, tells them from the template's own.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

MARK = "\ufdd0"  # a noncharacter, which Unicode sets aside for a program's own use


class ControlTokens:
    """The special tokens of a tokenizer."""

    def __init__(self, core: PreTrainedTokenizerBase):
        added: Any = core.added_tokens_decoder
        self.ids: dict[str, int] = {token.content: i for i, token in added.items() if token.special}
        # The longest first, for one may be the beginning of another; in a single character there is no room for a mark.
        names = sorted((re.escape(name) for name in self.ids if len(name) > 1), key=len, reverse=True)
        self._any = re.compile(f"({'|'.join(names)})") if names else None

    def marked(self, text: str) -> str:
        """A text with a mark behind the first character of each that it holds."""
        return self._any.sub(lambda m: m[0][0] + MARK + m[0][1:], text) if self._any else text

    def encoded(self, text: str, encode: Callable[..., Sequence[int]]) -> list[int]:
        """Token ids of a text with marks: what is marked is text, what is not is a token.

        Args:
            encode: text to ids; with ``split_special_tokens`` no special token is looked for.
        """
        pieces = self._any.split(text) if self._any else [text]
        ids: list[int] = []
        for place, piece in enumerate(pieces):
            if place % 2:
                ids.append(self.ids[piece])
            elif piece:
                ids += encode(piece.replace(MARK, ""), split_special_tokens=True)
        return ids


def unmarked(text: str) -> str:
    """A text as a person would read it."""
    return text.replace(MARK, "")
