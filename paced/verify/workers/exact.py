"""The engine of a worker: many digits, then sympy, and math-verify for what the grammar does not cover."""

import logging
import re
from typing import Any

import mpmath
import sympy
from math_verify import parse as parse_outside
from math_verify import verify as verify_outside
from math_verify.parser import LatexExtractionConfig

from paced.verify.grammar.nodes import Call, Constant, Node, Number, Power, Product, Sum, Variable
from paced.verify.rules.decision import Undecided
from paced.verify.rules.equality import equal
from paced.verify.rules.evaluation import differ
from paced.verify.rules.forms import TooLarge, names

# Digits for constant expressions, and for those that are compared at points; of both the last ones are rounding.
_DIGITS_OF_CONSTANTS, _DIGITS_AT_POINTS = 2_000, 120
_ROUNDING_DIGITS = 20
_LONGEST_OUTSIDE = 400  # characters that math-verify is asked to read
_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "inf": sympy.oo}
_FUNCTIONS: dict[str, Any] = {
    "!": sympy.factorial,
    "abs": sympy.Abs,
    "floor": sympy.floor,
    "ceil": sympy.ceiling,
    "binom": sympy.binomial,
    "!!": sympy.factorial2,
    "max": sympy.Max,
    "min": sympy.Min,
    "conj": sympy.conjugate,
    "mod": sympy.Mod,
    "log": sympy.log,
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "arccot": sympy.acot,
}


def _symbolic(node: Node) -> Any:
    """An expression of ours as one of sympy's."""
    match node:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Variable(name):
            return sympy.Symbol(name, real=True)
        case Constant(name):
            return _CONSTANTS[name]
        case Sum(terms):
            return sympy.Add(*map(_symbolic, terms))
        case Product(factors):
            return sympy.Mul(*map(_symbolic, factors))
        case Power(base, exponent):
            return sympy.Pow(_symbolic(base), _symbolic(exponent))
        case Call(name, arguments):
            function = _FUNCTIONS.get(name) or getattr(sympy, name, None) or sympy.Function(name)
            return function(*map(_symbolic, arguments))
        case _:
            raise TooLarge(type(node).__name__)


class ExactEngine:
    """Decides what normal forms leave open; it may take long, so that it needs a process that can be killed."""

    def equal(self, a: Node, b: Node) -> bool:
        try:
            return equal(a, b)
        except Undecided:
            pass
        constant = not names(a) and not names(b)
        mpmath.mp.dps = _DIGITS_OF_CONSTANTS if constant else _DIGITS_AT_POINTS
        smallest = mpmath.mpf(10) ** (_ROUNDING_DIGITS - mpmath.mp.dps)
        apart = differ(a, b, mpmath.mp, smallest, smallest)
        if apart is not None:
            return not apart
        if constant:
            raise Undecided("too large or too close to evaluate")
        difference = sympy.simplify(_symbolic(a) - _symbolic(b))
        if difference == 0:
            return True
        if difference.is_zero is False or (difference.is_number and difference.is_finite is False):
            return False
        raise Undecided("neither values nor simplification decide")

    def outside(self, answer: str, gold: str) -> bool:
        """Are two answers equal by math-verify? Its own time limits use signals and stay off."""
        if len(answer) > _LONGEST_OUTSIDE:
            raise Undecided(f"outside the grammar, and longer than {_LONGEST_OUTSIDE} characters")
        # It drops what it cannot read; an answer that shares only the rest with the gold is not the gold.
        if _letters(gold) != _letters(answer):
            return False
        logging.disable(logging.CRITICAL)
        config = (LatexExtractionConfig(),)
        expected, given = (
            parse_outside(f"${text.strip().strip('$')}$", config, parsing_timeout=None, raise_on_error=False)  # pyright: ignore
            for text in (gold, answer)
        )
        if len(expected) < 2:
            raise Undecided("neither the grammar nor math-verify reads the gold answer")
        if len(given) < 2:
            return False
        return bool(verify_outside(expected, given, strict=True, timeout_seconds=None))  # pyright: ignore


def _letters(text: str) -> set[str]:
    """The letters of a formula, those of commands and words left out."""
    text = re.sub(r"\\(?:text|mathrm|operatorname)\s*\{[^{}]*\}", " ", text)
    return set(re.findall(r"[A-Za-z]", re.sub(r"\\[a-zA-Z]+", " ", text)))
