"""Losses against plain float64 references, closed-form gradients and numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from reference import (
    FORMS,
    LOSS,
    NAMES,
    PRECISIONS,
    SUPPORTS,
    N,
    Once,
    V,
    akl_of_constant_share,
    cases,
    close,
    differentiate,
    pair,
    rounded,
    scale_of,
    whole,
)

from paced.losses import LOSSES, bucketed, exact


@PRECISIONS
@NAMES
@pytest.mark.parametrize("case", cases())
def test_exact(name: str, case: str, dtype: torch.dtype, tolerance: float) -> None:
    z, t = (rounded(x, dtype) for x in cases()[case])
    divergence, reference = pair(name, t, dtype=dtype)
    value, gradient = differentiate(divergence, z, dtype)
    expected, expected_gradient = reference(z)
    close(value, expected, tolerance)
    close(gradient, expected_gradient, tolerance, scale_of(name, expected))
    assert value.min() > -tolerance
    if "equal" in case:
        assert np.abs(value).max() == 0 or (name.startswith("jsd") and np.abs(value).max() < tolerance)
        assert np.abs(gradient).max() < tolerance


@PRECISIONS
@NAMES
@pytest.mark.parametrize("floor", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("support", SUPPORTS)
def test_sparse(name: str, support: str, floor: float, dtype: torch.dtype, tolerance: float) -> None:
    """Of a floor below 1, under which ids outside the support are held, the least loss is more than without it."""
    if support == "tail 0" and name in ("reverse_kl", "akl"):  # infinite: q puts mass where p has none
        return
    for case, logits in cases().items():
        if (support, case, name, dtype) == ("bottom 5", "huge", "akl", torch.float32) and floor < 1:
            continue  # three of twelve ids have 2/12 each: whether the rest's 1/2 is half of p is for rounding to say
        z, t = (rounded(x, dtype) for x in logits)
        divergence, reference = pair(name, t, support, floor, dtype)
        value, gradient = differentiate(divergence, z, dtype)
        expected, expected_gradient = reference(z)
        scale = scale_of(name, expected)
        if name == "akl" and dtype == torch.float32:  # its weights are as exact as p and q, whatever they weigh
            scale = np.maximum(scale, pair("forward_kl", t, support, floor, dtype)[1](z)[0])
        close(value, expected, tolerance, scale if name == "akl" else 1.0)
        close(gradient, expected_gradient, tolerance, scale)
        exactly, _ = whole(name, z, t)
        slack = tolerance * exactly.clip(1)
        if floor < 1 and name != "akl":  # AKL's weights depend on the partition
            assert (value >= pair(name, t, support, 1.0, dtype)[1](z)[0] - slack).all(), case
        if support == "all":
            close(value, exactly, tolerance)
        if floor < 1 or support.startswith("tail"):  # not a coarser view of the case's own teacher
            continue
        assert (value >= -slack).all()
        if name != "akl":
            assert (value <= exactly + slack).all(), case
        if "equal" in case:
            close(value, np.zeros(N), tolerance)
            close(gradient, np.zeros((N, V)), tolerance)


@FORMS
@LOSS
@pytest.mark.parametrize("count", [0, 1])
def test_one_position_and_none(name: str, support: str | None, floor: float, count: int) -> None:
    z, t = (x[:count] for x in cases()["random"])
    divergence, reference = pair(name, t, support, floor)
    value, gradient = differentiate(divergence, z, torch.float64)
    assert value.shape == (count,)
    for found, expected in zip((value, gradient), reference(z), strict=True):
        close(found, expected, 1e-12)


@pytest.mark.parametrize("name", ["reverse_kl", "akl"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("floor", [None, 1.0, 0.1])
def test_mass_where_the_teacher_has_none(name: str, dtype: torch.dtype, floor: float | None) -> None:
    """KL(q || p) is infinite there, and is not told as a small number; its gradient takes the mass away."""
    half, logits = torch.tensor([[0.5, 0.5]], dtype=dtype).log(), torch.zeros(1, 4, dtype=dtype)
    if floor:
        none = torch.tensor([-torch.inf], dtype=dtype)
        value = bucketed(LOSSES[name], logits, torch.tensor([[0, 1]]), half, none, floor)
    else:
        value = exact(LOSSES[name], logits, torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf]], dtype=dtype))
    assert 1e-2 < value.item() / torch.finfo(dtype).max <= 1
    assert logits.isfinite().all()
    assert (logits[0, :2] < 0).all() and (logits[0, 2:] > 0).all()


@PRECISIONS
@pytest.mark.parametrize("name", ["forward_kl", "jsd", "jsd0.1", "jsd0.9"])
def test_exact_from_a_teacher_that_excludes_ids(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """By logits of -inf."""
    z, t = (rounded(x, dtype) for x in cases()["random"])
    t[np.arange(N), np.arange(N) + 3], t[0, 1:] = -np.inf, -np.inf
    divergence, reference = pair(name, t, dtype=dtype)
    value, gradient = differentiate(divergence, z, dtype)
    expected, expected_gradient = reference(z)
    close(value, expected, tolerance)
    close(gradient, expected_gradient, tolerance)


def test_worked_by_hand() -> None:
    # p = (1/2, 1/4, 1/4), q = (1/8, 1/8, 3/4).
    # KL(p||q) = 1/2 ln 4 + 1/4 ln 2 + 1/4 ln 1/3 = 5/4 ln 2 - 1/4 ln 3.
    # KL(q||p) = 1/8 ln 1/4 + 1/8 ln 1/2 + 3/4 ln 3 = 3/4 ln 3 - 3/8 ln 2.
    # S = {0}, tail 1/2 against 7/8: 1/2 ln 4 + 1/2 ln 4/7 = 2 ln 2 - 1/2 ln 7;
    # gradient (1/8 - 1/2, 1/8 * 3/7, 3/4 * 3/7).
    p, q = (torch.tensor([x], dtype=torch.float64).log() for x in ([1 / 2, 1 / 4, 1 / 4], [1 / 8, 1 / 8, 3 / 4]))
    half = torch.tensor([0.5], dtype=torch.float64).log()

    def value(name: str) -> float:
        return exact(LOSSES[name], q.clone(), p).item()

    assert value("forward_kl") == pytest.approx(1.25 * math.log(2) - 0.25 * math.log(3), abs=1e-14)
    assert value("reverse_kl") == pytest.approx(0.75 * math.log(3) - 0.375 * math.log(2), abs=1e-14)
    # AKL: id 0 alone holds half of p; |p - q| = 3/8, 1/8, 1/2, so 3/8 of the forward and 5/8 of the reverse.
    blend = 3 / 8 * value("forward_kl") + 5 / 8 * value("reverse_kl")
    assert value("akl") == pytest.approx(blend, abs=1e-14)
    # JSD: m = (5/16, 3/16, 1/2).
    p_m = 1 / 2 * math.log(8 / 5) + 1 / 4 * math.log(4 / 3) + 1 / 4 * math.log(1 / 2)
    q_m = 1 / 8 * math.log(2 / 5) + 1 / 8 * math.log(2 / 3) + 3 / 4 * math.log(3 / 2)
    assert value("jsd") == pytest.approx((p_m + q_m) / 2, abs=1e-14)
    logits = q.clone()
    found = bucketed(LOSSES["forward_kl"], logits, torch.tensor([[0]]), half[:, None], half)
    assert found.item() == pytest.approx(2 * math.log(2) - 0.5 * math.log(7), abs=1e-14)
    assert logits[0].tolist() == pytest.approx([-3 / 8, 3 / 56, 9 / 28], abs=1e-14)


def test_flat_teacher() -> None:
    """AKL's head is half of a vocabulary larger than what is looked at first."""
    make = torch.Generator().manual_seed(0)
    z, t = torch.randn(2, N, 3001, generator=make, dtype=torch.float64).mul_(0.01)
    value = exact(LOSSES["akl"], z.clone(), t)
    close(value.numpy(), whole("akl", z.numpy(), t.numpy())[0], 1e-10)


@NAMES
@pytest.mark.parametrize(
    ("support", "floor"), [(None, 1.0), *((s, f) for s in ("top 5", "all", "tail 1e-12", "padded") for f in (1.0, 0.1))]
)
def test_gradcheck(name: str, support: str | None, floor: float) -> None:
    z, t = (x[:2] for x in cases()["random"])
    loss = akl_of_constant_share() if name == "akl" else None
    divergence, _ = pair(name, t, support, floor, loss=loss)
    logits = torch.tensor(z, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Once.apply(x, lambda y: divergence(y, slice(None))), (logits,))
