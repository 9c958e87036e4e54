"""Accuracies and their intervals: avg@k, pass@k, the bootstrap (method section 9). Imports no torch.

Shapes: S seeds, N problems, R resamples.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paced.storage.tables import Row

Array = NDArray[np.float64]
BLOCK = 4_000_000  # drawn indices held at once
LARGEST_CUT = 0.1  # of a stage's responses; more than that is warned of


class Interval(NamedTuple):
    """A mean and its interval, of 95% where nothing else is said, in the unit of the values."""

    mean: float
    low: float
    high: float


def cut_warning(cut: float, samples: int) -> str:
    """What to say of ``samples`` responses of which ``cut`` met the token limit: nothing where they are few."""
    if cut <= LARGEST_CUT * samples:
        return ""
    return (
        f"{cut / samples:.0%} of {samples} responses met the token limit, and one without its end is graded wrong, so "
        "pass rates and accuracies come out too low: raise max_new_tokens, or ask for shorter ones (data.instruction)"
    )


def p_value(difference: float, low: float, high: float) -> float:
    """Of no difference, two-sided, from a 95% interval: its end on the side of zero stands for 1.96 standard errors.

    It is below 5% exactly where the interval leaves zero out.
    """
    reach = difference - low if difference > 0 else high - difference
    if reach <= 0:
        return float(difference == 0)
    return math.erfc(NormalDist().inv_cdf(0.975) * abs(difference) / reach / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of several questions: those below 5% are all right together, but for a chance of 5%.

    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979; it holds however the
    questions depend on each other.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased estimate of P(at least one of k samples is right): 1 - C(n-c, k) / C(n, k) (arXiv 2107.03374)."""
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def draw_counts(rng: np.random.Generator, items: int, resamples: int) -> Array:
    """How often each of N items is drawn when N are drawn with replacement. [R, N], rows sum to N."""
    drawn = rng.integers(0, items, (resamples, items)) + items * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * items).reshape(resamples, items).astype(np.float64)


def bootstrap(matrices: Sequence[Array], seed: int = 0, resamples: int = 2000) -> list[Interval]:
    """Mean and 95% percentile interval of each [S, N] matrix of per-problem values, by the crossed bootstrap.

    Every resample draws problems and, independently, seeds, each with replacement, and takes the mean over the drawn
    rows and columns; with one seed it is the bootstrap over problems. All matrices have the same problems and see the
    same draws of them, and those of equally many seeds the same draws of seeds, so an interval does not depend on what
    else is asked for. NaN cells are left out; each matrix has at least one other.

    Resampling both ways counts the noise of a single cell more than once, so with several seeds the interval is rather
    too wide than too narrow (Owen, "The pigeonhole bootstrap", 2007); S = 2 or 3 seeds are few to resample.
    """
    rows = np.concatenate(matrices)
    known = ~np.isnan(rows)
    columns = np.concatenate([np.where(known, rows, 0.0), known]).T  # [N, 2 rows]: values, then which count
    problems = rows.shape[1]
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK // problems)
    sums = np.concatenate(
        [draw_counts(rng, problems, min(block, resamples - done)) @ columns for done in range(0, resamples, block)]
    )  # [R, 2 rows]
    intervals: list[Interval] = []
    first = 0
    for matrix in matrices:
        here = slice(first, first + len(matrix))
        first += len(matrix)
        seeds = draw_counts(np.random.default_rng([seed, len(matrix)]), len(matrix), resamples)
        total = (seeds * sums[:, : len(rows)][:, here]).sum(1)
        size = (seeds * sums[:, len(rows) :][:, here]).sum(1)
        low, high = np.percentile(total[size > 0] / size[size > 0], [2.5, 97.5])
        intervals.append(Interval(float(np.nanmean(matrix)), float(low), float(high)))
    return intervals


def bootstrap_mean(per_problem: Array, seed: int = 0, resamples: int = 2000) -> Interval:
    """Mean and 95% percentile interval over problems."""
    return bootstrap([per_problem[None]], seed, resamples)[0]


def t_quantile(outside: float, freedom: int) -> float:
    """Where Student's t of ``freedom`` degrees has the share ``outside``, below 1/2, above it (Wallace, "Bounds on
    normal approximations to Student's and the chi-square distributions", 1959: 1% off at 5 degrees, 0.01% at 50).
    """
    z = -NormalDist().inv_cdf(outside) * (8 * freedom + 3) / (8 * freedom + 1)
    return math.sqrt(freedom * math.expm1(z * z / freedom))


def t_interval(values: Array, outside: float) -> Interval:
    """The mean of [N] values, N at least 2, and Student's interval for it, with the share ``outside`` on either side.

    Unlike percentiles of a bootstrap it needs no more work the further out an end is, and gives the same each time.
    """
    mean = float(values.mean())
    reach = t_quantile(outside, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - reach, mean + reach)


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """avg@k with its interval, pass@k, truncation rate and mean length of one benchmark's scores.

    A sample without a known verdict is left out, and counted; a problem with none left is left out too. Choices that
    were compared by log-likelihood have neither length nor truncation.
    """
    by_problem: dict[str, list[Row]] = {}
    for row in rows:
        if row["verdict"] != "unknown":
            by_problem.setdefault(row["problem_id"], []).append(row)
    if not by_problem:
        return {"problems": 0, "samples": 0, "unknown": len(rows)}
    right = {i: sum(r["verdict"] == "correct" for r in known) for i, known in by_problem.items()}
    rates = np.array([right[i] / len(known) for i, known in by_problem.items()])
    k = min(map(len, by_problem.values()))
    written = [r for r in rows if r["finish"] != "scored"]
    return {
        **bootstrap_mean(rates)._asdict(),
        "k": k,
        "pass_at_k": float(np.mean([pass_at_k(len(known), right[i], k) for i, known in by_problem.items()])),
        **(
            {
                "truncated": float(np.mean([r["finish"] == "length" for r in written])),
                "mean_tokens": float(np.mean([r["tokens"] for r in written])),
            }
            if written
            else {}
        ),
        "problems": len(by_problem),
        "samples": len(rows),
        "unknown": sum(r["verdict"] == "unknown" for r in rows),
    }
