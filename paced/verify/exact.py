"""What only a worker does: compare at 120 digits, and ask sympy and math-verify where that does not decide."""

import logging
import re
from typing import Any

import mpmath
import sympy
from math_verify import parse as parse_outside
from math_verify import verify as verify_outside
from math_verify.parser import LatexExtractionConfig

from paced.verify.algebra import TooLarge, Undecided, differ, equal, names
from paced.verify.nodes import Node

_DIGITS = 120
_OUTSIDE = 400  # characters that math-verify is asked to read
_FUNCTIONS: dict[str, Any] = {
    "!": sympy.factorial,
    "abs": sympy.Abs,
    "floor": sympy.floor,
    "ceil": sympy.ceiling,
    "binom": sympy.binomial,
    "log": sympy.log,
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "arccot": sympy.acot,
}


def _symbolic(node: Node) -> Any:
    match node[0]:
        case "n":
            return sympy.Rational(node[1].numerator, node[1].denominator)
        case "v":
            return sympy.Symbol(node[1], real=True)
        case "c":
            return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "inf": sympy.oo}[node[1]]
        case "+":
            return sympy.Add(*(_symbolic(p) for p in node[1]))
        case "*":
            return sympy.Mul(*(_symbolic(p) for p in node[1]))
        case "^":
            return sympy.Pow(_symbolic(node[1]), _symbolic(node[2]))
        case "f":
            function = _FUNCTIONS.get(node[1]) or getattr(sympy, node[1], None) or sympy.Function(node[1])
            return function(*(_symbolic(a) for a in node[2:]))
        case _:
            raise TooLarge(node[0])


class Exact:
    """An engine that decides what normal forms leave open; it may take long, and is killed if it does."""

    def equal(self, a: Node, b: Node) -> bool:
        try:
            return equal(a, b)
        except Undecided:
            pass
        mpmath.mp.dps = _DIGITS
        apart = differ(a, b, mpmath.mp, 1e-60, 1e-50)
        if apart is not None:
            return not apart
        if not names(a) and not names(b):
            raise Undecided("too large or too close to evaluate")
        difference = sympy.simplify(_symbolic(a) - _symbolic(b))
        if difference == 0:
            return True
        if difference.is_zero is False or (difference.is_number and difference.is_finite is False):
            return False
        raise Undecided("neither values nor simplification decide")

    def outside(self, answer: str, gold: str) -> bool:
        """math-verify, for what the grammar does not cover; its own time limits use signals and stay off."""
        if len(answer) > _OUTSIDE:
            raise Undecided(f"outside the grammar, and longer than {_OUTSIDE} characters")
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
    text = re.sub(r"\\(?:text|mathrm|operatorname)\s*\{[^{}]*\}", " ", text)
    return set(re.findall(r"[A-Za-z]", re.sub(r"\\[a-zA-Z]+", " ", text)))
