"""Signal-to-noise ratios: against all pairs, closed forms and known exponents; intervals against fresh draws."""

import numpy as np
import pytest
import torch

from paced.diagnosis.diagnose import Sketch
from paced.diagnosis.snr import LARGEST, STEP, Moments, bins_of, diagnosis, efficiency, fitted, moments
from paced.statistics import Array, draw_counts
from paced.weighting import beta_kernel

RATES = np.arange(1, 8) / 8


def gradients(rng: np.random.Generator, n: int, k: int, signal: float, noise: float) -> Array:
    """mu + N(0, noise^2 / k I) with ||mu|| = signal: tr Sigma = noise^2, so SNR = signal / noise."""
    direction = np.ones(k) / np.sqrt(k)
    return signal * direction + noise / np.sqrt(k) * rng.standard_normal((n, k))


def test_the_estimates_are_those_over_all_pairs() -> None:
    g = np.random.default_rng(0).standard_normal((5, 3)) + 1
    pairs = [g[i] @ g[j] for i in range(5) for j in range(5) if i != j]
    ((signal,), (noise,)) = moments(g)
    assert signal == pytest.approx(np.mean(pairs))
    assert noise == pytest.approx(np.trace(np.cov(g.T)))
    # By hand: 3, 1 and -1 have mean 1 and variance 4; pairs 3, -3 and -1, so ||mu||^2 is -1/3.
    ((signal,), (noise,)) = moments(np.array([[3.0], [1.0], [-1.0]]))
    assert (signal, noise) == (pytest.approx(-1 / 3), pytest.approx(4))


def test_the_estimates_are_unbiased() -> None:
    """Also where a bin is pure noise, in which the squared norm of the mean would show noise / n."""
    rng = np.random.default_rng(1)
    for signal, noise in ((0.0, 2.0), (0.5, 2.0), (3.0, 1.0)):
        found = np.array([moments(gradients(rng, 6, 40, signal, noise)) for _ in range(3000)])[:, :, 0]
        error = 4 * found.std(0) / np.sqrt(len(found))
        assert np.abs(found.mean(0) - [signal**2, noise**2]) == pytest.approx(0, abs=error.max())
        assert (np.abs(found.mean(0) - [signal**2, noise**2]) < error).all()


def test_resamples_scatter_about_the_estimate_and_cover_the_truth() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        g = gradients(rng, 40, 20, 0.4, 1.0)
        drawn = Moments(*moments(g, draw_counts(rng, len(g), 400)))
        low, high = np.percentile(drawn.squared, [2.5, 97.5])
        hits += low <= 0.4**2 <= high
        ((signal,), (noise,)) = moments(g)
        assert drawn.signal.mean() == pytest.approx(signal, abs=5 * drawn.signal.std() / 20)
        assert drawn.noise.mean() == pytest.approx(noise, abs=5 * drawn.noise.std() / 20)
    assert 180 <= hits <= 200


def test_bins() -> None:
    """The ends hold 0 and 1 alone, though a problem with few known verdicts may come close to them."""
    assert bins_of(np.array([0, 0.01, 1 / 8, 0.19, 0.5, 6 / 7, 0.99, 1]), 8).tolist() == [0, 1, 1, 2, 4, 7, 7, 8]


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0), (0.0, 1.5), (2.35, 0.0)])
def test_the_fit_finds_known_exponents(alpha: float, beta: float) -> None:
    squared = (0.7 * beta_kernel(RATES, alpha, beta)) ** 2
    found = fitted(RATES, np.stack([squared, 4 * squared]), np.linspace(1, 3, 7))
    assert found[0] == pytest.approx([alpha, alpha])
    assert found[1] == pytest.approx([beta, beta])
    assert found[2] == pytest.approx([0.7, 1.4])


def test_the_fit_is_the_least_squares_one() -> None:
    """Against every exponent of the grid with its own best scale; what counts nothing changes nothing."""
    rng = np.random.default_rng(3)
    squared, precision = rng.random(7), rng.random(7)
    axis = np.arange(0, LARGEST + STEP / 2, STEP)

    def misfit(alpha: float, beta: float) -> float:
        kernel = beta_kernel(RATES, alpha, beta) ** 2
        scale = (precision * squared * kernel).sum() / (precision * kernel**2).sum()
        return float((precision * (squared - scale * kernel) ** 2).sum())

    (alpha,), (beta,), _ = fitted(RATES, squared[None], precision)
    assert misfit(alpha, beta) == pytest.approx(min(misfit(a, b) for a in axis for b in axis))
    bent, ignored = squared.copy(), precision.copy()
    bent[2], ignored[2] = 50.0, 0.0
    assert fitted(RATES, bent[None], ignored)[0] == fitted(RATES, squared[None], ignored)[0]


def test_efficiency() -> None:
    share, found = np.array([0.5, 0.3, 0.2]), Moments(np.array([1.0, 4.0, 0.25]), np.array([2.0, 1.0, 8.0]))
    best = np.sqrt(found.signal) / found.noise
    assert efficiency(best, share, found) == pytest.approx(1)
    # By hand: (.5 + .6 + .1)^2 = 1.44 over (1 + .3 + 1.6)(.25 + 1.2 + .00625) = 2.9 x 1.45625.
    assert efficiency(np.ones(3), share, found) == pytest.approx(1.44 / (2.9 * 1.45625))
    losses = [1 - float(efficiency(best * (1 + d * np.array([1, -1, 1])), share, found)) for d in (0.1, 0.05)]
    assert losses[0] / losses[1] == pytest.approx(4, rel=0.1)  # second order in the error of the weights
    none = Moments(np.zeros(3), np.ones(3))
    assert float(efficiency(np.ones(3), share, none)) == 0


def test_a_diagnosis_of_known_gradients() -> None:
    """SNR = p (1 - p) at every pass rate, the ends included: exponents 1 and 1, and the ends show no signal."""
    rng = np.random.default_rng(4)
    rate = np.repeat(np.arange(9) / 8, 300)
    g = np.concatenate([gradients(rng, 300, 30, k / 8 * (1 - k / 8), 1.0) for k in range(9)])
    weightings = {"uniform": np.ones(9), "beta": beta_kernel(np.arange(9) / 8, 1, 1)}
    found = diagnosis(g, rate, 8, weightings)
    assert [b["problems"] for b in found["bins"]] == [300] * 9
    for b in found["bins"]:
        assert b["low"] - 0.02 <= b["pass_rate"] * (1 - b["pass_rate"]) <= b["high"] + 0.02
    assert found["bins"][0]["low"] == found["bins"][8]["low"] == 0
    for name in ("alpha", "beta"):
        assert found["fit"][name]["low"] <= 1 <= found["fit"][name]["high"]
    assert found["efficiency"]["beta"]["mean"] > 0.95
    # (mean of x)^2 / mean of x^2 over k / 8 (1 - k / 8): 84^2 / (9 x 1092).
    assert found["efficiency"]["uniform"]["mean"] == pytest.approx(84**2 / (9 * 1092), abs=0.08)
    assert diagnosis(g[:600], rate[:600], 8, weightings)["fit"] is None


def test_the_sketch_keeps_norms_and_products() -> None:
    """In the mean exactly, and with the variance that it states, also for a vector with one large coordinate."""
    rng = torch.Generator().manual_seed(0)
    g, h = torch.randn(3000, generator=rng), torch.randn(3000, generator=rng)
    g[7] = 60.0
    k, seeds = 64, range(600)
    pairs = [(Sketch(k, s)([g]), Sketch(k, s)([h])) for s in seeds]
    for products, exact, bound in (
        ([a @ a for a, _ in pairs], g @ g, 2 * (g @ g) ** 2 / k),
        ([a @ b for a, b in pairs], g @ h, ((g @ g) * (h @ h) + (g @ h) ** 2) / k),
    ):
        found = torch.stack(products)
        assert abs(found.mean() - exact) < 4 * (bound / len(seeds)).sqrt()
        assert found.var() < 1.3 * bound


def test_the_sketch_is_linear_and_one_function_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all tensors as one vector, however they are cut."""
    g, h = torch.randn(2, 5000, dtype=torch.float32)
    sketch = Sketch(32, 3)
    assert torch.equal(sketch([g]), Sketch(32, 3)([g]))
    assert not torch.equal(sketch([g]), Sketch(32, 4)([g]))
    torch.testing.assert_close(sketch([2 * g - h]), 2 * sketch([g]) - sketch([h]), atol=1e-4, rtol=1e-4)
