"""Numbers as they are written: separators, exponents, repeating digits, bases; and the indices of names."""

import re
from fractions import Fraction

from paced.verify.grammar.nodes import Based, Node, Number, number
from paced.verify.grammar.notation import Unreadable
from paced.verify.grammar.stream import Stream
from paced.verify.grammar.tokens import Token

_BASES_IN_WORDS = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10",
}  # fmt: skip
_LONGEST_EXPONENT = 3  # digits
_LONGEST_PERIOD = 30  # digits that repeat
ORDINALS = ("th", "st", "nd", "rd")


class Numerals(Stream):
    """The part of the grammar that reads digits."""

    def numeral(self, text: str) -> Node:
        """The number that begins with the token ``text``, which has been taken."""
        if "," in text and self.brackets:  # inside brackets a comma separates coordinates
            first, *rest = text.split(",")
            for r in reversed(rest):
                self.tokens[self.at : self.at] = [Token("other", ","), Token("number", r)]
            return number(first)
        if (scientific := self._scientific(text)) is not None:
            return scientific
        behind = self.peek()
        if behind.kind == "word" and not behind.spaced:
            if behind.text in ORDINALS:
                self.at += 1
            elif self._digits_of_a_base(behind.text):  # 152A_{11}
                self.at += 1
                text += behind.text
        if "." in text and behind.text == r"\overline":
            self.at += 1
            repeated = self.plain_group()
            if repeated.isdigit() and len(repeated) < _LONGEST_PERIOD:
                return _repeating(text, repeated)
        if self.peek().text == "_":
            base = self.base()
            if base is None:
                raise Unreadable("a number with an index that is no base")
            return Based(text.upper().replace(",", ""), base)
        return number(text)

    def _scientific(self, text: str) -> Number | None:
        """The number ``4e+7``, of which ``4`` has been taken; None if no exponent follows."""
        mark = self.peek()
        if mark.kind != "word" or mark.spaced or not re.fullmatch(r"[eE]\d*", mark.text):
            return None
        sign = self.peek(1).text if self.peek(1).text in ("+", "-") else ""
        digits, behind = self.peek(1 + bool(sign)), self.peek(2 + bool(sign))
        if digits.kind != "number" or not digits.text.isdigit() or len(digits.text) > _LONGEST_EXPONENT:
            return None
        if digits.spaced or (behind.kind == "word" and not behind.spaced):  # 4e+7p is a sum with the letter e
            return None
        self.at += 2 + bool(sign)
        return number(text, int(sign + digits.text))

    def _digits_of_a_base(self, letters: str) -> bool:
        """Are letters behind a number digits of the base that follows them? In ``2E_2`` they are a factor."""
        at, self.at = self.at, self.at + 1
        base = self.base() if self.peek().text == "_" else None
        self.at = at
        return base is not None and all(c.isalpha() and int(c, 36) < base for c in letters)

    def base(self) -> int | None:
        """The base in an index, None if the index is no base."""
        self.expect("_")
        text = self.plain_group().lower().replace("base", "").strip()
        text = _BASES_IN_WORDS.get(text, text)
        return int(text) if text.isdigit() and 2 <= int(text) <= 36 else None

    def subscript(self) -> str:
        """Indices and primes behind a name, empty if there are none."""
        text = ""
        while True:
            if self.accept("_"):
                token = self.peek()
                if token.kind == "word" and len(token.text) == 2:  # a_nx is a_n times x
                    self.tokens[self.at] = Token("word", token.text[1])
                    text += "_" + token.text[0]
                else:
                    text += "_" + self.plain_group()
            elif self.accept("'"):
                text += "'"
            elif self.peek().text == "^" and self.peek(1).text in ("*", r"\prime", "'"):
                self.at += 2
                text += "'"
            elif [self.peek(i).text for i in range(4)] == ["^", "{", r"\prime", "}"]:
                self.at += 4
                text += "'"
            else:
                return text


def _repeating(text: str, repeated: str) -> Number:
    """A decimal such as ``0.1`` followed by digits that repeat without end."""
    whole, _, places = text.partition(".")
    scale = 10 ** len(places)
    period = Fraction(int(repeated), (10 ** len(repeated) - 1) * scale)
    return Number(Fraction(int((whole or "0") + places), scale) + period)
