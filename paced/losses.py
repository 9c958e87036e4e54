"""Divergences between a student q and a teacher p, and the output projection fused with them.

Shapes: N positions, V ids the tokenizer knows, H hidden size, K stored teacher entries (padded), C positions that a
divergence is formed of at once, M outcomes of a distribution (V ids; or K entries and the tail). Every divergence is in
nats, 0 at p = q, formed in log space and never clamped. Each gives one value a position and its gradient in closed
form; weighting and the single division by a global denominator are the caller's (method section 7).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

LOGITS = 40_000_000  # that are given room at once: 263 positions of a vocabulary of 152k, 160 MB in fp32
FAINT = 1e-20  # what is left of a sum of exponentials without its largest: fp32 has few digits for its terms
BLOCK = 1_000_000  # of them that the divergence is formed from at once: what stays in a processor's cache
PART = 4096  # ids whose products are formed at once, for the same reason
GPU = 16  # times as many of both on a GPU, whose operations cost more to start

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


LOSSES: dict[str, Loss] = {"forward_kl": forward_kl, "reverse_kl": reverse_kl, "jsd": jsd, "akl": akl}


def exact(loss: Loss, logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The loss over all ids. Overwrites ``logits`` [C, V] with the gradient; teacher's [C, V] -> values [C].

    An id of teacher logit -inf has no mass. As in ``bucketed``, the lowest number stands for its log-probability.
    """
    log_p = teacher_logits.log_softmax(-1).clamp_min_(torch.finfo(teacher_logits.dtype).min)
    value, gradient = loss(logits.log_softmax(-1), log_p)
    logits.copy_(gradient)
    return value


def bucketed(
    loss: Loss, logits: Tensor, ids: Tensor, logprobs: Tensor, tail_logprob: Tensor, floor: float = 1.0
) -> Tensor:
    """The loss over the partition {each stored id, everything else} (method section 6), from sparse targets.

    log q_tail is a log-sum-exp over the complement of S. Of the forward, reverse or Jensen-Shannon divergence it is
    the true one of a coarser partition: never negative, at most the exact one, equal to it when S is the vocabulary.
    The gradient in the tail's one logit is spread over its ids in proportion to q; for forward KL that is
    q_j - p_j inside S and q_j (1 - p_tail / q_tail) outside.

    It is the least loss of all teachers that have these entries and this mass outside: of the one whose tail is the
    student's, times p_tail / q_tail. That may give an id more than ``floor``, which the teacher does not. Such ids join
    S with the probability ``floor`` and the tail loses as much: the least loss of all teachers that give them no more,
    so a closer bound of the exact one.

    Args:
        logits: student, [C, V]; overwritten with the gradient.
        ids: stored ids, [C, K]; a row with fewer entries repeats its first id with log-probability -inf.
        logprobs: log p of the ids, [C, K]; with ``tail_logprob`` they sum to 1.
        tail_logprob: log of the mass outside S, [C]; -inf when S is everything.
        floor: the teacher gives no id outside S more.

    Returns:
        values, [C].
    """
    lowest, missing = torch.finfo(logits.dtype).min, logprobs == -torch.inf
    u = logits.gather(-1, ids).masked_fill_(missing, -torch.inf)
    logits.scatter_(-1, ids, -torch.inf)
    top = logits.amax(-1, keepdim=True).clamp_min_(lowest)  # -inf if S is everything
    rest = (logits - top).exp_()
    if floor < 1:
        ids, u, logprobs, tail_logprob = _held(logits, rest, top, ids, u, logprobs, tail_logprob, floor)
        missing = logprobs == -torch.inf
    total = rest.sum(-1, keepdim=True)
    # Not a difference of two log-sum-exps of the logits: that loses the digits of how far the logits lie from 0.
    peak = torch.maximum(u.amax(-1, keepdim=True), top)
    log_q = torch.cat([u - peak, top - peak + total.log()], -1).log_softmax(-1)
    # An outcome without mass has the lowest number for -inf: its exponential is 0, and 0 times it is 0.
    log_p = torch.cat([logprobs, tail_logprob[:, None]], -1)
    value, gradient = loss(log_q.clamp_min_(lowest), log_p.clamp_min_(lowest))
    torch.mul(rest, gradient[:, -1:] / total.where(total > 0, 1), out=logits)  # 0 if S is everything
    logits.scatter_(-1, ids, gradient[:, :-1].where(~missing, gradient[:, :1]))
    return value


def _held(
    logits: Tensor, rest: Tensor, top: Tensor, ids: Tensor, u: Tensor, log_p: Tensor, tail: Tensor, floor: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Entries and tail with the ids that would get more of its mass than ``floor``, held there.

    Args:
        logits: the student's outside S, -inf inside, [C, V]; what is held becomes -inf.
        rest: exponentials of the logits less ``top`` [C, 1]; both become those of what is left.
        ids, u, log_p: entries, the student's logits and the teacher's log-probabilities, [C, K].
        tail: log of the teacher's mass outside S, [C].
    """
    mass, outside = tail.exp(), rest.shape[-1] - (log_p > -torch.inf).sum(-1)
    # Half of the ids outside S stay in the tail, whatever rounding did to its mass.
    most = (2 * mass / outside.clamp_min(1)).clamp_min(floor)
    rows, columns = (rest > (most / mass * rest.sum(-1))[:, None]).nonzero(as_tuple=True)

    count = torch.bincount(rows, minlength=len(rest))
    slots = torch.arange(len(rows), device=rows.device) - (count.cumsum(0) - count)[rows]
    wide = len(rest), int(slots.max()) + 1 if len(slots) else 0
    more = [ids[:, :1].repeat(1, wide[1]), u.new_full(wide, -torch.inf), u.new_full(wide, -torch.inf)]
    for padded, numbers in zip(more, (columns, logits[rows, columns], most.log()[rows]), strict=True):
        padded[rows, slots] = numbers
    ids, u, log_p = (torch.cat(pair, -1) for pair in zip((ids, u, log_p), more, strict=True))
    share = (count * most / mass).nan_to_num_().clamp_max_(1 - torch.finfo(u.dtype).eps)

    logits[rows, columns], rest[rows, columns] = -torch.inf, 0
    faint = (count > 0) & (rest.sum(-1) < FAINT)  # held ids were so far above the others
    left = logits[faint]
    top[faint] = left.amax(-1, keepdim=True)
    rest[faint] = left.sub_(top[faint]).exp_()
    return ids, u, log_p, tail + share.neg_().log1p_()


class Projection(NamedTuple):
    """Hidden states to logits over the first ``size`` ids: softcap tanh((h W^T + b) / softcap) / temperature."""

    weight: Tensor  # [V or more, H]
    size: int
    bias: Tensor | None = None  # [V or more]
    softcap: float | None = None
    temperature: float = 1.0

    def onto(self, ids: Tensor | slice) -> "Projection":
        """The same onto some of the ids only."""
        weight = self.weight[ids]
        return self._replace(weight=weight, size=len(weight), bias=None if self.bias is None else self.bias[ids])

    def logits(self, hidden: Tensor) -> Tensor:
        """[N, H] -> [N, V], in the precision of both."""
        return self.finish(hidden @ self.weight[: self.size].T)

    def finish(self, products: Tensor) -> Tensor:
        """Logits from the products of hidden states and weights, [..., V], which it overwrites."""
        if self.bias is not None:
            products.add_(self.bias[: self.size])
        if self.softcap is not None:
            products.div_(self.softcap).tanh_().mul_(self.softcap)
        return products if self.temperature == 1 else products.div_(self.temperature)


class TeacherLogits:
    """A teacher's logits [C, V] at the positions asked for, in rising order; computed for many of them at once.

    Args:
        hidden: the teacher's hidden states, [N, H].
        head: its output projection.
        shift: moves the distributions along the vocabulary: other targets, for the canary.
    """

    def __init__(self, hidden: Tensor, head: Projection, shift: int = 0):
        self._hidden, self._head, self._shift = hidden, head, shift
        self._start, self._chunk = 0, hidden.new_empty(0, head.size)

    def __call__(self, rows: slice) -> Tensor:
        if not self._start <= rows.start <= rows.stop <= self._start + len(self._chunk):
            count = max(chunk_rows(self._head.size), rows.stop - rows.start)
            self._start, self._chunk = rows.start, self._chunk.new_empty(0)  # the old ones go before the new ones come
            chunk = self._head.logits(self._hidden[rows.start : rows.start + count])
            self._chunk = chunk.roll(self._shift, -1) if self._shift else chunk
        return self._chunk[rows.start - self._start : rows.stop - self._start]


class _FusedHead(torch.autograd.Function):
    """sum_n c_n d(h_n): gradients are formed while logits exist, and only they are kept.

    Logits, and the gradients that replace them, lie in blocks of [positions, ``PART`` ids].
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        coefficients: Tensor,
        projection: Projection,
        divergence: Divergence,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor]:
        size, temperature, softcap = projection.size, projection.temperature, projection.softcap
        more = 1 if hidden.is_cpu else GPU
        step, part = more * BLOCK // size or 1, more * PART
        known = weight[:size].to(hidden.dtype).split(part)
        values, shares = torch.empty_like(coefficients), (coefficients / temperature)[:, None]
        grad_hidden = torch.zeros_like(hidden, dtype=values.dtype)
        grad_weight, grad_bias = (
            torch.zeros_like(t) if t is not None and needed and differentiate else None
            for t, needed in zip((weight, bias), ctx.needs_input_grad[1:3], strict=True)
        )
        own = None if grad_weight is None else grad_weight[:size]
        for chunk, memory in _chunks(hidden, size, own):
            states = hidden[chunk]
            blocks = [m.view(-1)[: len(states) * len(m)].view(len(states), -1) for m in memory.split(part)]
            for block, w in zip(blocks, known, strict=True):
                torch.mm(states, w.T, out=block)
            for start in range(0, len(states), step):
                rows = slice(chunk.start + start, min(chunk.start + start + step, chunk.stop))
                products = torch.cat([block[start : start + step] for block in blocks], 1)
                logits = projection.finish(products.to(values.dtype))
                slope = None if softcap is None else (logits * (temperature / softcap)).square_().neg_().add_(1)
                values[rows] = divergence(logits, rows)
                gradient = logits if slope is None else logits.mul_(slope)
                for block, g in zip(blocks, gradient.split(part, 1), strict=True):
                    block[start : start + step] = g
                if grad_bias is not None:
                    grad_bias[:size] += (gradient * shares[rows]).sum(0)
            if not differentiate:
                continue
            # Coefficients go to the small factors of the products, not to C x V numbers.
            for block, w in zip(blocks, known, strict=True):
                _add(grad_hidden[chunk], block, w)
            grad_hidden[chunk] *= shares[chunk]
            if own is not None:
                scaled = (states * shares[chunk]).to(hidden.dtype)
                for total, block in zip(own.split(part), blocks, strict=True):
                    if chunk.start:
                        _add(total, block.T, scaled)
                    else:  # over the block itself, which lies there
                        total.copy_(block.T @ scaled)
        ctx.gradients = (grad_hidden.to(hidden.dtype), grad_weight, grad_bias)
        ctx.mark_non_differentiable(values)
        return (values * coefficients).sum(), values

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        # Handed on, not kept: what autograd alone holds becomes the parameter's gradient without a copy.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("a fused loss is differentiated once: its gradients have been handed on")
        if bool(upstream[0] != 1):
            gradients = tuple(None if g is None else g.mul_(upstream[0]) for g in gradients)
        return (*gradients, None, None, None, None)


def _add(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b; of the same precision the product is added as it is formed."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def _chunks(hidden: Tensor, size: int, gradient: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Positions, and memory for their logits: [V, as many or more].

    First that of the weight's gradient [V, H], if H is enough: nothing is in it yet.
    """
    most, stop = min(chunk_rows(size), len(hidden)), 0
    inside = None if gradient is None else gradient.view(hidden.dtype)
    if inside is not None and 0 < most <= inside.shape[1]:
        stop = min(inside.shape[1], len(hidden))
        yield slice(0, stop), inside
    if stop < len(hidden):
        memory = hidden.new_empty(size, min(most, len(hidden) - stop))
        for start in range(stop, len(hidden), memory.shape[1]):
            yield slice(start, min(start + memory.shape[1], len(hidden))), memory


def chunk_rows(size: int) -> int:
    """Positions whose logits are given room at once."""
    return max(1, LOGITS // size)


def fused_loss(
    hidden: Tensor, projection: Projection, coefficients: Tensor, divergence: Divergence
) -> tuple[Tensor, Tensor]:
    """The weighted sum of a divergence over positions, and its value at each.

    Room for logits is taken for a chunk of positions, and for none where a trained weight's gradient [V, H] has room:
    the first H positions have their logits in its memory, before it is formed (``_chunks``).

    Args:
        hidden: student's hidden states, [N, H], fp32 or bf16; bf16 rounds the logits, as the model's own head does.
        projection: its output projection; no gradient is formed of a frozen one.
        coefficients: what each position counts, [N]; they carry weights and the denominator, and no gradient.
        divergence: forms values [C] and gradients from logits [C, V] of the positions ``rows``.

    Returns:
        the scalar sum (differentiable once, in hidden states, weight and bias), and the values [N] (without gradient).
    """
    return _FusedHead.apply(  # pyright: ignore[reportReturnType]
        hidden, projection.weight, projection.bias, coefficients, projection, divergence, torch.is_grad_enabled()
    )
