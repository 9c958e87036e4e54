"""How much signal the gradients of problems carry, by pass rate; the Beta kernel that fits (method section 8).

SNR(bin) = ||mu|| / sqrt(tr Sigma), of the gradients g of the n problems in a bin. Both are estimated without bias:

    ||mu||^2    (||sum g||^2 - sum ||g||^2) / (n (n - 1)), the mean of <g_i, g_j> over all pairs. The squared norm of
                the mean would be too large by tr Sigma / n, and a bin of pure noise would seem to have a signal.
    tr Sigma    (sum ||g||^2 - ||sum g||^2 / n) / (n - 1)

So ||mu||^2 can come out below 0, where there is no signal to be seen; a ratio is then 0. Imports no torch.

Shapes: n problems of a bin, K numbers a gradient, B bins, R resamples, M points of the grid.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paced.statistics import Array, draw_counts
from paced.weighting import beta_kernel

RESAMPLES = 1000
LEAST = 8  # problems of a bin that counts in the fit
STEP, LARGEST = 0.05, 4.0  # of the exponents tried
BLOCK = 64  # resamples fitted at once


class Moments(NamedTuple):
    """``signal`` ||mu||^2 and ``noise`` tr Sigma of each bin. [B], or [R, B] of resamples."""

    signal: Array
    noise: Array

    @property
    def squared(self) -> Array:
        """SNR^2; 0 where there is no noise, because there is no gradient then."""
        return np.divide(self.signal, self.noise, out=np.zeros_like(self.signal), where=self.noise > 0)


def moments(gradients: Array, counts: Array | None = None) -> tuple[Array, Array]:
    """Estimates of ||mu||^2 and tr Sigma from [n, K] gradients, n at least 2; [R] each, or [1] without resamples.

    Args:
        counts: how often each resample holds each gradient, [R, n].

    A resample holds some gradients twice, which are no independent pair: its ||mu||^2 would be too large by
    tr Sigma / n, and its tr Sigma too small by 1 / n. Both are taken back: resamples scatter about the estimate.
    """
    n = len(gradients)
    drawn = np.ones((1, n)) if counts is None else counts
    whole = ((drawn @ gradients) ** 2).sum(-1)
    each = drawn @ (gradients**2).sum(-1)
    signal, noise = (whole - each) / (n * (n - 1)), (each - whole / n) / (n - 1)
    return (signal, noise) if counts is None else (signal - noise / (n - 1), noise * n / (n - 1))


def bins_of(pass_rate: Array, bins: int) -> Array:
    """The bin of each pass rate: 0 and ``bins`` hold the rates 0 and 1 alone, the others what rounds to k / bins."""
    inner = np.clip(np.rint(pass_rate * bins), 1, bins - 1)
    return np.where(pass_rate == 0, 0, np.where(pass_rate == 1, bins, inner)).astype(int)


def fitted(rates: Array, squared: Array, precision: Array) -> tuple[Array, Array, Array]:
    """The exponents alpha, beta and the scale c with which (c p^alpha (1-p)^beta)^2 is nearest to SNR^2, [R] each.

    Least squares on SNR^2, which has no bias and may be negative, over pass rates between 0 and 1: at the ends the
    kernel is 0 for all positive exponents, so they cannot choose between them. Exponents from 0 to LARGEST by STEP.

    Args:
        rates: [B], between 0 and 1.
        squared: SNR^2, [R, B].
        precision: what each bin counts, 1 / variance, [B].
    """
    axis = np.arange(0, LARGEST + STEP / 2, STEP)
    alpha, beta = (x.ravel() for x in np.meshgrid(axis, axis, indexing="ij"))
    kernels = beta_kernel(rates[None], alpha[:, None], beta[:, None]) ** 2  # [M, B]
    size = (kernels**2) @ precision
    best: list[NDArray[np.int64]] = []
    scales: list[Array] = []
    for start in range(0, len(squared), BLOCK):
        along = np.maximum((squared[start : start + BLOCK] * precision) @ kernels.T, 0)  # [BLOCK, M]
        chosen = (along**2 / size).argmax(1)
        best.append(chosen)
        scales.append(np.sqrt(along[np.arange(len(chosen)), chosen] / size[chosen]))
    place = np.concatenate(best)
    return alpha[place], beta[place], np.concatenate(scales)


def efficiency(weight: Array, share: Array, found: Moments) -> Array:
    """What a weighting reaches of the largest SNR^2 that a weighted mean gradient can have, between 0 and 1.

    With the mean gradients m_b of all bins in one direction, the SNR^2 of a mean weighted by w_b grows as
    (sum f w m)^2 / sum f w^2 s^2, which is largest for w = m / s^2, where f_b is the bin's share of the problems and
    s_b^2 its noise (Cauchy-Schwarz).
    """
    m, noise = np.sqrt(np.maximum(found.signal, 0)), found.noise
    most = np.divide(m**2, noise, out=np.zeros_like(m), where=noise > 0) @ share
    return ((weight * m) @ share) ** 2 / np.maximum(((weight**2 * noise) @ share) * most, np.finfo(float).tiny)


def diagnosis(
    gradients: Array, pass_rate: Array, bins: int, weightings: Mapping[str, Array], seed: int = 0
) -> dict[str, Any]:
    """SNR by pass rate, the fitted kernel and the efficiency of weightings, with 95% bootstrap intervals over problems.

    Args:
        gradients: [N, K].
        pass_rate: [N], known for all.
        bins: pass rates are put into ``bins`` + 1 bins (bins_of).
        weightings: weights at the pass rates k / bins by name, [bins + 1].

    Returns:
        ``bins`` (one entry each that has two problems or more), ``fit`` (None with fewer than three bins to fit) and
        ``efficiency`` by weighting, of the fitted kernel as ``fitted``.
    """
    rng = np.random.default_rng(seed)
    place = bins_of(pass_rate, bins)
    there = [k for k in range(bins + 1) if (place == k).sum() > 1]
    number = np.array([(place == k).sum() for k in there])
    rates = np.array([pass_rate[place == k].mean() for k in there])
    estimates, resamples = list[Any](), list[Any]()
    for k in there:
        own = gradients[place == k].astype(np.float64)
        estimates.append([x[0] for x in moments(own)])
        resamples.append(moments(own, draw_counts(rng, len(own), RESAMPLES)))
    found = Moments(*np.array(estimates).reshape(-1, 2).T)
    drawn = Moments(*(np.stack(x, 1) for x in zip(*resamples, strict=True)))
    bounds = np.percentile(drawn.squared, [2.5, 97.5], axis=0)
    rows = [
        {
            "pass_rate": float(rates[i]),
            "problems": int(number[i]),
            "signal": float(found.signal[i]),
            "noise": float(found.noise[i]),
            "snr": root(found.squared[i]),
            "low": root(bounds[0, i]),
            "high": root(bounds[1, i]),
        }
        for i in range(len(there))
    ]
    inside = [i for i, k in enumerate(there) if 0 < k < bins and number[i] >= LEAST]
    candidates = {name: weight[there] for name, weight in weightings.items()}
    fit: dict[str, Any] | None = None
    if len(inside) >= 3:
        precision = 1 / np.maximum(drawn.squared[:, inside].var(0), np.finfo(float).tiny)
        one = fitted(rates[inside], found.squared[None, inside], precision)
        many = fitted(rates[inside], drawn.squared[:, inside], precision)
        fit = {name: interval(one[i][0], many[i]) for i, name in enumerate(("alpha", "beta"))}
        fit |= {"scale": float(one[2][0]), "pass_rates": [float(rates[i]) for i in inside]}
        candidates["fitted"] = beta_kernel(rates, float(one[0][0]), float(one[1][0]))
    share = number / number.sum()
    reached = {n: interval(efficiency(w, share, found), efficiency(w, share, drawn)) for n, w in candidates.items()}
    return {"bins": rows, "fit": fit, "efficiency": reached}


def root(squared: Any) -> float:
    return float(np.sqrt(max(squared, 0.0)))


def interval(value: Any, drawn: Array) -> dict[str, float]:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"mean": float(value), "low": float(low), "high": float(high)}
