"""How new problems differ from those before: in level, length, pass rate, and verdicts that are unknown.

A difference is a distance between two distributions over problems, from 0 (alike) to 1 (nothing in common): of lengths
and pass rates, which are ordered, the Kolmogorov-Smirnov statistic, the largest difference of two cumulative shares; of
the others the total variation, half the sum of the absolute differences. Few problems differ by chance alone: beside
each distance stands the one that two draws from the same problems exceed once in a hundred times.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Counts = NDArray[np.int64]
DRAWS, SEED = 2000, 0  # of the distance that chance alone brings
ORDERED = ("length", "pass rate")
KINDS = ("level", *ORDERED, "unknown verdicts")


class ProblemProfile(BaseModel):
    """What is remembered of problems: how many have each value of a kind. Lengths are characters of the question."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    problems: int
    counts: dict[str, dict[str, int]]


class Distance(NamedTuple):
    """``value`` from 0 to 1, and what chance alone exceeds once in a hundred times."""

    value: float
    chance: float


def profile(problems: Path, rates: Path, new: Collection[str]) -> ProblemProfile:
    """Of those problems of a stage 'prepare' that are in ``new``, with the pass rates of a stage 'weights'.

    A problem without a known verdict has no pass rate.
    """
    import pandas as pd  # a flow's import does not wait for it

    table = pd.read_parquet(problems, columns=["problem_id", "question", "level"])
    found = pd.read_parquet(rates, columns=["problem_id", "unknown", "pass_rate"])
    table = table[table["problem_id"].isin([*new])].merge(found, on="problem_id")
    values = {
        "level": table["level"].map(lambda level: "none" if pd.isna(level) else str(int(level))),
        "length": table["question"].str.len().astype(str),
        "pass rate": table["pass_rate"].dropna().round(3).astype(str),
        "unknown verdicts": (table["unknown"] > 0).map(lambda some: "some" if some else "none"),
    }
    counts = {kind: {str(k): int(n) for k, n in column.value_counts().items()} for kind, column in values.items()}
    return ProblemProfile(problems=len(table), counts=counts)


def together(profiles: Iterable[ProblemProfile]) -> ProblemProfile:
    """The problems of several."""
    each = [*profiles]
    counts: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for one in each:
        for kind, own in one.counts.items():
            for value, number in own.items():
                counts[kind][value] = counts[kind].get(value, 0) + number
    return ProblemProfile(problems=sum(one.problems for one in each), counts=counts)


def shares(kind: str, *each: Mapping[str, int]) -> tuple[list[str], list[Counts]]:
    """Values of one kind in their order, and how many problems of each profile have them."""
    values = sorted({*each[0], *each[1]}, key=float if kind in ORDERED else str)
    return values, [np.array([own.get(value, 0) for value in values], np.int64) for own in each]


def apart(kind: str, new: Counts, before: Counts) -> NDArray[np.float64]:
    """The distance between counts along the last axis."""
    difference = new / new.sum(-1, keepdims=True) - before / before.sum(-1, keepdims=True)
    if kind in ORDERED:
        return np.abs(difference.cumsum(-1)).max(-1)
    return np.abs(difference).sum(-1) / 2


def distances(new: ProblemProfile, before: ProblemProfile) -> dict[str, Distance]:
    """By kind; one that either has no values of, or both the same single value, is left out."""
    found: dict[str, Distance] = {}
    chance = np.random.default_rng(SEED)
    for kind in KINDS:
        own, other = new.counts.get(kind, {}), before.counts.get(kind, {})
        if not own or not other or len({*own, *other}) == 1:
            continue
        _, (a, b) = shares(kind, own, other)
        drawn = chance.multivariate_hypergeometric(a + b, int(a.sum()), size=DRAWS, method="marginals")
        found[kind] = Distance(
            float(apart(kind, a, b)), float(np.quantile(apart(kind, drawn, a + b - drawn), 0.99))
        )
    return found


def past(found: Mapping[str, Distance], limit: float) -> list[str]:
    """The kinds whose distance is past a limit, and past what chance alone brings."""
    return [kind for kind, distance in found.items() if distance.value > max(limit, distance.chance)]


def text(found: Mapping[str, Distance]) -> str:
    return ", ".join(f"{kind} {d.value:.2f} (by chance up to {d.chance:.2f})" for kind, d in found.items())
