"""Read an answer: a recursive descent over a small grammar of LaTeX and plain mathematics.

Nothing is guessed: what the grammar does not cover is :class:`Unreadable`, and no part of it passes for the whole.

"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from paced.verify.nodes import EXPRESSIONS, Node, letter, number, product, signed
from paced.verify.notation import Unreadable, tidy
from paced.verify.tokens import FUNCTIONS, PLAIN, SEPARATORS, Token, tokens
from paced.verify.units import REFUSED, Unit, unit

_DEPTH = 40
_GREEK = set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega Gamma "
    "Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar odot".split()
)
_RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\approx": "~", r"\in": "in",
    r"\equiv": "=", r"\to": "->", r"\simeq": "~", r"\mapsto": "->", r"\rightarrow": "->", r"\sim": "~",
}  # fmt: skip
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_CLOSERS = {"(": ")", "[": "]", r"\{": r"\}", r"\langle": r"\rangle"}
_EIGHT = dict(zip("two three four five six seven eight nine ten".split(), "23456789", strict=False)) | {"ten": "10"}
WORDS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100}


class _Parser:
    def __init__(self, found: list[Token]):
        self.tokens, self.at, self.depth, self.brackets = found, 0, 0, 0

    # Tokens

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

    # Answers

    def whole(self) -> Node:
        node = self.items(())
        if self.peek().kind != "end":
            raise Unreadable(f"{self.peek().text!r} not understood")
        return node

    def items(self, closers: tuple[str, ...]) -> Node:
        """Items up to one of ``closers``; a single one stands for itself."""
        self.depth += 1
        if self.depth > _DEPTH:
            raise Unreadable(f"nested deeper than {_DEPTH}")
        found, joined = [self.item()], ","
        while (token := self.peek()).text.lower() in SEPARATORS:
            self.at += 1
            if joined == "," or token.text.lower() not in (",", ";"):
                joined = SEPARATORS[token.text.lower()]
            if self.peek().text.lower() in SEPARATORS:  # ", and"
                continue
            if self.peek().kind == "end" or self.peek().text in closers:
                break
            found.append(self.item())
        self.depth -= 1
        return found[0] if len(found) == 1 else ("list", tuple(found), joined)

    def item(self) -> Node:
        """A chain of relations, or one side alone."""
        if self.peek().text in ("~", r"\approx"):
            self.at += 1
        sides: list[Any] = [self.union()]
        while (token := self.peek()).text in _RELATIONS:
            self.at += 1
            sign = _RELATIONS[token.text]
            if sign in ("<", ">") and self.accept("="):
                sign += "="
            sides += [sign, self.union()]
        return sides[0] if len(sides) == 1 else ("rel", *sides)

    def union(self) -> Node:
        parts = [self.side()]
        while self.accept(r"\cup", "U", "∪"):
            parts.append(self.side())
        node = parts[0] if len(parts) == 1 else ("cup", tuple(parts))
        if self.accept(r"\setminus", r"\backslash"):
            return ("minus", node, self.side())
        return node

    def side(self) -> Node:
        node = self.sum()
        if self.peek().text == ":" or (self.peek() == ("text", "to", self.peek().spaced)):
            parts = [node]
            while self.accept(":", "to"):
                parts.append(self.sum())
            half = self.half()
            return ("colon", tuple(parts), half)
        if half := self.half():
            return ("colon", (node,), half)
        if (words := self.words()) is not None:
            return self.measured(node, words)
        return node

    def half(self) -> str:
        """``a.m.`` or ``p.m.`` if it comes next."""
        text = ""
        for ahead in range(4):
            token = self.peek(ahead)
            text += token.text.lower() if token.text.lower() != "." else ""
            if text in ("am", "pm"):
                self.at += ahead + 1
                self.accept(".")
                return text
            if text not in ("a", "p"):
                break
        return ""

    def words(self) -> str | None:
        """Words that come next, as a unit's name; None if something else comes."""
        start, words = self.at, list[str]()
        while (token := self.peek()).text.lower() not in SEPARATORS:
            after = self.peek(1)
            if token.kind == "text" or (words and token.kind == "word" and len(token.text) > 1):
                words.append(self.take().text)
            elif token.text == r"\frac" and self.peek(2).kind == "text":  # \frac{\text{km}}{\text{h}}
                self.take()
                words += [self.plain_group(), "/", self.plain_group()]
            elif words and token.text in ("/", "-", ".", r"\cdot", "*") and after.kind in ("text", "word"):
                words += [self.take().text, self.take().text]
            else:
                break
        if not words:
            return None
        if any(w.lower() in REFUSED for w in words[words[0].lower() in _SCALES :]) or len(words) > 8:
            self.at = start
            raise Unreadable(f"words {' '.join(words)!r}")
        return " ".join(words)

    def measured(self, node: Node, words: str) -> Node:
        power = ""
        scale, _, rest = words.partition(" ")
        if scale.lower() in _SCALES:
            node = product([node, ("n", Fraction(_SCALES[scale.lower()]), "")])
            if not rest:
                return node
            words = rest
        if self.accept("^"):
            power = str(self.script()[1])
        if words in ("degrees", "degree") and self.peek().text in ("Celsius", "Fahrenheit", "C", "F"):
            self.take()
        if node[0] == "unit" and node[2].dimension:  # 75\% of the class
            return node
        return ("unit", node, unit(words, power))

    # Arithmetic

    def sum(self) -> Node:
        parts: list[Node] = []
        sign = self.accept("+", "-", r"\pm", r"\mp")
        while True:
            term = self.term()
            parts.append(signed(sign, term))
            sign = self.accept("+", "-", r"\pm", r"\mp")
            if sign is None:
                return parts[0] if len(parts) == 1 else ("+", tuple(parts))
            if any(p[0] not in EXPRESSIONS for p in parts):
                raise Unreadable("arithmetic on what is no number")

    def term(self) -> Node:
        parts = [self.power(explicit=True)]
        mixed = parts[0][0] == "n" and parts[0][1].denominator == 1 and self.peek(-1).kind == "number"
        while True:
            if self.accept("*", r"\cdot", r"\times"):
                parts.append(self.power(explicit=True))
            elif self.accept("/", r"\div"):
                parts.append(("^", self.power(explicit=True), ("n", Fraction(-1), "")))
            elif mixed and len(parts) == 1 and (self._slashed() or self._fraction_follows()):
                fraction = self.fraction()
                if fraction[0] == "n" and 0 < fraction[1] < 1:
                    parts = [self.marked(("n", parts[0][1] + fraction[1], ""))]
                else:
                    parts.append(fraction)
            elif self.begins():
                parts.append(self.power())
            else:
                break
        return parts[0] if len(parts) == 1 else product(parts)

    def _fraction_follows(self) -> bool:
        return self.peek().text == r"\frac" and self.peek(2).kind != "text"

    def _slashed(self) -> bool:
        """A fraction such as ``1/8`` after a blank: "3 1/8"."""
        a, slash, b = self.peek(), self.peek(1), self.peek(2)
        return a.kind == b.kind == "number" and a.spaced and slash.text == "/"

    def fraction(self) -> Node:
        if self.peek().kind == "number":
            top, _, bottom = self.take(), self.take(), self.take()
            parts = [number(top.text), number(bottom.text)]
        else:
            self.take()
            parts = [self.argument(), self.argument()]
        if parts[0][0] == parts[1][0] == "n" and parts[1][1] != 0:
            return ("n", parts[0][1] / parts[1][1], "")
        return product([parts[0], ("^", parts[1], ("n", Fraction(-1), ""))])

    def begins(self) -> bool:
        """Does a factor begin here without an operator?"""
        kind, text, _ = self.peek()
        if kind == "number":
            return self.peek(-1).kind != "number"
        if kind == "word":
            return text.lower() not in SEPARATORS and text not in ("U", "or", "and")
        if text == r"\frac" and self.peek(2).kind == "text":
            return False
        if kind == "command":
            return text not in _RELATIONS and text not in _STOPS
        return text in ("(", "[", "{") or (text == "|" and self.brackets == 0)

    def power(self, explicit: bool = False) -> Node:
        if explicit and (sign := self.accept("-", "+", r"\pm", r"\mp")):
            return signed(sign, self.power(explicit=True))
        return self.marked(self.atom())

    def marked(self, node: Node) -> Node:
        """What stands behind a factor: powers, factorials, percent, primes, degrees."""
        while True:
            if self.accept("^"):
                node = self.raised(node)
            elif self.accept("!"):
                node = ("f", "!", node)
            elif self.accept(r"\%", "%"):
                node = ("unit", node, unit("percent"))
            elif self.accept("'"):
                node = ("f", "'", node)
            elif self.accept(r"\pmod"):
                modulus = f"modulo {self.plain_group()}"
                return ("unit", node, Unit(modulus, Fraction(1), modulus))
            else:
                return node

    def raised(self, node: Node) -> Node:
        braced = self.peek().text == "{"
        if self.peek(1 if braced else 0).text in (r"\circ", r"\prime", "'", "\\text", "th", "o", "st", "nd", "rd"):
            self.at += braced
            mark = self.take().text
            while self.accept(r"\prime"):
                mark += "'"
            if braced:
                self.expect("}")
            if mark == r"\circ" or mark == "o":
                if self.peek().text in ("C", "F"):
                    self.take()
                return ("unit", node, unit("degree"))
            return node if mark in ("th", "st", "nd", "rd") else ("f", mark, node)
        return ("^", node, self.script())

    def script(self) -> Node:
        """What ``^`` raises to: a group, a signed number or one symbol."""
        if sign := self.accept("-", "+"):
            return signed(sign, self.script())
        if self.peek().text == "{":
            return self.group()
        token = self.peek()
        if token.kind == "word" and len(token.text) > 1 and token.text not in FUNCTIONS and token.text not in PLAIN:
            self.tokens[self.at] = Token("word", token.text[1:])  # a^nb^n: one letter
            return letter(token.text[0])
        return self.atom()

    def group(self) -> Node:
        self.expect("{")
        node = self.items(("}",))
        self.expect("}")
        return node

    def argument(self) -> Node:
        """An argument as LaTeX takes it: a group, or one symbol; of a number without braces one digit."""
        token = self.peek()
        if token.text == "{":
            return self.group()
        if token.kind == "number" and len(token.text) > 1:
            self.tokens[self.at] = Token("number", token.text[1:])
            return number(token.text[0])
        if token.kind == "word" and len(token.text) > 1:
            self.tokens[self.at] = Token("word", token.text[1:])
            return letter(token.text[0])
        return self.atom()

    def atom(self) -> Node:
        self.depth += 1
        if self.depth > _DEPTH:
            raise Unreadable(f"nested deeper than {_DEPTH}")
        token = self.take()
        try:
            match token.kind:
                case "number":
                    return self.numeral(token.text)
                case "word":
                    return self.word(token)
                case "text":
                    return self.text(token)
                case "command":
                    return self.command(token.text)
                case "end":
                    raise Unreadable("it ends in the middle")
                case _:
                    return self.other(token.text)
        finally:
            self.depth -= 1

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

    def plain_group(self) -> str:
        if not self.accept("{"):
            return self.take().text
        text = ""
        while (token := self.take()).text != "}":
            if token.kind == "end":
                raise Unreadable("a brace is not closed")
            text += token.text
        return text

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

    def text(self, token: Token) -> Node:
        if len(token.text) == 1:
            return letter(token.text + self.subscript())
        if token.text.isupper():
            return ("v", token.text)
        raise Unreadable(f"text {token.text!r}")

    def word(self, token: Token) -> Node:
        """Letters outside ``\\text{}``: a function, a name in capitals, a product of one-letter variables."""
        text = token.text
        if text in FUNCTIONS:
            return self.function(text)
        if text in PLAIN:
            return self.command(PLAIN[text])
        if len(text) > 1 and text.isupper():
            return ("v", text)
        parts = [letter(c) for c in text[:-1]]
        last = text[-1] + self.subscript()
        call = self.call(last)
        node = call or letter(last)
        return product([*parts, self.marked(node)]) if parts else node  # in ab^2 only b is squared

    def call(self, name: str) -> Node | None:
        """``f(x)``: a name before one symbol or number in brackets; anything else in brackets is a factor."""
        if self.peek().text != "(":
            return None
        inner, close = self.peek(1), self.peek(2)
        simple = close.text == ")" and (inner.kind == "number" or (inner.kind == "word" and len(inner.text) == 1))
        if not simple and name not in ("f", "g", "h", "P", "F"):
            return None
        self.take()
        self.brackets += 1
        argument = self.items((")",))
        self.brackets -= 1
        self.expect(")")
        return ("f", name, argument)

    def function(self, name: str) -> Node:
        power: Node | None = None
        base: Node | None = None
        while (mark := self.peek().text) in ("^", "_"):
            self.take()
            if mark == "^":
                power = self.script()
            else:
                base = self.argument()
        if self.peek().text in _RELATIONS:  # \max = 25
            return ("v", name)
        if name in ("max", "min", "gcd", "lcm", "det"):
            raise Unreadable(name)
        parts = [self.power(explicit=True)]
        while parts[0][0] != "seq" and self.peek(-1).text not in (")", "]") and self.begins():
            if self.peek().text.lstrip("\\") in FUNCTIONS or self.peek().text in ("(", "["):
                break
            parts.append(self.power())
        argument = parts[0] if len(parts) == 1 else product(parts)
        if argument[0] == "unit" and argument[2].dimension == "angle":
            argument = product([argument[1], ("c", "pi"), ("n", Fraction(1, 180), "")])
        if power == ("n", Fraction(-1), "-1") or (power and power[0] == "n" and power[1] == -1):
            name, power = "arc" + name, None
        if name == "exp":
            node: Node = ("^", ("c", "e"), argument)
        elif base is not None:
            node = product([("f", "log", argument), ("^", ("f", "log", base), ("n", Fraction(-1), ""))])
        elif name == "lg":
            node = product([("f", "log", argument), ("^", ("f", "log", number("10")), ("n", Fraction(-1), ""))])
        else:
            node = ("f", "log" if name == "ln" else name, argument)
        return ("^", node, power) if power else node

    def command(self, text: str) -> Node:
        name = text[1:]
        if name in FUNCTIONS:
            return self.function(name)
        if name in _GREEK:
            name += self.subscript()
            return self.call(name) or ("v", name)
        match name:
            case "pi":
                return ("c", "pi")
            case "infty":
                return ("c", "inf")
            case "frac":
                self.at -= 1
                return self.fraction()
            case "surd" | "sqrt" | "cbrt":
                index: Node = ("n", Fraction(3 if name == "cbrt" else 2), "")
                if name == "sqrt" and self.accept("["):
                    index = self.items(("]",))
                    self.expect("]")
                inside = self.group() if self.peek().text == "{" else self.atom()
                return ("^", inside, ("^", index, ("n", Fraction(-1), "")))
            case "binom":
                return ("f", "binom", self.argument(), self.argument())
            case "lfloor" | "lceil":
                inside = self.items((r"\rfloor", r"\rceil"))
                self.expect(r"\rfloor" if name == "lfloor" else r"\rceil")
                return ("f", name[1:], inside)
            case (
                "angle"
                | "triangle"
                | "overline"
                | "vec"
                | "hat"
                | "bar"
                | "overrightarrow"
                | "widehat"
                | "dot"
                | "ddot"
            ):
                parts = [self.plain_group()]
                while name in ("angle", "triangle") and self.peek().kind == "word":
                    parts.append(self.take().text + self.subscript())
                return ("v", name + "".join(parts))
            case "{" | "langle":
                return self.bracket(text)
            case "begin":
                return self.matrix()
            case "emptyset":
                return ("set", ())
            case "mathbb":
                if self.plain_group() == "R":
                    return ("seq", "(", (("*", (("n", Fraction(-1), ""), ("c", "inf"))), ("c", "inf")), ")")
                raise Unreadable(r"\mathbb")
            case "$":
                return ("unit", self.power(explicit=True), unit("dollars"))
            case _:
                raise Unreadable(f"{text} not understood")

    def other(self, text: str) -> Node:
        if text in ("(", "["):
            return self.bracket(text)
        if text == "{":
            self.at -= 1
            return self.group()
        if text == "|":
            inside = self.bars()
            return ("f", "abs", inside)
        raise Unreadable(f"{text!r} not understood")

    def bars(self) -> Node:
        self.brackets += 1
        inside = self.items(("|",))
        self.brackets -= 1
        self.expect("|")
        return inside

    def bracket(self, opened: str) -> Node:
        before, self.brackets = self.brackets, self.brackets + 1
        if opened == r"\{" and self.accept(r"\}"):
            self.brackets = before
            return ("set", ())
        closers = (_CLOSERS[opened],) if opened in (r"\{", r"\langle") else (")", "]")
        if self._one_number():
            self.brackets = 0
        inside = self.items(closers)
        self.brackets = before
        closed = self.accept(*closers)
        if closed is None:
            raise Unreadable(f"{opened!r} is not closed")
        several = inside[0] == "list" and inside[2] == ","
        parts = inside[1] if several else (inside,)
        if opened == r"\{":
            return ("set", parts)
        if opened == r"\langle":
            return ("seq", "(", parts, ")")
        if not several and (opened, closed) in (("(", ")"), ("[", "]")):
            return inside
        return ("seq", opened, parts, closed)

    def _one_number(self) -> bool:
        """Is what follows arithmetic, so that a comma in a number parts thousands: ``(1,000 + 5)``?"""
        ahead, seen = 0, False
        while (token := self.peek(ahead)).text not in (")", "]", "") and ahead < 12:
            seen = seen or (token.text in ("+", "-", "*", r"\times", r"\cdot", "/") and ahead > 0)
            if token.text in (",", "(", "["):
                return False
            ahead += 1
        return seen

    def matrix(self) -> Node:
        kind = self.plain_group()
        if kind not in ("pmatrix", "bmatrix", "matrix", "array", "Bmatrix", "smallmatrix"):
            raise Unreadable(f"environment {kind}")
        if kind == "array" and self.peek().text == "{":
            self.plain_group()
        rows: list[list[Node]] = [[]]
        before, self.brackets = self.brackets, 1
        while not self.accept(r"\end"):
            if self.accept("&"):
                continue
            if self.accept("\\\\", r"\cr"):
                rows.append([])
                continue
            if self.accept(r"\hline"):
                continue
            rows[-1].append(self.item())
        self.brackets = before
        self.plain_group()
        rows = [r for r in rows if r]
        if not rows or len({len(r) for r in rows}) != 1:
            raise Unreadable("rows of different length")
        if len(rows) == len(rows[0]) == 1:  # a layout, no matrix
            return rows[0][0]
        return ("matrix", tuple(tuple(r) for r in rows))


_STOPS = {
    r"\cup", r"\setminus", r"\backslash", r"\}", r"\rangle", r"\rfloor", r"\rceil", "\\\\", r"\end", r"\cr", r"\%",
    r"\pm", r"\mp", r"\cdot", r"\times", r"\div", r"\circ", r"\prime", r"\cap", r"\hline",
}  # fmt: skip


_A_NAME = re.compile(r"[A-Za-z]+ ?|[\w ().,'/-]*\\text\s*\{[^{}\\]*\}[\w ().,'/-]*")  # of a quantity, in words


@lru_cache(maxsize=20_000)
def parse(text: str) -> Node:
    """The structure of an answer.

    Raises:
        Unreadable: the grammar does not cover it, or it is nested too deep.
    """
    text = tidy(text)
    try:
        node = _Parser(tokens(text)).whole()
    except RecursionError:
        raise Unreadable("nested too deep") from None
    except Unreadable:
        name, sign, value = text.rpartition("=")
        if not sign or not _A_NAME.fullmatch(name) or REFUSED & set(re.findall(r"[a-z]+", name.lower())):
            raise
        node = _Parser(tokens(value)).whole()  # P(\text{both red}) = 1/4
    if _deeper(node, 2 * _DEPTH):
        raise Unreadable("nested too deep")
    return node


def _deeper(node: Node, limit: int) -> bool:
    """Is a structure nested deeper than ``limit``? Level by level, without recursion."""
    level: list[Any] = [node]
    for _ in range(limit):
        level = [x for n in level for x in n if isinstance(x, tuple)]
        if not level:
            return False
    return True
