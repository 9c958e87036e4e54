"""Does a challenger take the champion's place? The rule, on paired differences by problem (method section 9).

A benchmark is asked again with every challenger. At 95% each time, a year of challengers that are no better would bring
one to the throne in one year out of three (benchmarks/gate.py). So a champion's looks share one budget of false
promotions: look k may spend its share of it, and the shares of all looks add up to the budget, however many there are.

Guarantee. A false promotion is one of a challenger that is not better, or has forgotten more than it may in all. Look k
promotes only if both conditions hold at level ``look(k, budget).outside``, so it promotes falsely with at most that
probability (intersection-union test: Berger, Technometrics 24, 1982). By the union bound over looks, which holds
however they depend on each other (they share champion and problems), a champion is falsely replaced with probability
at most ``budget``: alpha spending over a sequence of hypotheses (Tian and Ramdas, Stat. Methods Med. Res. 30, 2021; the
idea is of Lan and DeMets, Biometrika 70, 1983, whose looks are all at one hypothesis, as those of confidence sequences
are). Every new champion has a budget of its own, so of P promotions ever made at most budget * (P + 1) are expected to
be false (as in Foster and Stine, JRSS B 70, 2008). It rests on Student's t, which is exact only for many problems, and
on challengers that are not made with the benchmark in view. Later champions have been chosen by it, which flatters them
and so makes a promotion rarer, not more frequent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from paced.evaluation.compare import KEY, by_problem, same_problems
from paced.statistics import Array, t_interval
from paced.storage.artifacts import Ref, open_file

HALF = 8  # looks at one champion that spend half of its budget
ALONE = 0.025  # what each look may spend where there is no budget: a 95% interval


class Look(NamedTuple):
    """The ``number``-th comparison with one champion, from 1, and the chance of a false promotion it may spend."""

    number: int
    outside: float


def look(number: int, budget: float | None, half: int = HALF) -> Look:
    """The level of a look: budget * m / ((k + m - 1) (k + m)), m = half, or that of a 95% interval without a budget.

    The sum over looks 1 to k is budget * k / (k + m): half after m looks, never more than all. Early looks get more,
    because a champion is replaced soon where challengers are better; late ones enough to be of use.
    """
    if budget is None:
        return Look(number, ALONE)
    return Look(number, budget * half / ((number + half - 1) * (number + half)))


class Condition(NamedTuple):
    """The mean of ``differences`` [N], challenger minus another on the same problems, has to lie above ``bound``.

    All of its interval, which leaves out the share ``outside`` on either side. ``unsure`` and ``failed`` say what a
    challenger is whose interval holds the bound, or lies below it.
    """

    name: str
    differences: Array
    bound: float
    outside: float
    unsure: str
    failed: str


def better(name: str, differences: Array, look: Look) -> Condition:
    """A challenger gains on the benchmark ``name``."""
    return Condition(name, differences, 0.0, look.outside, "not better for sure", "worse")


def retains(name: str, differences: Array, limit: float, outside: float) -> Condition:
    """A challenger loses no more than ``limit`` percentage points of what ``name`` says."""
    more = f"more than the limit of {limit:g} points"
    return Condition(name, differences, -limit / 100, outside, f"may forget {more}", f"forgets {more}")


class PromotionDecision(NamedTuple):
    """``figures`` holds difference, low, high and level of each condition by name, as shares."""

    promote: bool
    reason: str
    figures: dict[str, dict[str, float]]


def decide(conditions: Sequence[Condition], look: Look) -> PromotionDecision:
    """Promote only if every condition holds for sure; the first that does not is told.

    A wide interval keeps the champion, and more problems make it narrower.
    """
    figures: dict[str, dict[str, float]] = {}
    faults: list[str] = []
    for condition in conditions:
        if len(condition.differences) < 2:
            faults.append(f"not to be judged: no paired difference on {condition.name}")
            continue
        found = t_interval(condition.differences, condition.outside)
        level = 1 - 2 * condition.outside
        figures[condition.name] = {"difference": found.mean, "low": found.low, "high": found.high, "level": level}
        if not found.low > condition.bound:
            faults.append(condition.failed if found.high < condition.bound else condition.unsure)
    told = ", ".join(f"{name} {points(figure)}" for name, figure in figures.items())
    reason = "; ".join([*filter(None, [told]), f"look {look.number}"])
    return PromotionDecision(not faults, f"{faults[0]}: {reason}" if faults else reason, figures)


def points(figure: dict[str, float]) -> str:
    """A difference with its interval and what that is of, in percentage points."""
    low, high = 100 * figure["low"], 100 * figure["high"]
    return f"{100 * figure['difference']:+.1f} points [{low:+.1f}, {high:+.1f}] at {100 * figure['level']:.4g}%"


def differences(challenger: Ref, other: Ref, benchmarks: Sequence[str]) -> Array:
    """Accuracy of a challenger minus another's, [N], on the problems of some benchmarks on which both have a verdict.

    Args:
        challenger, other: artifacts of stage 'evaluate'.

    Raises:
        DataError: they were scored on different problems.
        CacheError: an artifact is damaged.
    """
    columns = [*KEY, "level", "tokens", "finish", "verdict"]
    tables = (pd.read_parquet(open_file(ref, "scores.parquet"), columns=columns) for ref in (challenger, other))
    left, right = map(by_problem, tables)
    same_problems("the challenger", left, "the model it is compared with", right)
    judged = left["benchmark"].isin(benchmarks) & (left["known"] > 0) & (right["known"] > 0)
    mine, others = (t["correct"].to_numpy(float) / np.maximum(t["known"].to_numpy(float), 1) for t in (left, right))
    return (mine - others)[judged.to_numpy(bool)]
