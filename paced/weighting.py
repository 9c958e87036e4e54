"""Stage 'weights': verdicts become pass rates, pass rates become weights (method sections 1 and 2).

The Beta kernel w(p) = p^alpha (1-p)^beta (arXiv 2603.11178) is largest at alpha / (alpha + beta) and 0 where the
student always or never succeeds; 0^0 = 1, so alpha = beta = 0 is uniform. Imports no torch.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from paced.config.extensions import find, function
from paced.config.stages import WeightsConfig
from paced.errors import ConfigError, DataError, NothingToLearn
from paced.stage import Job
from paced.storage.tables import PASS_RATES, Row

Array = NDArray[np.float64]
OPPOSITE = {"correct": "wrong", "wrong": "correct", "unknown": "unknown"}
Settings = Mapping[str, Any]  # what a weighting reads, by the names of its record


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


def raw_weights(correct: Array, wrong: Array, config: WeightsConfig) -> Array:
    """Weights [N] before normalisation, of counts of verdicts [N]; 0 where no verdict is known.

    Raises:
        ConfigError: the weighting's function cannot be imported, or gives something else.
    """
    raw = function("weighting", config.scheme)(correct, wrong, config.weights.settings_of(config.scheme))
    if np.shape(raw) != correct.shape or not (np.isfinite(raw) & (raw >= 0)).all():
        raise ConfigError(f"weighting '{config.scheme}' must give each problem one finite number that is not negative")
    return np.where(correct + wrong > 0, raw, 0.0)


def uniform(correct: Array, wrong: Array, settings: Settings) -> Array:
    """Weighting 'uniform': 1 for each problem. [N]."""
    return np.ones_like(correct)


def hard_filter(correct: Array, wrong: Array, settings: Settings) -> Array:
    """Weighting 'hard_filter': 1 for pass rates in [low, high], else 0. [N]."""
    pass_rate = correct / np.maximum(correct + wrong, 1)
    return ((pass_rate >= settings["low"]) & (pass_rate <= settings["high"])).astype(float)


def beta(correct: Array, wrong: Array, settings: Settings) -> Array:
    """Weighting 'beta': the Beta kernel at the pass rate, or its expectation under the prior ``shrinkage``. [N]."""
    if settings["shrinkage"]:
        return shrunk_kernel(correct, wrong, settings["alpha"], settings["beta"], settings["shrinkage"])
    return beta_kernel(correct / np.maximum(correct + wrong, 1), settings["alpha"], settings["beta"])


def with_floor(raw: Array, known: NDArray[np.bool_], floor: float) -> Array:
    """``floor + (1 - floor) w`` in units of the mean weight, where a verdict is ``known``; elsewhere 0. [N].

    The sum stays as it is: a share ``floor`` of it is spread evenly, so that a problem to which the kernel gives
    nothing has a part in training, too. Where all weights are 0 there is nothing to spread.
    """
    return np.where(known, floor * raw.sum() / max(np.count_nonzero(known), 1) + (1 - floor) * raw, 0.0)


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
    config = WeightsConfig.model_validate(job.spec.config)

    def parts() -> Iterator[pd.DataFrame]:
        columns = ["problem_id", "finish", "verdict"] + (["sample_key"] if config.verdict_noise else [])
        return pass_counts(job.batches("rollouts", "rollouts.parquet", columns), config.verdict_noise)

    # Twice through the rollouts: weights are scaled by a sum over all problems, of which only two numbers are kept.
    raw, rate = (
        np.concatenate(column)
        for column in zip(
            *((raw_weights(*verdicts(c), config), pass_rates(*verdicts(c))) for c in parts()), strict=True
        )
    )
    decided = ~np.isnan(rate)
    known = rate[decided]
    if not len(known):
        raise DataError(
            "no problem has a known verdict, the sampler or the verifier failed on every sample: see rollouts.parquet"
        )
    if not raw.sum() > 0:
        raise NothingToLearn(nothing_left(known, config))
    weight = normalised(with_floor(raw, decided, config.weights.floor), config.weights.normalise)
    job.write("pass_rates.parquet", rows(parts(), raw, weight), PASS_RATES)
    summary = {
        "problems": len(rate),
        "kept": int(np.count_nonzero(weight)),
        "without_verdict": len(rate) - len(known),
        "effective_sample_size": effective_sample_size(weight),
        "mean_pass_rate": float(known.mean()),
        "normalise": config.weights.normalise,
    }
    job.write_json("weights.json", summary)
    job.counts |= {k: v for k, v in summary.items() if isinstance(v, int | float)}
    job.log(
        f"{summary['kept']} of {summary['problems']} problems kept, "
        f"effective sample size {summary['effective_sample_size']:.0f}, mean pass rate {summary['mean_pass_rate']:.3f}"
        + (f", {summary['without_verdict']} without a known verdict" if summary["without_verdict"] else "")
    )


def pass_counts(batches: Iterable[pa.RecordBatch], noise: float = 0.0) -> Iterator[pd.DataFrame]:
    """samples, correct, wrong, unknown and truncated a problem, part by part, in the order of the rollouts.

    A problem's rows stand together, as stage 'rollouts' writes them, if not in one batch. A share ``noise`` of the
    known verdicts is counted as its opposite; which ones follows from the samples' keys.
    """
    last = pd.DataFrame()
    for batch in batches:
        table = batch.to_pandas()
        if noise:
            wrongly = [misjudged(key, noise) for key in table["sample_key"].astype(str)]
            table["verdict"] = table["verdict"].astype(str).mask(wrongly, table["verdict"].map(OPPOSITE))
        flags = pd.DataFrame(
            {
                "problem_id": table["problem_id"].astype(str),
                "samples": 1,
                **{v: (table["verdict"] == v).astype(int) for v in ("correct", "wrong", "unknown")},
                "truncated": (table["finish"] == "length").astype(int),
            }
        )
        counts = pd.DataFrame(pd.concat([last, flags]).groupby("problem_id", sort=False, as_index=False).sum())
        last = counts.tail(1)  # the next batch may hold more of it
        yield counts.iloc[:-1]
    yield last


def misjudged(sample_key: str, share: float) -> bool:
    """Whether a sample is among the ``share`` of all that are judged wrongly; who is, also is at a larger share."""
    drawn = hashlib.sha256(f"verdict noise {sample_key}".encode()).digest()[:8]
    return int.from_bytes(drawn) < share * 2**64


def verdicts(counts: pd.DataFrame) -> tuple[Array, Array]:
    """How many correct and wrong verdicts each problem has, [N] each."""
    return counts["correct"].to_numpy(float), counts["wrong"].to_numpy(float)


def pass_rates(correct: Array, wrong: Array) -> Array:
    """Correct of known verdicts, NaN where none is known. [N]."""
    known = correct + wrong
    return np.divide(correct, known, out=np.full_like(known, np.nan), where=known > 0)


def rows(parts: Iterable[pd.DataFrame], raw: Array, weight: Array) -> Iterator[Row]:
    """The table of pass rates; ``raw`` and ``weight`` are of all problems in the order of the parts."""
    start = 0
    for counts in parts:
        correct, wrong = verdicts(counts)
        low, high = wilson(correct, correct + wrong)
        rate, here = pass_rates(correct, wrong), slice(start, start + len(counts))
        start = here.stop
        table = counts.assign(low=low, high=high, raw_weight=raw[here], weight=weight[here])
        for row, value in zip(table.to_dict("records"), rate.tolist(), strict=True):
            yield {**row, "pass_rate": None if math.isnan(value) else value}


def nothing_left(rates: Array, config: WeightsConfig) -> str:
    """The message for a set in which no problem has positive weight: the pass rates seen, what to change."""
    seen = ", ".join(f"{int(n)} at {r:.3g}" for r, n in zip(*np.unique(rates, return_counts=True), strict=True))
    if advice := find("weighting", config.scheme).advice:
        way_out = advice
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
