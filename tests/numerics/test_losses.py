"""Losses against plain float64 references, closed-form gradients and numbers worked by hand; the fused projection."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import paced.losses as losses
from paced.losses import LOSSES, Projection, bucketed, exact, fused_loss, jsd

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


def times_log(a: np.ndarray, log_ratio: np.ndarray) -> np.ndarray:
    return np.where(a > 0, a * np.where(a > 0, log_ratio, 0), 0)


def kl(log_a: np.ndarray, log_b: np.ndarray) -> np.ndarray:
    """sum a (log a - log b); outcomes without mass in a add nothing."""
    with np.errstate(invalid="ignore"):
        return times_log(np.exp(log_a), log_a - log_b).sum(-1)


def head_share(log_q: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    """AKL's weight of the forward KL, outcome by outcome from the teacher's most probable down."""
    shares = []
    for q, p in zip(np.exp(log_q), np.exp(log_p), strict=True):
        head = tail = mass = 0.0
        last = 1.0
        for i in np.argsort(-p, kind="stable"):
            if mass < 0.5 or p[i] == last:
                head, last = head + abs(p[i] - q[i]), p[i]
            else:
                tail += abs(p[i] - q[i])
            mass += p[i]
        shares.append(head / (head + tail) if head + tail else 0.5)
    return np.array(shares)


def formula(name: str, log_q: np.ndarray, log_p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value [N] and gradient in the logits [N, M] of a loss over M outcomes; log-probabilities may be -inf."""
    q, p = np.exp(log_q), np.exp(log_p)
    with np.errstate(invalid="ignore"):
        ratio = np.where(q > 0, log_q - log_p, 0)
        forward = kl(log_p, log_q), q - p
    if name == "forward_kl":
        return forward
    if name == "akl":
        backward = formula("reverse_kl", log_q, log_p)
        a = head_share(log_q, log_p)
        return a * forward[0] + (1 - a) * backward[0], a[:, None] * forward[1] + (1 - a)[:, None] * backward[1]
    if name.startswith("jsd"):
        b = float(name.removeprefix("jsd") or 0.5)
        log_m = np.logaddexp(log_p + np.log(b), log_q + np.log(1 - b))
        with np.errstate(invalid="ignore"):
            to_m = np.where(q > 0, log_q - log_m, 0)
        apart = kl(log_q, log_m)
        return b * kl(log_p, log_m) + (1 - b) * apart, (1 - b) * q * (to_m - apart[:, None])
    assert name == "reverse_kl"
    apart = kl(log_q, log_p)
    return apart, q * (ratio - apart[:, None])


def reference(name: str, z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return formula(name, log_softmax(z), log_softmax(t))


def loss_of(name: str) -> losses.Loss:
    return functools.partial(jsd, share=float(name[3:])) if name.startswith("jsd0") else LOSSES[name]


def differentiate(divergence: Callable[[Tensor], Tensor], z: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, ...]:
    """Values, and the gradient that the divergence leaves in place of the logits."""
    logits = torch.tensor(z, dtype=dtype)
    value = divergence(logits)
    return value.double().numpy(), logits.double().numpy()


def close(found: np.ndarray, expected: np.ndarray, tolerance: float, scale: float = 1.0) -> None:
    """Absolute where values are below 1, relative above; a gradient is as exact as the ``scale`` of what it sums."""
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(scale, float(np.abs(expected).max()), 1.0))


PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])


def rounded(z: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The logits as ``dtype`` holds them: input rounding is no error of the loss."""
    return torch.tensor(z, dtype=dtype).double().numpy()


NAMES = pytest.mark.parametrize("name", [*LOSSES, "jsd0.1", "jsd0.9"])


def scale_of(name: str, expected: np.ndarray) -> float:
    """Reverse KL's gradient is q times a difference of numbers as large as the value."""
    return 1.0 if name == "forward_kl" else float(np.abs(expected).max())


@PRECISIONS
@NAMES
@pytest.mark.parametrize("case", cases())
def test_exact(name: str, case: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "BLOCK", 4 * V)  # six positions in two blocks
    z, t = (rounded(x, dtype) for x in cases()[case])
    value, gradient = differentiate(lambda x: exact(loss_of(name), x, torch.tensor(t, dtype=dtype)), z, dtype)
    expected, expected_gradient = reference(name, z, t)
    close(value, expected, tolerance)
    close(gradient, expected_gradient, tolerance, scale_of(name, expected))
    assert value.min() > -tolerance
    if "equal" in case:
        assert np.abs(value).max() == 0 or (name.startswith("jsd") and np.abs(value).max() < tolerance)
        assert np.abs(gradient).max() < tolerance


def test_no_position() -> None:
    assert exact(LOSSES["akl"], torch.empty(0, V), torch.empty(0, V)).shape == (0,)
    nothing = torch.empty(0, 3)
    assert bucketed(LOSSES["jsd"], torch.empty(0, V), nothing.long(), nothing, nothing[:, 0]).shape == (0,)


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
    name: str, z: np.ndarray, kept: np.ndarray, tail: np.ndarray, sets: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """method.md section 6, position by position: the loss of the partition, the tail's gradient shared out by q."""
    log_q = log_softmax(z)
    value, gradient = np.zeros(N), np.zeros((N, V))
    for n, inside in enumerate(sets):
        outside = np.setdiff1d(np.arange(V), inside)
        coarse = np.array([[*log_q[n, inside], log_sum(log_q[n, outside])]])
        value[n : n + 1], slopes = formula(name, coarse, np.array([[*kept[n, : len(inside)], tail[n]]]))
        gradient[n, inside] = slopes[0, :-1]
        gradient[n, outside] = slopes[0, -1] * np.exp(log_q[n, outside] - coarse[0, -1])
    return value, gradient


@PRECISIONS
@NAMES
@pytest.mark.parametrize("support", SUPPORTS)
def test_bucketed(
    name: str, support: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "BLOCK", 4 * V)
    for case, logits in cases().items():
        z, t = (rounded(x, dtype) for x in logits)
        ids, kept, tail, sets = cut(support, log_softmax(t))
        kept, tail = rounded(kept, dtype), rounded(tail, dtype)
        if support == "tail 0" and name in ("reverse_kl", "akl"):  # infinite: q puts mass where p has none
            continue
        targets = torch.tensor(ids), torch.tensor(kept, dtype=dtype), torch.tensor(tail, dtype=dtype)
        value, gradient = differentiate(lambda x, c=targets: bucketed(loss_of(name), x, *c), z, dtype)
        expected, expected_gradient = bucketed_reference(name, z, kept, tail, sets)
        close(value, expected, tolerance)
        close(gradient, expected_gradient, tolerance, scale_of(name, expected))
        whole, _ = reference(name, z, t)
        scale = tolerance * max(1.0, float(np.abs(whole).max()))
        if not support.startswith("tail"):  # those are distributions of their own, not a coarser view of the teacher's
            assert (value >= -scale).all()
            if name != "akl":  # its weights depend on the partition
                assert (value <= whole + scale).all(), case
            if "equal" in case:
                close(value, np.zeros(N), tolerance)
                close(gradient, np.zeros((N, V)), tolerance)
        if support == "all":
            close(value, whole, tolerance)


def test_mass_where_the_teacher_has_none() -> None:
    """KL(q || p) is infinite there, and is not told as a finite number that training could go on with."""
    half = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    logits = torch.zeros(1, 3, dtype=torch.float64)
    value = bucketed(LOSSES["reverse_kl"], logits, torch.tensor([[0, 1]]), half, torch.tensor([-torch.inf]).double())
    assert value.item() > 1e300


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
    close(value.numpy(), reference("akl", z.numpy(), t.numpy())[0], 1e-10)


class Once(torch.autograd.Function):
    """A divergence that leaves its gradient in the logits, for autograd."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, divergence: Callable[[Tensor], Tensor]) -> Tensor:
        gradient = logits.clone()
        value = divergence(gradient)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * upstream[0][:, None], None


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd", "jsd0.1", "jsd0.9"])
def test_gradcheck(name: str) -> None:
    """Not of AKL, whose weights are constants in its gradient."""
    z, t = cases()["random"]
    logits, teacher, loss = torch.tensor(z[:2], requires_grad=True), torch.tensor(t[:2]), loss_of(name)
    assert torch.autograd.gradcheck(lambda x: Once.apply(x, lambda y: exact(loss, y, teacher)), (logits,))
    for support in ("top 5", "all", "tail 1e-12", "padded"):
        ids, kept, tail, _ = cut(support, log_softmax(t))
        c = torch.tensor(ids[:2]), torch.tensor(kept[:2]), torch.tensor(tail[:2])
        assert torch.autograd.gradcheck(lambda x, c=c: Once.apply(x, lambda y: bucketed(loss, y, *c)), (logits,))


ROWS, HIDDEN = 13, 8


class Case(NamedTuple):
    """Inputs of the fused projection; all rows of the divergences differ, so that a wrong slice shows."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    coefficients: Tensor
    divergences: dict[str, losses.Divergence]


def positions(dtype: torch.dtype = torch.float64) -> Case:
    make = torch.Generator().manual_seed(0)
    hidden, weight, bias, coefficients, teacher = (
        torch.randn(*size, generator=make, dtype=dtype)
        for size in ((ROWS, HIDDEN), (V + 2, HIDDEN), (V + 2,), (ROWS,), (ROWS, V))
    )
    log_p, ids = teacher.log_softmax(-1).topk(4)
    tail = torch.log1p(-log_p.exp().sum(-1))
    divergences: dict[str, losses.Divergence] = {}
    for name, loss in LOSSES.items():
        divergences[name] = lambda z, rows, loss=loss: exact(loss, z, teacher[rows])
        divergences[f"bucketed {name}"] = lambda z, rows, loss=loss: bucketed(
            loss, z, ids[rows], log_p[rows], tail[rows]
        )
    return Case(hidden, weight, bias, coefficients.abs(), divergences)


def cut_up(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Blocks of 5 ids, the divergence of 3 positions at once; memory for the logits of ``chunk`` positions.

    Up to 8 (HIDDEN), the first 8 have their logits in the gradient of a trained weight; ``chunk`` cuts what is left.
    """
    for name, value in (("LOGITS", chunk * V), ("BLOCK", 3 * V), ("PART", 5)):
        monkeypatch.setattr(losses, name, value)


@pytest.mark.parametrize("chunk", [1, 4, 5, 9, 14])
@pytest.mark.parametrize("name", [*LOSSES, *(f"bucketed {name}" for name in LOSSES)])
def test_fused_equals_plain_autograd(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With bias, soft-capping, temperature and two padding rows of the vocabulary."""
    cut_up(monkeypatch, chunk)
    case = positions()
    divergence = case.divergences[name]
    h, w, b = (t.clone().requires_grad_() for t in case[:3])
    logits = 5 * torch.tanh((h @ w.T + b)[:, :V] / 5) / 0.7
    expected_values = Once.apply(logits, lambda z: divergence(z, slice(0, ROWS)))
    expected = (expected_values * case.coefficients).sum()
    (3 * expected).backward()
    own = [t.clone().requires_grad_() for t in case[:3]]
    value, values = fused_loss(own[0], Projection(own[1], V, own[2], 5.0, 0.7), case.coefficients, divergence)
    (3 * value).backward()
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(values, expected_values.detach(), rtol=0, atol=1e-12)
    for mine, theirs in zip(own, (h, w, b), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-11)
    assert own[1].grad is not None
    assert not own[1].grad[V:].any()
    assert not values.requires_grad
    with pytest.raises(RuntimeError, match="differentiated once"):
        value.backward()


def test_fused_over_nothing_and_without_gradients() -> None:
    case = positions()
    h, w = case.hidden[:0].clone().requires_grad_(), case.weight.clone().requires_grad_()
    value, values = fused_loss(h, Projection(w, V), case.coefficients[:0], case.divergences["akl"])
    value.backward()
    assert value.item() == 0 and values.shape == (0,)
    assert w.grad is not None and not w.grad.any()
    with torch.no_grad(), Sizes() as sizes:
        fused_loss(case.hidden, Projection(w, V), case.coefficients, case.divergences["akl"])
    assert w.shape not in sizes.shapes


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
    cut_up(monkeypatch, 4)
    hidden, weight, _, coefficients, divergences = positions()
    divergence = divergences["reverse_kl"]
    ids = torch.arange(ROWS) % V
    grads = []
    for fused in (False, True):  # the projection is also the input embedding, and cut to the known ids
        table = weight.clone().requires_grad_()
        h = torch.tanh(table[ids] + hidden)
        if fused:
            value, _ = fused_loss(h, Projection(table, V), coefficients, divergence)
        else:
            values = Once.apply(h @ table[:V].T, lambda z: divergence(z, slice(0, ROWS)))
            value = (values * coefficients).sum()
        value.backward()
        grads.append(table.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-12)

    trained, frozen = Sizes(), Sizes()
    for mode, requires in ((trained, True), (frozen, False)):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_(requires)
        with mode:
            fused_loss(h, Projection(w, V), coefficients, divergence)[0].backward()
        assert h.grad is not None
        assert (w.grad is not None) == requires
        assert max(math.prod(shape) for shape in mode.shapes if V in shape and HIDDEN not in shape) == 4 * V
    assert (V + 2, HIDDEN) in trained.shapes
    assert (V + 2, HIDDEN) not in frozen.shapes


def test_fused_in_bfloat16_is_close_to_float32() -> None:
    hidden, weight, _, coefficients, divergences = positions(torch.float32)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        h, w = hidden.to(dtype, copy=True).requires_grad_(), weight.clone().requires_grad_()
        value, _ = fused_loss(h, Projection(w, V), coefficients, divergences["bucketed forward_kl"])
        value.backward()
        assert value.dtype == w.dtype == torch.float32
        assert h.grad is not None
        assert h.grad.dtype == dtype
        assert w.grad is not None
        found.append((value.detach(), h.grad.float(), w.grad))
    for full, close_to in zip(*found, strict=True):
        assert ((full - close_to).norm() / full.norm()).item() < 0.02


@pytest.mark.parametrize("shift", [0, 2])
def test_teacher_logits_are_computed_ahead_of_the_positions_asked_for(
    shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_up(monkeypatch, 5)
    hidden, weight, bias, *_ = positions()
    expected = (hidden @ weight.T + bias)[:, :V].roll(shift, -1)
    for steps in ([(0, 3), (3, 6), (6, 8), (8, 11), (11, 13)], [(0, 13)], [(4, 6), (0, 2)]):
        teacher = losses.TeacherLogits(hidden, Projection(weight, V, bias), shift)
        for start, stop in steps:
            torch.testing.assert_close(teacher(slice(start, stop)), expected[start:stop])
    counts: list[int] = []
    plain = Projection.logits
    monkeypatch.setattr(Projection, "logits", lambda head, rows: counts.append(len(rows)) or plain(head, rows))
    teacher = losses.TeacherLogits(hidden, Projection(weight, V))
    for start in range(ROWS):
        teacher(slice(start, start + 1))
    assert counts == [5, 5, 3]
