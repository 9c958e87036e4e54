"""Equivalent rewrites and near misses of gold answers, by category; each label is true by construction.

A rewriter gets a gold answer (already taken apart by a narrow pattern of its own, never by the verifier) and returns
(gold, answer, is it right) triples. Numbers are computed with Fraction and whole numbers here, not with paced.verify.
"""

from collections.abc import Callable

from benchmarks.verifier.rewrites import held_out, numbers, quantities, structures
from benchmarks.verifier.rewrites.base import Draw, Triple

CATEGORIES: dict[str, Callable[[str, Draw], list[Triple]]] = {
    "integers": numbers.integers,
    "fractions": numbers.fractions,
    "decimals": numbers.decimals,
    "surds": numbers.surds,
    "multiples of pi": numbers.multiples_of_pi,
    "tuples": structures.tuples,
    "lists": structures.lists,
    "intervals": structures.intervals,
    "unions": structures.unions,
    "matrices": structures.matrices,
    "lines": structures.lines,
    "polynomials": structures.polynomials,
    "percents": quantities.percents,
    "degrees": quantities.degrees,
    "money": quantities.money,
    "measured": quantities.measured,
    "times": quantities.times,
    "bases": quantities.bases,
    "words": quantities.words,
    "letters": quantities.letters,
    "plus-minus": numbers.plus_minus,
    "scientific": numbers.scientific,
    "ratios": quantities.ratios,
}
HELD_OUT: dict[str, Callable[[str, Draw], list[Triple]]] = {
    "complex numbers": held_out.complex_numbers,
    "powers": held_out.powers,
    "counting": held_out.counting,
    "logarithms": held_out.logarithms,
    "trigonometry": held_out.trigonometry,
    "expressions": held_out.expressions,
    "circles": held_out.circles,
    "surd pairs": held_out.surd_pairs,
    "speeds": held_out.speeds,
}
