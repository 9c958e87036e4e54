"""What the fidelity report says against closed forms, autograd and the losses themselves."""

import pytest
import torch

from paced.fidelity import Fidelity, completed, fidelity, fixed, size, slices
from paced.losses import bucketed_forward_kl, forward_kl
from paced.targets import Sparse, decode, encode

N, V = 40, 50


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of student and teacher [N, V] in float64, and the tokens taken."""
    make = torch.Generator().manual_seed(0)
    draw = [2 * torch.randn(N, V, generator=make, dtype=torch.float64) for _ in range(2)]
    return draw[0], draw[1], torch.randint(0, V, (N,), generator=make)


@pytest.mark.parametrize(("mass", "cap"), [(0.5, 50), (0.9, 8), (0.999, 50), (2.0, 50)])
def test_what_the_loss_cannot_see(pair: tuple[torch.Tensor, torch.Tensor, torch.Tensor], mass: float, cap: int) -> None:
    logits, teacher, taken = pair
    sparse = encode(teacher, taken, mass, cap)
    found, stored = fidelity(logits, teacher, sparse), decode(sparse, logits.device, torch.float64)
    inputs = logits.clone().requires_grad_()
    bucketed = bucketed_forward_kl(inputs, *stored)
    (gradient,) = torch.autograd.grad(bucketed.sum(), inputs)
    exact = logits.softmax(-1) - teacher.softmax(-1)

    log_c = completed(logits.log_softmax(-1), *stored)
    assert log_c.exp().sum(-1).sub(1).abs().max() < 1e-12
    assert gradient == pytest.approx(logits.softmax(-1) - log_c.exp(), abs=1e-12)
    assert found.relative_error == pytest.approx(float((gradient - exact).norm() / exact.norm()), rel=1e-9)
    # Half precision moves the stored entries by 1 part in 2,000, so the difference of the divergences by that, too.
    difference = float((forward_kl(logits, teacher) - bucketed.detach()).sum())
    assert found.unseen == pytest.approx(difference, rel=1e-6, abs=N * 2e-3)
    assert found.unseen >= 0
    assert found.mass / N >= min(mass, 1) - 1e-9 or cap < V
    assert (found.positions, found.entries) == (N, sparse.counts.sum())


def test_more_entries_lose_less(pair: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    logits, teacher, taken = pair
    nothing = encode(teacher, taken, 0.5, 1)
    found = [fidelity(logits, teacher, fixed(k)(teacher, taken, nothing)) for k in (1, 4, 16, V)]
    assert [f.entries for f in found] == [N * k for k in (1, 4, 16, V)]
    assert [f.relative_error for f in found] == sorted((f.relative_error for f in found), reverse=True)
    assert found[0].relative_error > 0.1 > 1e-3 > found[-1].relative_error


def test_a_student_equal_to_its_teacher_has_no_error_to_speak_of() -> None:
    assert Fidelity(error=0.0, gradient=0.0).relative_error == 0


def test_a_sample_is_cut_along_its_positions() -> None:
    make = torch.Generator().manual_seed(1)
    teacher, taken = 3 * torch.randn(150, V, generator=make), torch.randint(0, V, (150,), generator=make)
    whole = encode(teacher, taken, 0.9, 8)
    cut = slices(whole)
    assert [(rows.start, rows.stop) for rows, _ in cut] == [(0, 64), (64, 128), (128, 150)]
    for rows, piece in cut:
        expected = encode(teacher[rows], taken[rows], 0.9, 8)
        assert all((a == b).all() for a, b in zip(piece, expected, strict=True))
    assert 0 < size([encode(teacher, taken, 0.9, 4)]) < size([whole])
    assert isinstance(whole, Sparse)
