"""The student's output projection fused with a divergence: no position's logits outlive their gradient.

Shapes: N positions, V ids the tokenizer knows, H hidden size, C positions that a divergence is formed of at once.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paced.losses.divergences import Divergence

LOGITS = 40_000_000  # that are given room at once: 263 positions of a vocabulary of 152k, 160 MB in fp32
BLOCK = 1_000_000  # of them that the divergence is formed from at once: what stays in a processor's cache
PART = 4096  # ids whose products are formed at once, for the same reason
GPU = 16  # times as many of both on a GPU, whose operations cost more to start

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
