"""What the fidelity report says against closed forms, autograd and the losses themselves."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from paced.diagnosis.fidelity import Fidelity, bytes_a_position, fidelity, fixed, size, slices
from paced.losses.targets import Sparse, decode, encode

N, V = 40, 50


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of student and teacher [N, V] in float64, and the tokens taken."""
    make = torch.Generator().manual_seed(0)
    draw = [2 * torch.randn(N, V, generator=make, dtype=torch.float64) for _ in range(2)]
    return draw[0], draw[1], torch.randint(0, V, (N,), generator=make)


@pytest.mark.parametrize("floor", [1e-4, 0.003, 0.02, 0.3])
def test_what_the_loss_cannot_see(pair: tuple[torch.Tensor, torch.Tensor, torch.Tensor], floor: float) -> None:
    """Without a bound the loss has the gradient of the full KL with the tail spread as the student's: q - c."""
    logits, teacher, taken = pair
    sparse = encode(teacher, taken, floor)
    found = fidelity(logits, teacher, sparse, 1.0)
    ids, logprobs, tail = decode(sparse, logits.device, torch.float64)
    p, q, c = teacher.softmax(-1), logits.softmax(-1), torch.zeros_like(teacher)
    for row, n in enumerate(sparse.counts):
        outside = torch.ones(V, dtype=torch.bool)
        outside[ids[row, :n]] = False
        c[row, ids[row, :n]] = logprobs[row, :n].exp()
        c[row, outside] = tail[row].exp() * q[row, outside] / q[row, outside].sum()
    assert found.relative_error == pytest.approx(float((c - p).norm() / (q - p).norm()), rel=1e-9)
    assert found.mass == pytest.approx(float(p.sum() - tail.exp().sum()), abs=N * V * floor / 4 + 1e-2)
    # KL(p || c), but for the rounding of what is stored.
    unseen = torch.where(c > 0, p * (p / c).log(), 0).sum()
    assert found.unseen == pytest.approx(float(unseen), abs=N * (2e-3 + V * floor / 4))
    assert (found.positions, found.entries) == (N, sparse.counts.sum())


def test_the_bound_brings_the_gradient_nearer(pair: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    logits, teacher, taken = pair
    sparse = encode(teacher, taken, 0.01)
    free, bound = (fidelity(logits, teacher, sparse, most) for most in (1.0, 0.01))
    assert bound.relative_error < 0.7 * free.relative_error
    assert bound.unseen < free.unseen


def test_more_entries_lose_less(pair: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    logits, teacher, taken = pair
    nothing = encode(teacher, taken, 0.4)
    found = [fidelity(logits, teacher, fixed(k).encode(teacher, taken, nothing), 1.0) for k in (1, 4, 16, V)]
    assert [f.entries for f in found] == [N * k for k in (1, 4, 16, V)]
    assert [f.relative_error for f in found] == sorted((f.relative_error for f in found), reverse=True)
    assert found[0].relative_error > 0.1 > 1e-3 > found[-1].relative_error


def test_a_student_equal_to_its_teacher_has_no_error_to_speak_of() -> None:
    assert Fidelity(error=0.0, gradient=0.0).relative_error == 0


def test_a_sample_is_cut_along_its_positions() -> None:
    make = torch.Generator().manual_seed(1)
    teacher, taken = 3 * torch.randn(150, V, generator=make), torch.randint(0, V, (150,), generator=make)
    whole = encode(teacher, taken, 0.02)
    cut = slices(whole)
    assert [(rows.start, rows.stop) for rows, _ in cut] == [(0, 64), (64, 128), (128, 150)]
    for rows, piece in cut:
        expected = encode(teacher[rows], taken[rows], 0.02)
        assert all((a == b).all() for a, b in zip(piece, expected, strict=True))
    assert 0 < size([encode(teacher, taken, 0.1)]) < size([whole])
    assert isinstance(whole, Sparse)


def test_bytes_of_a_part_are_shared_by_its_positions(tmp_path: Path) -> None:
    table = pa.table({"response": ["a", "b"], "entry_count": [list(range(8)), list(range(7))]})
    pq.write_table(table, tmp_path / "part.parquet", row_group_size=1)
    assert bytes_a_position(tmp_path / "part.parquet") == (tmp_path / "part.parquet").stat().st_size / 15
