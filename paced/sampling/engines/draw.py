"""From logits to a token: temperature, top-k and top-p as the transformers library applies them, then one draw a row.

Shapes: R rows of a batch, V ids the tokenizer knows.
"""

import torch
from torch import Tensor
from torch.nn import functional

from paced.config import Sampling

NUCLEUS = 512
BLOCK = 256


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities [R, V] after temperature, top-k and top-p, in the precision of the logits.

    The order and the rules are those of the transformers library's logits processors. What top-p drops is 0 and the
    rest is not scaled up again: ``draw`` takes a row's sum as its whole.
    """
    scores = logits / sampling.temperature
    if sampling.top_k:
        kth = scores.topk(min(sampling.top_k, scores.shape[-1])).values[:, -1:]
        scores = scores.masked_fill(scores < kth, -torch.inf)
    probabilities = scores.softmax(-1)
    if sampling.top_p < 1:
        # The few ids that hold the nucleus are found without sorting the vocabulary; only a flat row is sorted.
        ordered, order = probabilities.topk(min(NUCLEUS, probabilities.shape[-1]))
        kept = _nucleus(probabilities, ordered, order, sampling.top_p)
        flat = (ordered.sum(-1, dtype=torch.float64) < sampling.top_p).nonzero()[:, 0]
        if len(flat):
            rows = probabilities[flat]
            kept[flat] = _nucleus(rows, *rows.sort(descending=True), sampling.top_p)
        probabilities = kept
    return probabilities


def _nucleus(probabilities: Tensor, ordered: Tensor, order: Tensor, top_p: float) -> Tensor:
    before = ordered.cumsum(-1, dtype=torch.float64) - ordered
    return torch.zeros_like(probabilities).scatter(-1, order, ordered * (before < top_p))


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Token ids [R] by inverse transform: one uniform number [R] in [0, 1) a row, so no row disturbs another.

    Sums are in float64, and formed block by block: first a block is found, then an id in it. -1 for a row without a
    whole, which ``filtered`` gives of logits that hold NaN or +inf.
    """
    blocks = functional.pad(probabilities, (0, -probabilities.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    totals = blocks.sum(-1, dtype=torch.float64)
    whole = totals.sum(-1)
    block, rest = _find(totals, uniforms * whole)
    inside, _ = _find(blocks[torch.arange(len(block), device=block.device), block].double(), rest)
    return torch.where(whole > 0, block * BLOCK + inside, -1)


def _find(weights: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Where [R] the running sum of weights [R, n] first exceeds a threshold [R], never at weight 0; and what is left.

    A threshold that rounding has pushed out of [0, sum) is pulled back.
    """
    running = weights.cumsum(-1)
    end = running[:, -1].nextafter(running.new_zeros(()))
    threshold = threshold.clamp(min=torch.zeros_like(end), max=end)[:, None]
    place = torch.searchsorted(running, threshold, right=True).clamp(max=weights.shape[-1] - 1)  # it is beyond of NaN
    return place[:, 0], (threshold - running.gather(-1, place) + weights.gather(-1, place))[:, 0]
