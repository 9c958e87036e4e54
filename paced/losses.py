"""Divergences between a student q and a teacher p, and the output projection fused with them.

Shapes: N positions, V ids the tokenizer knows, H hidden size, K stored teacher entries (padded), C positions a chunk.
Every divergence is in nats, exactly 0 at p = q, formed in log space and never clamped. Each returns one value a
position; weighting and the single division by a global denominator are the caller's (method section 7).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CHUNK = 512  # positions whose logits exist at once


def _times_log_ratio(p: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """p (log p - log q), 0 where p = 0, with a gradient that is 0 there too."""
    there = p > 0
    return torch.where(there, p * (log_p.masked_fill(~there, 0) - log_q.masked_fill(~there, 0)), 0)


def forward_kl(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(p || q) = sum_v p_v (log p_v - log q_v), entropy term included. [N, V] twice -> [N]."""
    log_p, log_q = teacher_logits.log_softmax(-1), logits.log_softmax(-1)
    return _times_log_ratio(log_p.exp(), log_p, log_q).sum(-1)


def reverse_kl(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(q || p) = sum_v q_v (log q_v - log p_v), differentiable in q at every id. [N, V] twice -> [N]."""
    log_p, log_q = teacher_logits.log_softmax(-1), logits.log_softmax(-1)
    return _times_log_ratio(log_q.exp(), log_q, log_p).sum(-1)


def bucketed_forward_kl(logits: Tensor, ids: Tensor, logprobs: Tensor, tail_logprob: Tensor) -> Tensor:
    """KL(p || q) over the partition {each stored id, everything else} (method section 6).

    sum_S p (log p - log q) + p_tail (log p_tail - log q_tail), with log q_tail a log-sum-exp over the complement of S.
    A true KL of a coarser partition: never negative, at most the full KL, equal to it when S is the vocabulary. Its
    gradient in the student's logits is q_j - p_j inside S and q_j (1 - p_tail / q_tail) outside.

    Args:
        logits: student, [N, V].
        ids: stored ids, [N, K]; a row with fewer entries repeats its first id with log-probability -inf.
        logprobs: log p of the ids, [N, K]; with ``tail_logprob`` they sum to 1.
        tail_logprob: log of the mass outside S, [N]; -inf when S is everything.
    """
    # Not a difference of two log-sum-exps of the logits: that loses the digits of however far the logits lie from 0.
    log_q = logits.log_softmax(-1)
    inside = _times_log_ratio(logprobs.exp(), logprobs, log_q.gather(-1, ids)).sum(-1)
    tail = tail_logprob.exp()
    rest = log_q.scatter(-1, ids, -torch.inf)
    empty = (tail == 0)[:, None]
    if bool(empty.any()):  # the log-sum-exp of an empty complement has no gradient
        rest = torch.where(empty, log_q, rest)
    return inside + _times_log_ratio(tail, tail_logprob, rest.logsumexp(-1))


Divergence = Callable[[Tensor, slice], Tensor]


class _FusedHead(torch.autograd.Function):
    """sum_n c_n d(h_n W^T): the gradients of a chunk are formed while its logits exist, and only they are kept."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, coefficients: Tensor, divergence: Divergence
    ) -> tuple[Tensor, Tensor]:
        projection = weight.to(hidden.dtype)
        values = torch.empty(len(hidden), dtype=coefficients.dtype, device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for start in range(0, len(hidden), CHUNK):
            rows = slice(start, start + CHUNK)
            logits = (hidden[rows] @ projection.T).to(coefficients.dtype).requires_grad_()
            with torch.enable_grad():
                value = divergence(logits, rows)
                (gradient,) = torch.autograd.grad((value * coefficients[rows]).sum(), logits)
            values[rows] = value.detach()
            gradient = gradient.to(hidden.dtype)
            grad_hidden[rows] = gradient @ projection
            if grad_weight is not None:
                grad_weight += gradient.T @ hidden[rows]
        ctx.save_for_backward(grad_hidden, *([] if grad_weight is None else [grad_weight]))
        ctx.mark_non_differentiable(values)
        return (values * coefficients).sum(), values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        grad_hidden, *grad_weight = ctx.saved_tensors
        scale = gradients[0]
        return (
            grad_hidden * scale.to(grad_hidden.dtype),
            grad_weight[0] * scale.to(grad_weight[0].dtype) if grad_weight else None,
            None,
            None,
        )


def fused_loss(hidden: Tensor, weight: Tensor, coefficients: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    """The weighted sum of a divergence over positions, and its value at each; no tensor of N x V ever exists.

    Args:
        hidden: student's hidden states, [N, H], fp32 or bf16; bf16 rounds the logits, as the model's own head does.
        weight: output projection cut to the ids the tokenizer knows, [V, H].
        coefficients: what each position counts, [N]; they carry weights and the denominator, and no gradient.
        divergence: maps logits [C, V] of the positions ``rows`` to values [C].

    Returns:
        the scalar sum (differentiable in hidden and weight), and the values [N] (not differentiable).
    """
    return _FusedHead.apply(hidden, weight, coefficients, divergence)  # pyright: ignore[reportReturnType]
