"""Arithmetic: sums, products, powers, fractions, functions, names."""

from fractions import Fraction

from paced.verify.grammar.brackets import Brackets
from paced.verify.grammar.nodes import (
    INFINITY,
    MINUS_INFINITY,
    MINUS_ONE,
    Bracketed,
    Call,
    Constant,
    Expression,
    List,
    Matrix,
    Measured,
    Node,
    Number,
    Power,
    Set,
    Sum,
    Variable,
    letter,
    number,
    product,
    reciprocal,
    signed,
    transposed,
    with_children,
)
from paced.verify.grammar.notation import Unreadable
from paced.verify.grammar.numerals import ORDINALS, Numerals
from paced.verify.grammar.stream import DEEPEST, RELATIONS
from paced.verify.grammar.tokens import FUNCTIONS, PLAIN, SEPARATORS, Token
from paced.verify.grammar.units import CURRENCIES, Unit, unit

_SYMBOLS: dict[str, Node] = {"pi": Constant("pi"), "infty": INFINITY, "emptyset": Set(())}
_GREEK = set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega Gamma "
    "Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar odot".split()
)
# Commands that cannot begin a factor.
_STOPS = {
    r"\cup", r"\setminus", r"\backslash", r"\}", r"\rangle", r"\rfloor", r"\rceil", "\\\\", r"\end", r"\cr", r"\%",
    r"\pm", r"\mp", r"\cdot", r"\times", r"\div", r"\circ", r"\prime", r"\cap", r"\hline", r"\bmod",
}  # fmt: skip
_DECORATED = set("overline vec hat bar overrightarrow widehat dot ddot".split())  # with what is under them a name
_NAMED_BY_POINTS = ("angle", "triangle")
_SIGNS = ("+", "-", r"\pm", r"\mp")
_USUAL_FUNCTIONS = ("f", "g", "h", "P", "F")  # before brackets these letters are no factors
_OF_SEVERAL = ("max", "min", "gcd", "lcm")
_LARGEST_POWER_OF_TEN = 1_000
_DEGREES_TO_RADIANS = (Constant("pi"), Number(Fraction(1, 180)))


class Expressions(Numerals, Brackets):
    """The part of the grammar that computes."""

    def sum(self) -> Node:
        """Terms with signs between them, or one term alone."""
        terms: list[Node] = []
        sign = self.accept(*_SIGNS)
        while True:
            terms.append(signed(sign, self.term()))
            sign = self.accept(*_SIGNS)
            if sign is None:
                node = terms[0] if len(terms) == 1 else Sum(tuple(terms))
                return self._remainder(node) if self.accept(r"\bmod") else node
            if any(not isinstance(t, Expression) for t in terms):
                raise Unreadable("arithmetic on what is no number")

    def _remainder(self, node: Node) -> Node:
        """A sum that ``\\bmod``, which has been taken, divides by the modulus behind it."""
        if not isinstance(node, Expression):
            raise Unreadable("a remainder of what is no number")
        return Call("mod", (node, number(self.plain_group())))

    def term(self) -> Node:
        """Factors with operators between them or side by side; a whole number before a fraction is a mixed number."""
        factors = [self.power(explicit=True)]
        first = factors[0]
        whole = isinstance(first, Number) and first.value.denominator == 1 and self.peek(-1).kind == "number"
        while True:
            if self.accept("*", r"\cdot", r"\times"):
                factors.append(self.power(explicit=True))
            elif self.accept("/", r"\div"):
                factors.append(reciprocal(self.power(explicit=True)))
            elif whole and len(factors) == 1 and (self._slashed() or self._fraction_follows()):
                factors = self._mixed(factors[0], self.fraction())
            elif self.begins():
                factors.append(self.power())
            else:
                return factors[0] if len(factors) == 1 else _scientific(factors) or product(factors)

    def _mixed(self, whole: Node, fraction: Node) -> list[Node]:
        """A whole number and a fraction behind it: their sum if the fraction is proper, else two factors."""
        if isinstance(whole, Number) and isinstance(fraction, Number) and 0 < fraction.value < 1:
            return [self.marked(Number(whole.value + fraction.value))]
        return [whole, fraction]

    def _fraction_follows(self) -> bool:
        return self.peek().text == r"\frac" and self.peek(2).kind != "text"

    def _slashed(self) -> bool:
        """A fraction such as ``1/8`` after a blank: "3 1/8"."""
        a, slash, b = self.peek(), self.peek(1), self.peek(2)
        return a.kind == b.kind == "number" and a.spaced and slash.text == "/"

    def fraction(self) -> Node:
        """``\\frac`` with its two arguments, or two numbers with a slash between them."""
        if self.peek().kind == "number":
            top, _, bottom = self.take(), self.take(), self.take()
            above, below = number(top.text), number(bottom.text)
        else:
            self.take()
            above, below = self.argument(), self.argument()
        if isinstance(above, Number) and isinstance(below, Number) and below.value != 0:
            return Number(above.value / below.value)
        return product([above, reciprocal(below)])

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
        """A factor with its powers; behind an ``explicit`` operator it may have a sign of its own."""
        if explicit and (sign := self.accept(*_SIGNS)):
            return signed(sign, self.power(explicit=True))
        return self.marked(self.atom())

    def marked(self, node: Node) -> Node:
        """A factor with what stands behind it: powers, factorials, percent, primes, degrees, a modulus."""
        while True:
            if self.accept("^"):
                node = self.raised(node)
            elif self.accept("!"):
                node = Call("!!" if self.accept("!") else "!", (node,))
            elif self.peek().text == r"\money" and isinstance(node, Number):
                self.take()
                node = Measured(node, self._currency())
            elif self.accept(r"\%", "%"):
                node = Measured(node, unit("percent"))
            elif self.accept("'"):
                node = Call("'", (node,))
            elif self.accept(r"\pmod"):
                modulus = f"modulo {self.plain_group()}"
                return Measured(node, Unit(modulus, Fraction(1), modulus))
            else:
                return node

    def raised(self, node: Node) -> Node:
        """A factor to a power, whose ``^`` has been taken; or with a degree, a prime, an ordinal's end, a transpose."""
        braced = self.peek().text == "{"
        if self.peek(1 if braced else 0).text in (r"\circ", r"\prime", "'", "\\text", "o", *ORDINALS):
            return self._with_mark(node, braced)
        if isinstance(node, Bracketed | Matrix) and self.peek(braced).text in ("T", r"\top", r"\intercal"):
            self.plain_group()
            return transposed(node)
        return Power(node, self.script())

    def _with_mark(self, node: Node, braced: bool) -> Node:
        self.at += braced
        mark = self.take().text
        while self.accept(r"\prime"):
            mark += "'"
        if braced:
            self.expect("}")
        if mark in (r"\circ", "o"):
            if self.peek().text in ("C", "F"):
                return Measured(node, unit(f"degrees {self.take().text}"))
            return Measured(self._with_minutes(node), unit("degree"))
        return node if mark in ORDINALS else Call(mark, (node,))

    def _with_minutes(self, degrees: Node) -> Node:
        """Degrees with the minutes and seconds of arc behind them."""
        parts, size = [degrees], 60
        while self.peek().kind == "number" and self.peek(1).text == "'" and size <= 3600:
            value = number(self.take().text).value
            self.take()
            size = 3600 if self.accept("'") else size
            parts.append(Number(value / size))
            size *= 60
        return parts[0] if len(parts) == 1 else Sum(tuple(parts))

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
        """What stands in braces."""
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
        """The smallest thing that can be a factor.

        Raises:
            Unreadable: none begins here, or it is nested too deep.
        """
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable(f"nested deeper than {DEEPEST}")
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
        """A name set as text: one letter, or capitals."""
        if len(token.text) == 1 and token.text.isascii():
            return letter(token.text + self.subscript())
        if token.text.isupper():
            return Variable(token.text)
        raise Unreadable(f"text {token.text!r}")

    def word(self, token: Token) -> Node:
        """Letters outside ``\\text{}``: a function, a name in capitals, a product of one-letter variables."""
        text = token.text
        if text in FUNCTIONS:
            return self.function(text)
        if text in PLAIN:
            return self.command(PLAIN[text])
        if len(text) > 1 and text.isupper():
            return Variable(text)
        name = text[-1] + self.subscript()
        last = self.call(name) or letter(name)
        before = [letter(c) for c in text[:-1]]
        return product([*before, self.marked(last)]) if before else last  # in ab^2 only b is squared

    def call(self, name: str) -> Node | None:
        """``f(x)``: a name before one symbol or number in brackets; anything else in brackets is a factor."""
        if self.peek().text != "(":
            return None
        inner, close = self.peek(1), self.peek(2)
        simple = close.text == ")" and (inner.kind == "number" or (inner.kind == "word" and len(inner.text) == 1))
        if not simple and name not in _USUAL_FUNCTIONS:
            return None
        self.take()
        self.brackets += 1
        argument = self.items((")",))
        self.brackets -= 1
        self.expect(")")
        return Call(name, (argument,))

    def function(self, name: str) -> Node:
        """A function with its power, its base and its argument, whose name has been taken: ``\\sin^2 x``."""
        power: Node | None = None
        base: Node | None = None
        while (mark := self.peek().text) in ("^", "_"):
            self.take()
            if mark == "^":
                power = self.script()
            else:
                base = self.argument()
        if self.peek().text in RELATIONS:  # \max = 25
            return Variable(name)
        if name in _OF_SEVERAL and base is None and power is None:
            return self._of_several(name)
        if name in (*_OF_SEVERAL, "det"):
            raise Unreadable(name)
        argument = self._argument_of_function()
        if isinstance(power, Number) and power.value == -1:
            name, power = "arc" + name, None
        node = _applied(name, base, argument)
        return Power(node, power) if power else node

    def _of_several(self, name: str) -> Node:
        """``\\max\\{a, b\\}``: a function of several arguments in any order."""
        opened = self.accept("(", r"\{")
        if opened is None:
            raise Unreadable(name)
        self.brackets += 1
        inside = self.items((")", r"\}"))
        self.brackets -= 1
        self.expect(")" if opened == "(" else r"\}")
        arguments = inside.items if isinstance(inside, List) else (inside,)
        if not all(isinstance(a, Expression) for a in arguments):
            raise Unreadable(f"{name} of what are no numbers")
        return Call(name, tuple(sorted(arguments, key=repr)))

    def _argument_of_function(self) -> Node:
        """Without brackets the argument reaches to the next function or bracket; degrees become radians."""
        factors = [self.power(explicit=True)]
        while not isinstance(factors[0], Bracketed) and self.peek(-1).text not in (")", "]") and self.begins():
            if self.peek().text.lstrip("\\") in FUNCTIONS or self.peek().text in ("(", "["):
                break
            factors.append(self.power())
        argument = factors[0] if len(factors) == 1 else product(factors)
        return _in_radians(argument)

    def command(self, text: str) -> Node:
        """What a LaTeX command, which has been taken, stands for or begins.

        Raises:
            Unreadable: the grammar does not know the command.
        """
        name = text[1:]
        if name in FUNCTIONS:
            return self.function(name)
        if name in _GREEK:
            name += self.subscript()
            called = self.call(name)
            if name == "Gamma" and isinstance(called, Call):  # the factorial of one less
                return Call("!", (Sum((called.arguments[0], MINUS_ONE)),))
            return called or Variable(name)
        if name in _NAMED_BY_POINTS or name in _DECORATED:
            return self._decorated(name)
        if name in _SYMBOLS:
            return _SYMBOLS[name]
        match name:
            case "frac":
                self.at -= 1
                return self.fraction()
            case "surd" | "sqrt" | "cbrt":
                return self._root(name)
            case "binom":
                return Call("binom", (self.argument(), self.argument()))
            case "lfloor" | "lceil":
                inside = self.items((r"\rfloor", r"\rceil"))
                self.expect(r"\rfloor" if name == "lfloor" else r"\rceil")
                return Call(name[1:], (inside,))
            case "{" | "langle":
                return self.bracket(text)
            case "begin":
                return self.matrix()
            case "mathbb":
                return self._real_numbers()
            case "money":
                currency = self._currency()
                return Measured(self.power(explicit=True), currency)
            case "$":
                return Measured(self.power(explicit=True), unit("dollars"))
            case _:
                raise Unreadable(f"{text} not understood")

    def _currency(self) -> Unit:
        code = self.plain_group()
        if code not in CURRENCIES:
            raise Unreadable(f"currency {code!r}")
        return unit(CURRENCIES[code])

    def _real_numbers(self) -> Node:
        if self.plain_group() != "R":
            raise Unreadable("numbers other than the real ones")
        return Bracketed("(", (MINUS_INFINITY, INFINITY), ")")

    def _root(self, name: str) -> Node:
        index: Node = Number(Fraction(3 if name == "cbrt" else 2))
        if name == "sqrt" and self.accept("["):
            index = self.items(("]",))
            self.expect("]")
        inside = self.group() if self.peek().text == "{" else self.atom()
        return Power(inside, reciprocal(index))

    def _decorated(self, name: str) -> Node:
        """The name that a mark and the letters under or behind it make: ``\\vec v``, ``\\angle ABC``."""
        at = self.at
        letters = self.plain_group()
        if name in ("overline", "bar") and not letters.isalnum() and "i" in letters:
            self.at = at
            return Call("conj", (self.group(),))
        while name in _NAMED_BY_POINTS and self.peek().kind == "word":
            letters += self.take().text + self.subscript()
        return Variable(name + letters)

    def other(self, text: str) -> Node:
        """What a bracket, a brace or a bar, which has been taken, opens."""
        if text in ("(", "["):
            return self.bracket(text)
        if text == "{":
            self.at -= 1
            return self.group()
        if text == "|":
            return Call("abs", (self.bars(),))
        raise Unreadable(f"{text!r} not understood")


def _scientific(factors: list[Node]) -> Node | None:
    """``6.02 \\times 10^{23}`` as one number, whose digits may be rounded; None for any other product."""
    match factors:
        case [Number(_, written), Power(Number(Fraction(numerator=10, denominator=1)), Number() as exponent)]:
            power = exponent.value
            if written and "e" not in written and power.denominator == 1 and abs(power) < _LARGEST_POWER_OF_TEN:
                return number(written, int(power)) if not written.startswith("-") else None
            return None
        case _:
            return None


def _in_radians(node: Node) -> Node:
    """An argument of a function with degrees, also those in a sum, as radians."""
    match node:
        case Measured(value, Unit("angle")):
            return product([value, *_DEGREES_TO_RADIANS])
        case Sum():
            return with_children(node, _in_radians)
        case _:
            return node


def _applied(name: str, base: Node | None, argument: Node) -> Node:
    """A function of an argument; every logarithm is written with the natural one."""
    if name == "exp":
        return Power(Constant("e"), argument)
    if name == "cis":
        return Sum((Call("cos", (argument,)), product([Constant("i"), Call("sin", (argument,))])))
    if base is None and name == "lg":
        base = number("10")
    if base is not None:
        return product([Call("log", (argument,)), reciprocal(Call("log", (base,)))])
    return Call("log" if name == "ln" else name, (argument,))
