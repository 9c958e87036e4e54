"""Losses against plain float64 references, closed-form gradients and numbers worked by hand; the fused projection."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import paced.losses as losses
from paced.losses import bucketed_forward_kl, forward_kl, fused_loss, reverse_kl

N, V = 6, 17


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def log_sum(x: np.ndarray) -> float:
    return float(x.max() + np.log(np.exp(x - x.max()).sum())) if x.size and x.max() > -np.inf else -np.inf


def one(size: float) -> np.ndarray:
    """Logits that put all mass but e^-size on one id a row, another id in each row."""
    z = np.zeros((N, V))
    z[np.arange(N), np.arange(N) * 2] = size
    return z


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> student and teacher logits [N, V]."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, N, V))
    signs = rng.choice([-1e4, 1e4], size=(2, N, V))
    return {
        "random": (a, b),
        "equal": (a, a),
        "peaked": (30 * a, 30 * b),
        "uniform student": (0 * a, b),
        "uniform teacher": (a, 0 * b),
        "teacher sure": (a, one(200)),
        "student sure": (one(200), b),
        "both sure, not of the same": (one(200)[::-1].copy(), one(200)),
        "far from zero": (a + 1e4, b - 1e4),
        "huge": (signs[0] + a, signs[1] + b),
        "huge, equal": (signs[0] + a, signs[0] + a),
    }


def reference(name: str, z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value [N] and gradient [N, V] of sum_v p (log p - log q), or of sum_v q (log q - log p)."""
    log_q, log_p = log_softmax(z), log_softmax(t)
    q, p = np.exp(log_q), np.exp(log_p)
    if name == "forward":
        return (p * (log_p - log_q)).sum(-1), q - p
    value = (q * (log_q - log_p)).sum(-1)
    return value, q * (log_q - log_p - value[:, None])


def differentiate(loss: Callable[[Tensor], Tensor], z: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    logits = torch.tensor(z, dtype=dtype, requires_grad=True)
    value = loss(logits)
    value.sum().backward()
    assert logits.grad is not None
    return value.detach().double().numpy(), logits.grad.double().numpy()


def close(found: np.ndarray, expected: np.ndarray, tolerance: float, scale: float = 1.0) -> None:
    """Absolute where values are below 1, relative above; a gradient is as exact as the ``scale`` of what it sums."""
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(scale, float(np.abs(expected).max()), 1.0))


PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])


def rounded(z: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The logits as ``dtype`` holds them: input rounding is no error of the loss."""
    return torch.tensor(z, dtype=dtype).double().numpy()


@PRECISIONS
@pytest.mark.parametrize("name", ["forward", "reverse"])
@pytest.mark.parametrize("case", cases())
def test_full_kl(name: str, case: str, dtype: torch.dtype, tolerance: float) -> None:
    z, t = (rounded(x, dtype) for x in cases()[case])
    loss = {"forward": forward_kl, "reverse": reverse_kl}[name]
    value, gradient = differentiate(lambda x: loss(x, torch.tensor(t, dtype=dtype)), z, dtype)
    expected, expected_gradient = reference(name, z, t)
    close(value, expected, tolerance)
    close(gradient, expected_gradient, tolerance, float(np.abs(expected).max()) if name == "reverse" else 1.0)
    assert value.min() > -tolerance
    if "equal" in case:
        assert np.array_equal(value, np.zeros(N))
        assert np.abs(gradient).max() < tolerance


# Supports: how a row of teacher log-probabilities is cut into stored ids and a tail.
SUPPORTS = ["top 1", "top 5", "bottom 5", "all", "all but one", "tail 0", "tail 1e-12", "padded"]


def cut(support: str, log_p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """ids [N, K], log p of the ids [N, K], log p_tail [N], and each row's set without its padding."""
    order = np.argsort(-log_p, axis=-1)
    size = {"top 1": 1, "all": V, "all but one": V - 1}.get(support, 5)
    ids = order[:, -size:] if support == "bottom 5" else order[:, :size]
    kept = np.take_along_axis(log_p, ids, -1)
    tail = np.array([log_sum(np.delete(row, i)) for row, i in zip(log_p, ids, strict=True)])
    sets = list(ids)
    if support.startswith("tail"):
        mass = float(support.split()[1])
        kept = log_softmax(kept) + np.log1p(-mass)
        tail = np.full(N, np.log(mass) if mass else -np.inf)
    if support == "padded":  # rows of 1, 2, ... entries, filled with their first id at log-probability -inf
        ids, kept, sets = ids.copy(), kept.copy(), []
        for row in range(N):
            n = row % 5 + 1
            sets.append(ids[row, :n].copy())
            tail[row] = log_sum(np.delete(log_p[row], sets[-1]))
            ids[row, n:], kept[row, n:] = ids[row, 0], -np.inf
    return ids, kept, tail, sets


def bucketed_reference(
    z: np.ndarray, kept: np.ndarray, tail: np.ndarray, sets: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """method.md section 6, position by position; gradient q_j - p_j inside S, q_j (1 - p_tail / q_tail) outside."""
    log_q = log_softmax(z)
    value, gradient = np.zeros(N), np.exp(log_q)
    for n, inside in enumerate(sets):
        for j, log_p in zip(inside, kept[n], strict=False):
            value[n] += np.exp(log_p) * (log_p - log_q[n, j]) if log_p > -np.inf else 0.0
            gradient[n, j] -= np.exp(log_p)
        outside = np.setdiff1d(np.arange(V), inside)
        if tail[n] > -np.inf:
            log_q_tail = log_sum(log_q[n, outside])
            value[n] += np.exp(tail[n]) * (tail[n] - log_q_tail)
            gradient[n, outside] -= np.exp(tail[n] + log_q[n, outside] - log_q_tail)
    return value, gradient


@PRECISIONS
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("case", cases())
def test_bucketed_kl(case: str, support: str, dtype: torch.dtype, tolerance: float) -> None:
    z, t = (rounded(x, dtype) for x in cases()[case])
    log_p = log_softmax(t)
    ids, kept, tail, sets = cut(support, log_p)
    kept, tail = rounded(kept, dtype), rounded(tail, dtype)

    def loss(x: Tensor) -> Tensor:
        return bucketed_forward_kl(
            x, torch.tensor(ids), torch.tensor(kept, dtype=dtype), torch.tensor(tail, dtype=dtype)
        )

    value, gradient = differentiate(loss, z, dtype)
    expected, expected_gradient = bucketed_reference(z, kept, tail, sets)
    close(value, expected, tolerance)
    close(gradient, expected_gradient, tolerance)
    exact, _ = reference("forward", z, t)
    scale = tolerance * max(1.0, float(np.abs(exact).max()))
    if not support.startswith("tail"):  # those are distributions of their own, not a coarser view of the teacher's
        assert (value >= -scale).all()
        assert (value <= exact + scale).all()
        if "equal" in case:
            close(value, np.zeros(N), tolerance)
            close(gradient, np.zeros((N, V)), tolerance)
    if support == "all":
        close(value, exact, tolerance)


def test_worked_by_hand() -> None:
    # p = (1/2, 1/4, 1/4), q = (1/8, 1/8, 3/4).
    # KL(p||q) = 1/2 ln 4 + 1/4 ln 2 + 1/4 ln 1/3 = 5/4 ln 2 - 1/4 ln 3.
    # KL(q||p) = 1/8 ln 1/4 + 1/8 ln 1/2 + 3/4 ln 3 = 3/4 ln 3 - 3/8 ln 2.
    # S = {0}, tail 1/2 against 7/8: 1/2 ln 4 + 1/2 ln 4/7 = 2 ln 2 - 1/2 ln 7;
    # gradient (1/8 - 1/2, 1/8 * 3/7, 3/4 * 3/7).
    p, q = (torch.tensor([x], dtype=torch.float64).log() for x in ([1 / 2, 1 / 4, 1 / 4], [1 / 8, 1 / 8, 3 / 4]))
    q.requires_grad_()
    assert forward_kl(q, p).item() == pytest.approx(1.25 * math.log(2) - 0.25 * math.log(3), abs=1e-14)
    assert reverse_kl(q, p).item() == pytest.approx(0.75 * math.log(3) - 0.375 * math.log(2), abs=1e-14)
    half = torch.tensor([0.5], dtype=torch.float64).log()
    value = bucketed_forward_kl(q, torch.tensor([[0]]), half[:, None], half)
    value.sum().backward()
    assert value.item() == pytest.approx(2 * math.log(2) - 0.5 * math.log(7), abs=1e-14)
    assert q.grad is not None
    assert q.grad[0].tolist() == pytest.approx([-3 / 8, 3 / 56, 9 / 28], abs=1e-14)


def test_gradcheck() -> None:
    z, t = cases()["random"]
    logits, teacher = torch.tensor(z[:1], requires_grad=True), torch.tensor(t[:1])
    assert torch.autograd.gradcheck(lambda x: forward_kl(x, teacher), (logits,))
    assert torch.autograd.gradcheck(lambda x: reverse_kl(x, teacher), (logits,))
    for support in ("top 5", "all", "tail 0", "padded"):
        ids, kept, tail, _ = cut(support, log_softmax(t))
        targets = torch.tensor(ids[:1]), torch.tensor(kept[:1]), torch.tensor(tail[:1])
        assert torch.autograd.gradcheck(lambda x, targets=targets: bucketed_forward_kl(x, *targets), (logits,))


ROWS, HIDDEN = 13, 8


def positions(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, dict[str, losses.Divergence]]:
    """hidden, weight, coefficients, and divergences whose rows all differ, so that a wrong slice shows."""
    make = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(ROWS, HIDDEN, generator=make, dtype=dtype),
        torch.randn(V, HIDDEN, generator=make, dtype=dtype),
    )
    coefficients = torch.rand(ROWS, generator=make, dtype=dtype)
    teacher = torch.randn(ROWS, V, generator=make, dtype=dtype)
    log_p, ids = teacher.log_softmax(-1).topk(4)
    tail = torch.log1p(-log_p.exp().sum(-1))
    divergences: dict[str, losses.Divergence] = {
        "forward": lambda z, rows: forward_kl(z, teacher[rows]),
        "reverse": lambda z, rows: reverse_kl(z, teacher[rows]),
        "bucketed": lambda z, rows: bucketed_forward_kl(z, ids[rows], log_p[rows], tail[rows]),
    }
    return hidden, weight, coefficients, divergences


@pytest.mark.parametrize("chunk", [1, 4, 5, 12, 13, 14, 512])
@pytest.mark.parametrize("name", ["forward", "reverse", "bucketed"])
def test_fused_equals_plain_autograd(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK", chunk)
    hidden, weight, coefficients, divergences = positions()
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    expected_values = divergences[name](h @ w.T, slice(0, ROWS))
    expected = (expected_values * coefficients).sum()
    (3 * expected).backward()
    a, b = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    value, values = fused_loss(a, b, coefficients, divergences[name])
    (3 * value).backward()
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(values, expected_values.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(a.grad, h.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(b.grad, w.grad, rtol=0, atol=1e-12)
    assert not values.requires_grad


class Sizes(TorchDispatchMode):
    """Counts the tensors that operations return, by shape."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        self.shapes += [
            tuple(x.shape) for x in (result if isinstance(result, tuple | list) else [result]) if isinstance(x, Tensor)
        ]
        return result


def test_fused_with_tied_and_frozen_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK", 4)
    hidden, weight, coefficients, divergences = positions()
    ids = torch.arange(ROWS) % V
    grads = []
    for fused in (False, True):  # the projection is also the input embedding, and cut to the known ids
        table = weight.clone().requires_grad_()
        h, known = torch.tanh(table[ids] + hidden), table[:V]
        if fused:
            value, _ = fused_loss(h, known, coefficients, divergences["reverse"])
        else:
            value = (divergences["reverse"](h @ known.T, slice(0, ROWS)) * coefficients).sum()
        value.backward()
        grads.append(table.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-12)

    trained, frozen = Sizes(), Sizes()
    for mode, requires in ((trained, True), (frozen, False)):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_(requires)
        with mode:
            fused_loss(h, w, coefficients, divergences["reverse"])[0].backward()
        assert h.grad is not None
        assert (w.grad is not None) == requires
        assert max(math.prod(shape) for shape in mode.shapes if V in shape and HIDDEN not in shape) == 4 * V
    assert (V, HIDDEN) in trained.shapes
    assert (V, HIDDEN) not in frozen.shapes


def test_fused_in_bfloat16_is_close_to_float32() -> None:
    hidden, weight, coefficients, divergences = positions(torch.float32)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        h, w = hidden.to(dtype, copy=True).requires_grad_(), weight.clone().requires_grad_()
        value, _ = fused_loss(h, w, coefficients, divergences["bucketed"])
        value.backward()
        assert value.dtype == w.dtype == torch.float32
        assert h.grad is not None
        assert h.grad.dtype == dtype
        assert w.grad is not None
        found.append((value.detach(), h.grad.float(), w.grad))
    for exact, close_to in zip(*found, strict=True):
        assert ((exact - close_to).norm() / exact.norm()).item() < 0.02
