"""Pass counts in, training weights out. Imports no torch."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from paced.config import Scheme, Weights
from paced.config.arms import fields_read
from paced.config.stages import WeightsConfig
from paced.errors import ConfigError, DataError, NothingToLearn
from paced.weighting import normalised, nothing_left, pass_rates, raw_weights, with_floor

Array = NDArray[np.float64]


def weights(
    correct: ArrayLike,
    *,
    wrong: ArrayLike | None = None,
    samples: ArrayLike | None = None,
    scheme: Scheme = "beta",
    **settings: object,
) -> Array:
    """Training weights of problems from how often the student solved each.

    The kernel is ``p^alpha (1-p)^beta`` of the pass rate p = correct / (correct + wrong); section 2 of docs/method.md
    has the other schemes. Weights are scaled to mean 1 over the problems of positive weight. A problem without a known
    verdict (0 correct, 0 wrong) weighs 0.

        >>> weights([0, 2, 4, 8], samples=8).round(3).tolist()
        [0.0, 0.857, 1.143, 0.0]

    Args:
        correct: correct responses of each problem, [N].
        wrong: wrong responses of each problem, [N]. Leave out responses that nobody could grade: unknown is not wrong.
        samples: instead of ``wrong``: graded responses of each problem, correct ones included, one number or [N].
        scheme: ``beta``, ``uniform`` or ``hard_filter``.
        settings: those of section ``weights`` of a recipe that the scheme reads: ``alpha``, ``beta`` and ``shrinkage``
            (beta), ``low`` and ``high`` (hard_filter), ``floor`` (both), ``normalise`` (all).

    Returns:
        weights, [N], float64, without a unit.

    Raises:
        ConfigError: there is no such scheme or setting, its value is refused, or the scheme does not read it.
        DataError: the counts are not whole numbers of 0 or more, differ in shape, or hold no known verdict.
        NothingToLearn: every weight would be 0.

    Source: arXiv 2603.11178; shrinkage is this project's (docs/method.md, section 2).
    """
    config = _config(scheme, settings)
    right, failed = _counts(correct, wrong, samples)
    rates = pass_rates(right, failed)
    known = ~np.isnan(rates)
    if not known.any():
        raise DataError("no problem has a known verdict: correct and wrong are 0 everywhere")
    raw = raw_weights(right, failed, config)
    if not raw.sum() > 0:
        raise NothingToLearn(nothing_left(rates[known], config))
    return normalised(with_floor(raw, known, config.weights.floor), config.weights.normalise)


def _config(scheme: Scheme, settings: dict[str, object]) -> WeightsConfig:
    """The stage's configuration, with what the scheme does not read refused."""
    try:
        config = WeightsConfig(scheme=scheme, weights=Weights.model_validate(settings))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "weights"
        raise ConfigError(f"{field}: {first['msg'].removeprefix('Value error, ')}") from None
    if unread := sorted(settings.keys() - fields_read([scheme]) - config.weights.read_by([scheme]).keys()):
        raise ConfigError(f"{unread[0]} has no effect with scheme '{scheme}': leave it out")
    return config


def _counts(correct: ArrayLike, wrong: ArrayLike | None, samples: ArrayLike | None) -> tuple[Array, Array]:
    """How many correct and wrong responses each problem has, [N] each."""
    if (wrong is None) == (samples is None):
        raise DataError("give either wrong or samples beside correct")
    right = _whole("correct", correct)
    other = _whole("wrong" if samples is None else "samples", samples if wrong is None else wrong)
    if other.shape not in ((), right.shape) or right.ndim != 1 or (samples is None and other.ndim == 0):
        raise DataError(f"counts must have one number a problem: correct {right.shape}, the other {other.shape}")
    failed = other if samples is None else other - right
    if (failed < 0).any():
        raise DataError(f"problem {int(np.argmax(failed < 0))} has more correct responses than samples")
    return right, failed


def _whole(name: str, values: ArrayLike | None) -> Array:
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError):
        raise DataError(f"{name}: not an array of numbers") from None
    if not np.isfinite(array).all() or (array < 0).any() or (array != np.floor(array)).any():
        raise DataError(f"{name}: counts must be whole numbers of 0 or more")
    return array
