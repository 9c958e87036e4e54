"""The losses for other people's training loops: plain functions, and a module that masks, weights and reduces.

Shapes: B sequences, T padded positions of each, N positions that count, V ids the tokenizer knows, H hidden size, K
stored entries of a teacher's distribution (padded). Values are in nats. Student q and teacher p are the distributions
of the next token; a caller's logits are those that predict the token in question, so they are shifted already.
"""

import functools
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paced import losses
from paced.errors import ConfigError, DataError
from paced.losses import LOSSES, Divergence, Loss, Projection, bucketed, chunk_rows, exact, fused_loss

__all__ = ["PacedLoss", "Projection", "SparseTargets", "akl", "forward_kl", "jsd", "reverse_kl"]

Reduction = Literal["sequence", "token"]


class SparseTargets(NamedTuple):
    """A teacher's distributions at N positions as some ids and the mass of all others (docs/method.md, section 6).

    Attributes:
        ids: stored ids, [N, K]; a position with fewer repeats its first id with log-probability -inf.
        logprobs: their log-probabilities, [N, K].
        tail_logprob: the logarithm of the mass outside of them, [N]; with ``logprobs`` it sums to 1.
        floor: the teacher gives no other id more than this probability; 1 if that is not known.
    """

    ids: Tensor
    logprobs: Tensor
    tail_logprob: Tensor
    floor: float = 1.0


Targets = Tensor | SparseTargets
"""A teacher's logits, [..., V], or sparse targets of as many positions."""


def forward_kl(student_logits: Tensor, teacher: Targets, *, temperature: float = 1.0) -> Tensor:
    """KL(p || q) = sum_v p_v (log p_v - log q_v) at each position: 0 where q = p, never below.

    Args:
        student_logits: [..., V]; their gradient is formed with the value, in fp32 or better.
        teacher: the teacher's logits, [..., V], taken as constants; or sparse targets of all positions in their order,
            of which the loss over the partition {each stored id, all others} is formed.
        temperature: both distributions are those of the logits divided by it; with sparse targets it must be 1.

    Returns:
        nats, [...]; differentiable once, in the student's logits.

    Raises:
        ConfigError: the temperature is not positive, or not 1 with sparse targets.
        DataError: the shapes do not fit.

    Source: docs/method.md, sections 3 and 6.
    """
    return _values(losses.forward_kl, student_logits, teacher, temperature)


def reverse_kl(student_logits: Tensor, teacher: Targets, *, temperature: float = 1.0) -> Tensor:
    """KL(q || p) = sum_v q_v (log q_v - log p_v) at each position, differentiable in q everywhere.

    Arguments, shapes, units and errors are those of ``forward_kl``. Source: docs/method.md, section 4.
    """
    return _values(losses.reverse_kl, student_logits, teacher, temperature)


def jsd(student_logits: Tensor, teacher: Targets, *, share: float = 0.5, temperature: float = 1.0) -> Tensor:
    """Generalised Jensen-Shannon divergence: b KL(p || m) + (1 - b) KL(q || m), m = b p + (1 - b) q.

    Arguments, shapes, units and errors are those of ``forward_kl``; b is ``share``, in (0, 1). Source: GKD, arXiv
    2306.13649, equation 1.
    """
    return _values(_named("jsd", share), student_logits, teacher, temperature)


def akl(student_logits: Tensor, teacher: Targets, *, temperature: float = 1.0) -> Tensor:
    """Adaptive KL: a KL(p || q) + (1 - a) KL(q || p), a the share of sum |p - q| in the teacher's head.

    Arguments, shapes, units and errors are those of ``forward_kl``. The weight a is a constant in the gradient, as in
    its source, arXiv 2404.02657.
    """
    return _values(losses.akl, student_logits, teacher, temperature)


class PacedLoss(nn.Module):
    """The trainer's loss as a module for a training loop of your own (TRL, Lightning, plain torch).

    The sum over sequences x and their positions t of w_x d(q_t, p_t), divided once by one number for the whole
    optimizer step (docs/method.md, section 7): ``sequence`` counts a token w_x / T_x over B sequences, ``token`` counts
    it w_x over the sum of w_x T_x.

        loss = PacedLoss("forward_kl")
        loss(student_logits, teacher_logits, mask, weights=weights).backward()

    Args:
        loss: ``forward_kl``, ``reverse_kl``, ``jsd`` or ``akl``.
        reduction: ``sequence`` or ``token``.
        temperature: both distributions are those of the logits divided by it.
        jsd_share: b of ``jsd``, in (0, 1); 0.5 if not given.

    Raises:
        ConfigError: there is no such loss or reduction, or an option has no effect or a wrong value.
    """

    def __init__(
        self,
        loss: str = "forward_kl",
        *,
        reduction: Reduction = "sequence",
        temperature: float = 1.0,
        jsd_share: float | None = None,
    ):
        super().__init__()
        if reduction not in ("sequence", "token"):
            raise ConfigError(f"reduction: {reduction!r} is neither 'sequence' nor 'token'")
        _check_temperature(temperature)
        self.loss, self.reduction, self.temperature, self.jsd_share = loss, reduction, temperature, jsd_share
        self._loss = _named(loss, jsd_share)

    def extra_repr(self) -> str:
        share = "" if self.jsd_share is None else f", jsd_share={self.jsd_share:g}"
        return f"{self.loss!r}, reduction={self.reduction!r}, temperature={self.temperature:g}{share}"

    def forward(
        self,
        student: Tensor,
        teacher: Targets,
        mask: Tensor,
        *,
        weights: Tensor | None = None,
        head: nn.Linear | Projection | None = None,
        denominator: float | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar in nats; with ``head`` it is differentiable once.

        Args:
            student: logits, [B, T, V]; or with ``head`` the hidden states before it, [B, T, H]. Then logits exist for
                few positions at a time, and memory does not grow with T V.
            teacher: logits, [B, T, V], taken as constants; or sparse targets of the N positions that ``mask`` counts,
                row by row.
            mask: which positions count, [B, T], true or 1.
            weights: of the sequences, [B]; 1 if not given (``paced.weights`` gives those of problems).
            head: the student's output projection; a ``Projection`` also cuts padding rows off and knows a soft cap.
            denominator: of the whole optimizer step, where this batch is a part of it: its number of sequences, or for
                ``token`` the sum of w_x T_x. Without it, that of this batch.

        Raises:
            ConfigError: a temperature other than 1 with sparse targets.
            DataError: the shapes do not fit, or no position counts in a batch that is to be the denominator.
        """
        if student.ndim != 3 or mask.shape != student.shape[:2]:
            raise DataError(f"student {tuple(student.shape)} must be [B, T, ...] and mask {tuple(mask.shape)} [B, T]")
        chosen = mask.bool()
        shares = self._shares(chosen, weights, denominator)
        if isinstance(teacher, Tensor):
            if teacher.shape[:2] != mask.shape:
                raise DataError(f"teacher {tuple(teacher.shape)} must be [B, T, V] as mask {tuple(mask.shape)} says")
            teacher = teacher[chosen]
        states = student[chosen]
        if head is None:
            shares = shares.to(_precise(states.dtype))
            return (_values(self._loss, states, teacher, self.temperature) * shares).sum()
        if isinstance(head, nn.Linear):
            head = Projection(head.weight, len(head.weight), head.bias)
        projection = head._replace(temperature=head.temperature * self.temperature)
        divergence = _divergence(self._loss, teacher, (len(states), projection.size), self.temperature)
        return fused_loss(states, projection, shares.to(_precise(states.dtype)), divergence)[0]

    def _shares(self, chosen: Tensor, weights: Tensor | None, denominator: float | None) -> Tensor:
        """What each position that counts counts, [N]."""
        lengths = chosen.sum(1).double()
        w = torch.ones_like(lengths) if weights is None else weights.detach().to(lengths)
        if w.shape != lengths.shape:
            raise DataError(f"weights {tuple(w.shape)} must have one number for each of {len(lengths)} sequences")
        if denominator is None:
            denominator = float(len(w)) if self.reduction == "sequence" else float((w * lengths).sum())
        if not denominator > 0:
            raise DataError("no position counts: mask or weights are 0 everywhere; give the step's denominator")
        each = w / denominator / (lengths if self.reduction == "sequence" else 1)
        return each[:, None].expand_as(chosen)[chosen]


def _named(name: str, share: float | None) -> Loss:
    """The loss of a name."""
    if name not in LOSSES:
        raise ConfigError(f"loss: there is no {name!r}; there are: {', '.join(LOSSES)}")
    if share is None:
        return LOSSES[name]
    if name != "jsd":
        raise ConfigError(f"jsd_share has no effect with loss '{name}': leave it out, or use loss 'jsd'")
    if not 0 < share < 1:
        raise ConfigError(f"share of jsd: {share} is not between 0 and 1")
    return functools.partial(losses.jsd, share=share)


def _precise(dtype: torch.dtype) -> torch.dtype:
    """What divergences are formed in: bf16 and fp16 have too few digits."""
    return torch.promote_types(dtype, torch.float32)


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ConfigError(f"temperature: {temperature} is not above 0")


def _divergence(loss: Loss, teacher: Targets, shape: tuple[int, int], temperature: float) -> Divergence:
    """The divergence from a teacher at N positions over V ids; ``shape`` is (N, V)."""
    if isinstance(teacher, Tensor):
        if teacher.shape != shape:
            raise DataError(
                f"the teacher has logits {tuple(teacher.shape)}, the student {shape}: both need the same positions and "
                "the same ids; cut padding rows of either off"
            )
        constants = teacher.detach()
        return lambda logits, rows: exact(loss, logits, constants[rows].to(logits.dtype) / temperature)
    if temperature != 1:
        raise ConfigError("temperature has no effect on stored targets, which are of temperature 1: leave it at 1")
    ids, logprobs, tail, floor = teacher
    if not len(ids) == len(logprobs) == len(tail) == shape[0]:
        raise DataError(f"sparse targets are of {len(ids)} positions, the student has {shape[0]} that count")
    if ids.numel() and int(ids.max()) >= shape[1]:
        raise DataError(f"sparse targets name id {int(ids.max())}, the student has {shape[1]} ids: take one tokenizer")
    return lambda logits, rows: bucketed(
        loss, logits, ids[rows], logprobs[rows].to(logits.dtype), tail[rows].to(logits.dtype), floor
    )


def _values(loss: Loss, student: Tensor, teacher: Targets, temperature: float) -> Tensor:
    """The loss at each position. Student's logits [..., V] -> [...]."""
    _check_temperature(temperature)
    logits = student.flatten(0, -2)
    if isinstance(teacher, Tensor):
        if teacher.shape[:-1] != student.shape[:-1]:
            raise DataError(f"teacher {tuple(teacher.shape)} and student {tuple(student.shape)} differ in positions")
        teacher = teacher.flatten(0, -2)
    divergence = _divergence(loss, teacher, (logits.shape[0], logits.shape[1]), temperature)
    values: Tensor = _Positions.apply(logits.to(_precise(logits.dtype)) / temperature, divergence)  # pyright: ignore
    return values.view(student.shape[:-1])


class _Positions(torch.autograd.Function):
    """A divergence at each position, with the gradient that it forms beside its value."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, divergence: Divergence) -> Tensor:
        gradient, step = logits.clone(), chunk_rows(logits.shape[1])
        values = logits.new_empty(len(logits))
        for start in range(0, len(logits), step):
            rows = slice(start, min(start + step, len(logits)))
            values[rows] = divergence(gradient[rows], rows)
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    @once_differentiable  # its decorator's types lack the names of arguments
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0][:, None], None
