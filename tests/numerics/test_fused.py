"""The fused projection: against float64 references, in bf16, over nothing, and the memory it takes."""

import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from reference import FORMS, LOSS, PRECISIONS, Once, V, akl_of_constant_share, close, pair
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import paced.losses.fused
from paced.losses import LOSSES, Projection, TeacherLogits, exact, fused_loss

ROWS, HIDDEN = 13, 8
SOFTCAP, TEMPERATURE = 5.0, 0.7


class Inputs(NamedTuple):
    """Of the fused projection; all teacher rows differ, so that a wrong slice shows."""

    hidden: Tensor
    weight: Tensor  # two rows more than the vocabulary has ids
    bias: Tensor
    coefficients: Tensor
    teacher: np.ndarray

    def leaves(self, rows: int = ROWS) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(t.clone().requires_grad_() for t in (self.hidden[:rows], self.weight, self.bias))  # type: ignore[return-value]


def inputs(dtype: torch.dtype = torch.float64) -> Inputs:
    make = torch.Generator().manual_seed(0)
    hidden, weight, bias, coefficients, teacher = (
        torch.randn(*size, generator=make, dtype=torch.float64)
        for size in ((ROWS, HIDDEN), (V + 2, HIDDEN), (V + 2,), (ROWS,), (ROWS, V))
    )
    return Inputs(*(t.to(dtype) for t in (hidden, weight, bias, coefficients.abs())), teacher.numpy())


def cut_up(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Blocks of 5 ids, the divergence of 3 positions at once; memory for the logits of ``chunk`` positions.

    Up to 8 (HIDDEN), the first 8 have their logits in the gradient of a trained weight; ``chunk`` cuts what is left.
    """
    for name, value in (("LOGITS", chunk * V), ("BLOCK", 3 * V), ("PART", 5)):
        monkeypatch.setattr(paced.losses.fused, name, value)


@PRECISIONS
@FORMS
@LOSS
@pytest.mark.parametrize(("chunk", "rows"), [(1, ROWS), (4, ROWS), (5, ROWS), (9, ROWS), (14, ROWS), (4, 1), (4, 0)])
def test_fused(
    name: str,
    support: str | None,
    floor: float,
    chunk: int,
    rows: int,
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With bias, soft-capping, temperature and two padding rows of the vocabulary."""
    cut_up(monkeypatch, chunk)
    case = inputs(dtype)
    divergence, reference = pair(name, case.teacher[:rows], support, floor, dtype)
    shares = case.coefficients[:rows]
    own = case.leaves(rows)
    value, values = fused_loss(own[0], Projection(own[1], V, own[2], SOFTCAP, TEMPERATURE), shares, divergence)
    (3 * value).backward()

    h, w, b = (t.detach().double().requires_grad_() for t in own)
    logits = SOFTCAP * torch.tanh((h @ w.T + b)[:, :V] / SOFTCAP) / TEMPERATURE
    expected, slopes = reference(logits.detach().numpy())
    logits.backward(3 * torch.tensor(slopes) * shares[:, None].double())
    close(values.double().numpy(), expected, tolerance)
    close(value.detach().double().numpy()[None], (expected * shares.double().numpy()).sum()[None], tolerance)
    for mine, theirs in zip(own, (h, w, b), strict=True):
        assert mine.grad is not None and mine.grad.dtype == dtype
        assert theirs.grad is not None
        close(mine.grad.double().numpy(), theirs.grad.numpy(), tolerance)
    assert own[1].grad is not None and not own[1].grad[V:].any()
    assert not values.requires_grad
    with pytest.raises(RuntimeError, match="differentiated once"):
        value.backward()


@FORMS
@LOSS
def test_fused_gradcheck(name: str, support: str | None, floor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In hidden states, weight and bias."""
    cut_up(monkeypatch, 4)
    case = inputs()
    loss = akl_of_constant_share() if name == "akl" else None
    divergence, _ = pair(name, case.teacher[:3], support, floor, loss=loss)

    class Anew(torch.autograd.Function):
        """The loss formed again for each derivative: its own gradients are handed on once."""

        @staticmethod
        def forward(ctx: Any, *given: Tensor) -> Tensor:
            with torch.enable_grad():
                h, w, b = (t.detach().requires_grad_() for t in given)
                value, _ = fused_loss(h, Projection(w, V, b, SOFTCAP, TEMPERATURE), case.coefficients[:3], divergence)
                ctx.save_for_backward(*torch.autograd.grad(value, (h, w, b)))
            return value.detach()

        @staticmethod
        def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, ...]:
            return tuple(g * upstream[0] for g in ctx.saved_tensors)

    assert torch.autograd.gradcheck(Anew.apply, case.leaves(3))


@FORMS
@LOSS
@pytest.mark.parametrize("chunk", [4, 14])
def test_fused_in_bfloat16(
    name: str, support: str | None, floor: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each number is off by no more than its roundings to bf16, of one part in 256 each.

    A logit's product is rounded once. On the way to a gradient three numbers are: the divergence's slope, the product
    of a block of ids, and what is handed on; for the weight not this, but the hidden state times its share.
    """
    cut_up(monkeypatch, chunk)
    case = inputs(torch.float32)
    plain, reference = pair(name, case.teacher, support, floor, torch.float32)
    seen = torch.empty(ROWS, V, dtype=torch.float64)

    def divergence(z: Tensor, rows: slice) -> Tensor:
        seen[rows] = z
        return plain(z, rows)

    h, (_, w, b) = case.hidden.to(torch.bfloat16).requires_grad_(), case.leaves()
    value, values = fused_loss(h, Projection(w, V, b), case.coefficients, divergence)
    value.backward()
    assert value.dtype == values.dtype == torch.float32
    assert h.grad is not None and h.grad.dtype == torch.bfloat16
    assert w.grad is not None and b.grad is not None and w.grad.dtype == b.grad.dtype == torch.float32

    states, shares = h.detach().double(), case.coefficients[:, None].double()
    weight = w.detach()[:V].bfloat16().double()
    products = states @ weight.T
    unit, fp32 = 2.0**-8, 1e-5
    assert ((seen - products - b.detach()[:V]).abs() <= unit * products.abs() + fp32).all()
    expected, slopes = (torch.tensor(x) for x in reference(seen.numpy()))
    close(values.double().numpy(), expected.numpy(), fp32)
    slopes = slopes * shares
    for found, a, c in ((h.grad, slopes, weight), (w.grad[:V], slopes.T, states)):
        allowed = ((1 + unit) ** 3 - 1) * (a.abs() @ c.abs()) + fp32
        assert ((found - a @ c).abs() <= allowed).all()
    close(b.grad[:V].double().numpy(), slopes.sum(0).numpy(), fp32)  # not rounded on the way


class Memory(TorchDispatchMode):
    """The most numbers at once in what operations take memory for, and the largest such piece."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}
        self.peak = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        before = {x.untyped_storage()._cdata for x in args if isinstance(x, Tensor)}
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            storage = x.untyped_storage() if isinstance(x, Tensor) else None
            if storage is None or storage._cdata in before | self._sizes.keys():
                continue
            self._sizes[storage._cdata] = size = storage.nbytes() // x.element_size()
            weakref.finalize(storage, self._sizes.pop, storage._cdata)
            self.largest, self.peak = max(self.largest, size), max(self.peak, sum(self._sizes.values()))
        return result


@pytest.mark.parametrize("state", ["trained", "frozen", "without gradients"])
@pytest.mark.parametrize("rows", [64, 256])
def test_fused_takes_memory_for_a_chunk_of_logits(rows: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with a trained weight for none up to H positions: they lie in its gradient's."""
    size, hidden, chunk, step = 1000, 64, 16, 2
    for name, value in (("LOGITS", chunk * size), ("BLOCK", step * size), ("PART", 100)):
        monkeypatch.setattr(paced.losses.fused, name, value)
    make = torch.Generator().manual_seed(0)
    h, w = (torch.randn(n, hidden, generator=make, requires_grad=True) for n in (rows, size))
    w.requires_grad_(state != "frozen")
    teacher = torch.randn(1, size, generator=make)
    with torch.set_grad_enabled(state != "without gradients"), Memory() as memory:
        value, _ = fused_loss(
            h, Projection(w, size), torch.ones(rows), lambda z, _: exact(LOSSES["jsd"], z, teacher.expand(len(z), -1))
        )
        if value.requires_grad:
            value.backward()
    trained = state == "trained"
    assert (w.grad is not None) == trained
    logits = 0 if trained and rows <= hidden else chunk * size
    gradients = rows * hidden + trained * size * hidden
    assert memory.largest == (size * hidden if trained else max(chunk * size, rows * hidden))
    # Beyond these: what two positions' divergence is formed of, and products of a block of ids on their way.
    assert 0 < memory.peak - gradients - logits < 11 * step * size


def test_fused_with_tied_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The projection is also the input embedding, and cut to the known ids."""
    cut_up(monkeypatch, 4)
    case = inputs()
    divergence, _ = pair("reverse_kl", case.teacher)
    ids = torch.arange(ROWS) % V
    grads = []
    for fused in (False, True):
        table = case.weight.clone().requires_grad_()
        h = torch.tanh(table[ids] + case.hidden)
        if fused:
            value, _ = fused_loss(h, Projection(table, V), case.coefficients, divergence)
        else:
            values = Once.apply(h @ table[:V].T, lambda z: divergence(z, slice(0, ROWS)))
            value = (values * case.coefficients).sum()
        value.backward()
        grads.append(table.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shift", [0, 2])
def test_teacher_logits_are_computed_ahead_of_the_positions_asked_for(
    shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_up(monkeypatch, 5)
    hidden, weight, bias, *_ = inputs()
    expected = (hidden @ weight.T + bias)[:, :V].roll(shift, -1)
    for steps in ([(0, 3), (3, 6), (6, 8), (8, 11), (11, 13)], [(0, 13)], [(4, 6), (0, 2)]):
        teacher = TeacherLogits(hidden, Projection(weight, V, bias), shift)
        for start, stop in steps:
            torch.testing.assert_close(teacher(slice(start, stop)), expected[start:stop])
    counts: list[int] = []
    plain = Projection.logits
    monkeypatch.setattr(Projection, "logits", lambda head, rows: counts.append(len(rows)) or plain(head, rows))
    teacher = TeacherLogits(hidden, Projection(weight, V))
    for start in range(ROWS):
        teacher(slice(start, start + 1))
    assert counts == [5, 5, 3]
