"""Numbers as they are written: separators, exponents, periods, bases; and indices."""

import re
from fractions import Fraction

from paced.verify.nodes import Node, number
from paced.verify.notation import Unreadable
from paced.verify.stream import Stream
from paced.verify.tokens import Token

_EIGHT = dict(zip("two three four five six seven eight nine ten".split(), "23456789", strict=False)) | {"ten": "10"}


class Numerals(Stream):
    """The part of the grammar that reads digits."""

    def numeral(self, text: str) -> Node:
        if "," in text and self.brackets:  # inside brackets a comma parts coordinates
            first, *rest = text.split(",")
            for r in reversed(rest):
                self.tokens[self.at : self.at] = [Token("other", ","), Token("number", r)]
            return number(first)
        nxt = self.peek()
        if nxt.kind == "word" and not nxt.spaced and re.fullmatch(r"[eE]\d*", nxt.text):
            sign = self.peek(1).text if self.peek(1).text in ("+", "-") else ""
            digits, behind = self.peek(1 + bool(sign)), self.peek(2 + bool(sign))
            product = behind.kind == "word" and not behind.spaced  # 4e+7p is a sum with the letter e
            if (
                digits.kind == "number"
                and digits.text.isdigit()
                and len(digits.text) <= 3
                and not (digits.spaced or product)
            ):
                self.at += 2 + bool(sign)
                return number(text, int(sign + digits.text))
        if nxt.kind == "word" and nxt.text in ("th", "st", "nd", "rd") and not nxt.spaced:
            self.at += 1
        elif nxt.kind == "word" and not nxt.spaced and self._digit_of_a_base(nxt.text):  # 152A_{11}
            self.at += 1
            text += nxt.text
        if "." in text and nxt.text == r"\overline":
            self.at += 1
            digits = self.plain_group()
            if digits.isdigit() and len(digits) < 30:
                whole, _, places = text.partition(".")
                scale = 10 ** len(places)
                period = Fraction(int(digits), (10 ** len(digits) - 1) * scale)
                return ("n", Fraction(int((whole or "0") + places), scale) + period, "")
        if self.peek().text == "_":
            base = self.base()
            if base is None:
                raise Unreadable("a number with an index that is no base")
            return ("based", text.upper().replace(",", ""), base)
        return number(text)

    def _digit_of_a_base(self, letters: str) -> bool:
        """Are letters behind a number digits, by the base that follows? ``2E_2`` is a product."""
        at, self.at = self.at, self.at + 1
        base = self.base() if self.peek().text == "_" else None
        self.at = at
        return base is not None and all(c.isalpha() and int(c, 36) < base for c in letters)

    def base(self) -> int | None:
        self.expect("_")
        text = self.plain_group().lower().replace("base", "").strip()
        text = _EIGHT.get(text, text)
        return int(text) if text.isdigit() and 2 <= int(text) <= 36 else None

    def subscript(self) -> str:
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
