"""Divergences between a student q and a teacher p over M outcomes, with their gradients in closed form.

Shapes: N positions, C positions that a divergence is formed of at once, V ids the tokenizer knows, M outcomes of a
distribution (V ids; or K stored entries and the tail). Every divergence is in nats, 0 at p = q, formed in log space and
never clamped. Each gives one value a position and its gradient; weighting and the single division by a global
denominator are the caller's (method section 7).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# (log q, log p), each [N, M] -> values [N], and their gradient in the logits whose softmax is q, [N, M].
Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# (logits [C, V], which positions they are) -> values [C]; overwrites the logits with the values' gradient.
Divergence = Callable[[Tensor, slice], Tensor]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """sum_m a_m b_m, without the products in memory. [N, M] twice -> [N]."""
    return torch.bmm(a[:, None], b[:, :, None])[:, 0, 0]


def forward_kl(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q) = sum p (log p - log q), entropy term included; gradient q - p."""
    p = log_p.exp()
    return _dot(p, log_p - log_q), log_q.exp().sub_(p)


def reverse_kl(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q || p) = sum q (log q - log p), differentiable in q everywhere; gradient q (log q - log p - KL)."""
    q, ratio = log_q.exp(), log_q - log_p
    value = _dot(q, ratio)
    return value, ratio.sub_(value[:, None]).mul_(q)


def jsd(log_q: Tensor, log_p: Tensor, share: float = 0.5) -> tuple[Tensor, Tensor]:
    """Generalised Jensen-Shannon: b KL(p || m) + (1 - b) KL(q || m), m = b p + (1 - b) q, b = ``share`` in (0, 1).

    Gradient (1 - b) q (log q - log m - KL(q || m)). Source: GKD, arXiv 2306.13649, equation 1.
    """
    log_m = torch.logaddexp(log_q + math.log(1 - share), log_p + math.log(share))
    backward, gradient = reverse_kl(log_q, log_m)
    return share * _dot(log_p.exp(), log_p - log_m) + (1 - share) * backward, gradient.mul_(1 - share)


def akl(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Adaptive KL: a KL(p || q) + (1 - a) KL(q || p), a the share of sum |p - q| that lies in the teacher's head.

    The head is the smallest set of outcomes that holds half of p, with all that are as probable as its last. Like its
    source (arXiv 2404.02657) it takes a for a constant in the gradient. Where p = q, a is 1/2.
    """
    p = log_p.exp()
    gap = (p - log_q.exp()).abs_()
    entries = min(256, p.shape[-1])
    top = p.topk(entries).values
    while entries < p.shape[-1] and bool((top.sum(-1) < 0.5).any()):  # a flat teacher
        entries = min(16 * entries, p.shape[-1])
        top = p.topk(entries).values
    least = top.where(top.cumsum(-1) - top < 0.5, torch.inf).amin(-1, keepdim=True)
    total = gap.sum(-1)
    a = (gap.mul_(p >= least).sum(-1) / total).where(total > 0, 0.5)
    (forward, to_p), (backward, from_p) = forward_kl(log_q, log_p), reverse_kl(log_q, log_p)
    return torch.lerp(backward, forward, a), from_p.lerp_(to_p, a[:, None])


def exact(loss: Loss, logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The loss over all ids. Overwrites ``logits`` [C, V] with the gradient; teacher's [C, V] -> values [C].

    An id of teacher logit -inf has no mass. As in ``bucketed``, the lowest number stands for its log-probability.
    """
    log_p = teacher_logits.log_softmax(-1).clamp_min_(torch.finfo(teacher_logits.dtype).min)
    value, gradient = loss(logits.log_softmax(-1), log_p)
    logits.copy_(gradient)
    return value
