"""Stage 'weights': verdicts become pass rates, pass rates become weights (method sections 1 and 2).

The Beta kernel w(p) = p^alpha (1-p)^beta (arXiv 2603.11178) is largest at alpha / (alpha + beta) and 0 where the
student always or never succeeds; 0^0 = 1, so alpha = beta = 0 is uniform. Imports no torch.
"""

import math
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from paced.config import Weights
from paced.errors import DataError, NothingToLearn
from paced.stage import Job
from paced.tables import PASS_RATES

Array = NDArray[np.float64]


class Config(BaseModel):
    """Identity-relevant configuration of the stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    scheme: Literal["beta", "uniform", "hard_filter"]
    weights: Weights


def beta_kernel(pass_rate: Array, alpha: float | Array, beta: float | Array) -> Array:
    """w(p) = p^alpha (1-p)^beta with 0^0 = 1. Shapes are broadcast; values in [0, 1]."""
    return np.power(pass_rate, alpha) * np.power(1 - pass_rate, beta)


def shrunk_kernel(correct: Array, wrong: Array, alpha: float, beta: float, prior: tuple[float, float]) -> Array:
    """Posterior expectation of the Beta kernel under a Beta(a0, b0) prior.

    With a = a0 + correct and b = b0 + wrong it is B(a + alpha, b + beta) / B(a, b): unlike the kernel at the observed
    rate it is positive at 0 of G and G of G, because eight failures do not prove impossibility.
    """

    def log_beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    a, b = correct + prior[0], wrong + prior[1]
    return np.array(
        [math.exp(log_beta(x + alpha, y + beta) - log_beta(x, y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    )


def wilson(correct: Array, known: Array, z: float = 1.959963984540054) -> tuple[Array, Array]:
    """95% Wilson score interval of a proportion; [0, 1] where nothing is known."""
    n = np.maximum(known, 1)
    p = correct / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
    return np.where(known > 0, low, 0.0), np.where(known > 0, high, 1.0)


def raw_weights(correct: Array, wrong: Array, config: Config) -> Array:
    """Weights before normalisation; 0 where no verdict is known."""
    known = correct + wrong
    pass_rate = correct / np.maximum(known, 1)
    w = config.weights
    match config.scheme:
        case "uniform":
            raw = np.ones_like(pass_rate)
        case "hard_filter":
            raw = ((pass_rate >= w.low) & (pass_rate <= w.high)).astype(float)
        case "beta" if w.shrinkage:
            raw = shrunk_kernel(correct, wrong, w.alpha, w.beta, w.shrinkage)
        case "beta":
            raw = beta_kernel(pass_rate, w.alpha, w.beta)
    return np.where(known > 0, raw, 0.0)


def normalised(raw: Array, over: Literal["kept", "all"]) -> Array:
    """Scale to mean 1 over the positive weights (a step keeps the size of an unweighted one), or over all."""
    return raw * ((np.count_nonzero(raw) if over == "kept" else len(raw)) / raw.sum())


def effective_sample_size(weight: Array) -> float:
    """(sum w)^2 / sum w^2: how many equally weighted problems carry the same information."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def weights(job: Job) -> None:
    """Inputs: rollouts. Files: pass_rates.parquet, weights.json.

    Raises:
        DataError: no problem has a known verdict.
        NothingToLearn: every weight is zero.
    """
    config = Config.model_validate(job.spec.config)
    table = job.table("rollouts", "rollouts.parquet", ["problem_id", "finish", "verdict"])
    counts = pass_counts(table)
    correct, wrong = counts["correct"].to_numpy(float), counts["wrong"].to_numpy(float)
    raw = raw_weights(correct, wrong, config)
    known = correct + wrong
    if not known.any():
        raise DataError(
            "no problem has a known verdict, the sampler or the verifier failed on every sample: see rollouts.parquet"
        )
    if not raw.sum() > 0:
        raise NothingToLearn(nothing_left(correct, known, config))
    weight = normalised(raw, config.weights.normalise)
    low, high = wilson(correct, known)
    rows: list[dict[str, Any]] = counts.to_dict("records")  # pyright: ignore[reportAssignmentType]
    for i, row in enumerate(rows):
        row |= {
            "pass_rate": correct[i] / known[i] if known[i] else None,
            "low": low[i],
            "high": high[i],
            "raw_weight": raw[i],
            "weight": weight[i],
        }
    job.write("pass_rates.parquet", rows, PASS_RATES)
    summary = {
        "problems": len(rows),
        "kept": int(np.count_nonzero(weight)),
        "without_verdict": int(np.count_nonzero(known == 0)),
        "effective_sample_size": effective_sample_size(weight),
        "mean_pass_rate": float((correct[known > 0] / known[known > 0]).mean()),
        "normalise": config.weights.normalise,
    }
    job.write_json("weights.json", summary)
    job.counts |= {k: v for k, v in summary.items() if isinstance(v, int | float)}
    job.log(
        f"{summary['kept']} of {len(rows)} problems kept, "
        f"effective sample size {summary['effective_sample_size']:.0f}, mean pass rate {summary['mean_pass_rate']:.3f}"
        + (f", {summary['without_verdict']} without a known verdict" if summary["without_verdict"] else "")
    )


def pass_counts(table: pd.DataFrame) -> pd.DataFrame:
    """samples, correct, wrong, unknown and truncated a problem, in the order of first appearance."""
    flags = pd.DataFrame(
        {
            "problem_id": table["problem_id"].astype(str),
            "samples": 1,
            **{v: (table["verdict"] == v).astype(int) for v in ("correct", "wrong", "unknown")},
            "truncated": (table["finish"] == "length").astype(int),
        }
    )
    return pd.DataFrame(flags.groupby("problem_id", sort=False, as_index=False).sum())


def nothing_left(correct: Array, known: Array, config: Config) -> str:
    """The message for a set in which no problem has positive weight: what was seen, what to change."""
    rates = correct[known > 0] / known[known > 0]
    seen = ", ".join(f"{int(n)} at {r:.3g}" for r, n in zip(*np.unique(rates, return_counts=True), strict=True))
    if config.scheme == "hard_filter":
        way_out = "widen weights.low and weights.high"
    elif rates.max() == 0:
        way_out = (
            "the student never succeeds: use easier problems, more rollouts.samples or longer max_new_tokens, or set "
            "weights.shrinkage"
        )
    elif rates.min() == 1:
        way_out = "the student always succeeds: use harder problems, or set weights.shrinkage"
    else:
        way_out = "raise rollouts.samples, or set weights.shrinkage"
    return f"every weight is zero under scheme '{config.scheme}'; pass rates seen (problems at rate): {seen}; {way_out}"
