"""The bucketed loss that knows that no id outside the stored ones has more than the floor."""

import math

import numpy as np
import pytest
import torch
from reference import LOSS, PRECISIONS, N, V, close, differentiate, loss_of, pair, rounded, scale_of

from paced.losses import LOSSES, bucketed, exact


def test_the_bound_worked_by_hand() -> None:
    # V = 9, p_0 = 1/2 in S, p_tail = 1/2, floor 1/8; q = (1/8, 3/4, seven of 1/56).
    # The student's tail would give id 1 6/7 of 1/2: it gets 1/8, and seven ids share 3/8 against q's 1/8.
    # 1/2 ln 4 + 1/8 ln 1/6 + 3/8 ln 3 = 7/8 ln 2 + 1/4 ln 3; gradient (-3/8, 5/8, seven of 1/56 (1 - 3)).
    logits = torch.tensor([[1 / 8, 3 / 4, *[1 / 56] * 7]], dtype=torch.float64).log()
    half = torch.tensor([[0.5]], dtype=torch.float64).log()
    found = bucketed(LOSSES["forward_kl"], logits, torch.tensor([[0]]), half, half[0], 1 / 8)
    assert found.item() == pytest.approx(7 / 8 * math.log(2) + math.log(3) / 4, abs=1e-14)
    assert logits[0].tolist() == pytest.approx([-3 / 8, 5 / 8, *[-1 / 28] * 7], abs=1e-14)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd", "jsd0.1"])
@pytest.mark.parametrize("floor", [0.004, 0.02, 0.1])
def test_the_bound_is_the_least_loss_that_the_targets_allow(name: str, floor: float) -> None:
    ids_known, loss = 200, loss_of(name)
    make = torch.Generator().manual_seed(0)
    z, t = 3 * torch.randn(2, N, ids_known, generator=make, dtype=torch.float64)
    p = t.softmax(-1)
    inside = p >= floor
    k = int(inside.sum(-1).max())
    order = p.topk(k).indices
    ids = order.where(inside.gather(-1, order), order[:, :1])
    kept = p.log().gather(-1, order).where(inside.gather(-1, order), -torch.inf)
    tail = p.masked_fill(inside, 0).sum(-1).log()
    free, bound = (bucketed(loss, z.clone(), ids, kept, tail, f) for f in (1.0, floor))
    assert (free.clamp_min(0) <= bound + 1e-12).all() and (bound > free + 1e-4).any()
    assert (bound <= exact(loss, z.clone(), t) + 1e-12).all()
    for _ in range(20):  # other teachers with these entries, this tail and nothing above the floor in it
        other = torch.rand(p.shape, generator=make, dtype=torch.float64).masked_fill(inside, 0)
        mix = torch.rand(N, 1, generator=make, dtype=torch.float64) ** 4
        other = torch.lerp(p.masked_fill(inside, 0), other / other.sum(-1, keepdim=True) * tail.exp()[:, None], mix)
        fits = (other <= floor).all(-1)
        assert fits.any()
        assert (bound <= exact(loss, z.clone(), torch.where(inside, p, other).log()) + 1e-12)[fits].all()
    gradient = z.clone()
    bucketed(loss, gradient, ids, kept, tail, floor)
    moved = torch.randn(z.shape, generator=make, dtype=torch.float64) * 1e-6
    ahead, behind = (bucketed(loss, z + step, ids, kept, tail, floor) for step in (moved, -moved))
    # Where the same ids are held at the floor on both sides, which is nearly everywhere.
    close(((ahead - behind) / 2e-6).numpy(), ((gradient * moved).sum(-1) / 1e-6).numpy(), 1e-7)


@PRECISIONS
@LOSS
def test_what_is_left_beside_a_held_id_has_its_digits_however_small(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    """A student sure of an id outside the support, by gaps in which the exponentials of all others end."""
    gaps = np.array([10.0, 40.0, 46.0, 47.0, 70.0, 80.0, 104.0, 1e4])
    z, t = np.random.default_rng(0).normal(size=(2, 1, V)).repeat(len(gaps), 1)
    z += 500  # so that no other number than the largest left will do to subtract
    z[:, 3] = z.max(-1) + gaps
    t[:, 3] = t.min(-1) - 3
    z = rounded(z, dtype)
    divergence, reference = pair(name, t, "top 5", 0.02, dtype)
    value, gradient = differentiate(divergence, z, dtype)
    expected, expected_gradient = reference(z)
    close(value, expected, tolerance)
    close(gradient, expected_gradient, tolerance, scale_of(name, expected))
    assert (np.diff(value) > -tolerance).all()
    assert name != "forward_kl" or (np.diff(value) > 0.1).all()
