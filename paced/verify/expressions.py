"""Arithmetic: sums, products, powers, fractions, functions, names."""

from fractions import Fraction

from paced.verify.brackets import Brackets
from paced.verify.nodes import EXPRESSIONS, Node, letter, number, product, signed, transposed
from paced.verify.notation import Unreadable
from paced.verify.numerals import Numerals
from paced.verify.stream import DEPTH, RELATIONS
from paced.verify.tokens import FUNCTIONS, PLAIN, SEPARATORS, Token
from paced.verify.units import Unit, unit

_GREEK = set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega Gamma "
    "Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar odot".split()
)
_STOPS = {
    r"\cup", r"\setminus", r"\backslash", r"\}", r"\rangle", r"\rfloor", r"\rceil", "\\\\", r"\end", r"\cr", r"\%",
    r"\pm", r"\mp", r"\cdot", r"\times", r"\div", r"\circ", r"\prime", r"\cap", r"\hline",
}  # fmt: skip


class Expressions(Numerals, Brackets):
    """The part of the grammar that computes."""

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
            return text not in RELATIONS and text not in _STOPS
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
        if node[0] in ("seq", "matrix") and self.peek(braced).text in ("T", r"\top", r"\intercal"):
            self.plain_group()
            return transposed(node)
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
        if self.depth > DEPTH:
            raise Unreadable(f"nested deeper than {DEPTH}")
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
        if self.peek().text in RELATIONS:  # \max = 25
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
