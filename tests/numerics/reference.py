"""Losses by plain NumPy in float64, position by position, and the cases on which the project's are held against them.

Shapes: N positions, V ids, K stored entries, M outcomes of a distribution.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from paced.losses import LOSSES, Divergence, Loss, akl, bucketed, exact, forward_kl, jsd, reverse_kl

N, V = 6, 17

PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
NAMES = pytest.mark.parametrize("name", [*LOSSES, "jsd0.1", "jsd0.9"])
LOSS = pytest.mark.parametrize("name", LOSSES)
FORMS = pytest.mark.parametrize(
    ("support", "floor"), [(None, 1.0), ("top 5", 1.0), ("top 5", 0.1)], ids=["exact", "bucketed", "bounded"]
)


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


def kl(log_a: np.ndarray, log_b: np.ndarray) -> np.ndarray:
    """sum a (log a - log b); outcomes without mass in a add nothing."""
    a = np.exp(log_a)
    with np.errstate(invalid="ignore"):
        return np.where(a > 0, a * np.where(a > 0, log_a - log_b, 0), 0).sum(-1)


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


def whole(name: str, z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return formula(name, log_softmax(z), log_softmax(t))


# How a row of teacher log-probabilities is cut into stored ids and a tail.
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
        tail = np.full(len(ids), np.log(mass) if mass else -np.inf)
    if support == "padded":  # rows of 1, 2, ... entries, filled with their first id at log-probability -inf
        ids, kept, sets = ids.copy(), kept.copy(), []
        for row in range(len(ids)):
            n = row % 5 + 1
            sets.append(ids[row, :n].copy())
            tail[row] = log_sum(np.delete(log_p[row], sets[-1]))
            ids[row, n:], kept[row, n:] = ids[row, 0], -np.inf
    return ids, kept, tail, sets


def held(log_q: np.ndarray, outside: np.ndarray, tail: float, floor: float) -> tuple[np.ndarray, float]:
    """Ids to which the student's own tail would give more of the teacher's mass than ``most``; and ``most``."""
    most = max(floor, 2 * np.exp(tail) / max(len(outside), 1))
    given = log_q[outside] - log_sum(log_q[outside]) + tail
    return outside[given > np.log(most)] if floor < 1 else outside[:0], most


def partition(
    name: str, z: np.ndarray, kept: np.ndarray, tail: np.ndarray, sets: list[np.ndarray], floor: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """method.md section 6, position by position: the loss of the partition, the tail's gradient shared out by q."""
    log_q = log_softmax(z)
    value, gradient = np.zeros(len(z)), np.zeros_like(z)
    for n, stored in enumerate(sets):
        more, most = held(log_q[n], np.setdiff1d(np.arange(V), stored), tail[n], floor)
        inside = np.concatenate([stored, more])
        outside = np.setdiff1d(np.arange(V), inside)
        log_p = [*kept[n, : len(stored)], *[np.log(most)] * len(more)]
        left = np.log(np.exp(tail[n]) - len(more) * most) if len(more) else tail[n]
        coarse = np.array([[*log_q[n, inside], log_sum(log_q[n, outside])]])
        value[n : n + 1], slopes = formula(name, coarse, np.array([[*log_p, left]]))
        gradient[n, inside] = slopes[0, :-1]
        gradient[n, outside] = slopes[0, -1] * np.exp(log_q[n, outside] - coarse[0, -1])
    return value, gradient


def loss_of(name: str) -> Loss:
    return functools.partial(jsd, share=float(name[3:])) if name.startswith("jsd0") else LOSSES[name]


def rounded(z: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The numbers as ``dtype`` holds them: input rounding is no error of the loss."""
    return torch.tensor(z, dtype=dtype).double().numpy()


def pair(
    name: str,
    t: np.ndarray,
    support: str | None = None,
    floor: float = 1.0,
    dtype: torch.dtype = torch.float64,
    loss: Loss | None = None,
) -> tuple[Divergence, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """A divergence from teacher logits [N, V], ours and as the reference has it; sparse where a support is named."""
    loss = loss or loss_of(name)
    if support is None:
        teacher = torch.tensor(t, dtype=dtype)
        return lambda z, rows: exact(loss, z, teacher[rows]), lambda z: whole(name, z, rounded(t, dtype))
    ids, kept, tail, sets = cut(support, log_softmax(t))
    targets = torch.tensor(ids), torch.tensor(kept, dtype=dtype), torch.tensor(tail, dtype=dtype)
    return (
        lambda z, rows: bucketed(loss, z, *(x[rows] for x in targets), floor),
        lambda z: partition(name, z, rounded(kept, dtype), rounded(tail, dtype), sets, floor),
    )


def differentiate(divergence: Divergence, z: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Values, and the gradient that the divergence leaves in place of the logits."""
    logits = torch.tensor(z, dtype=dtype)
    value = divergence(logits, slice(None))
    assert value.dtype == dtype
    return value.double().numpy(), logits.double().numpy()


def close(found: np.ndarray, expected: np.ndarray, tolerance: float, scale: float | np.ndarray = 1.0) -> None:
    """Row by row: absolute where a row's values are below 1, relative to the largest above.

    A gradient is as exact as the ``scale`` [N] of what it sums.
    """
    assert np.isfinite(found).all()
    axes = tuple(range(1, found.ndim))
    error, size = np.abs(found - expected).max(axes, initial=0.0), np.abs(expected).max(axes, initial=1.0)
    assert (error <= tolerance * np.maximum(size, scale)).all(), error / np.maximum(size, scale)


def scale_of(name: str, expected: np.ndarray) -> float | np.ndarray:
    """The gradient of all but forward KL is q times a difference of numbers as large as the value."""
    return 1.0 if name == "forward_kl" else np.abs(expected)


def akl_of_constant_share() -> Loss:
    """AKL with the weights of its first call, which are constants in its gradient."""
    share: list[Tensor] = []

    def loss(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
        if not share:
            share.append(torch.tensor(head_share(log_q.detach().numpy(), log_p.numpy())))
        (forward, _), (backward, _) = forward_kl(log_q, log_p), reverse_kl(log_q, log_p)
        return share[0] * forward + (1 - share[0]) * backward, akl(log_q, log_p)[1]

    return loss


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
