"""Teacher-forced forward passes in which a sequence's result does not depend on what else is in the batch.

The last bits of a matrix product depend on its shape, and what a stage still has to score depends on what other runs
left in the store. So the shape of a pass follows from a sequence's own length alone: sequences share a pass if they
round up to the same width, and rows nobody needs fill the last one. Shapes: N scored positions, H hidden size.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from paced.models import head, hidden_states

CHUNK = 512  # positions whose logits exist at once
TOKENS = 2048  # padded tokens of a pass, unless one sequence is longer


def shape_of(length: int, limit: int = 0) -> tuple[int, int]:
    """Rows and width of the pass in which a sequence of ``length`` tokens is scored.

    The width is a multiple of 32 and, beyond 256 tokens, at most an eighth more than the length; never more than
    ``limit``, the model's context (0: none known), unless the sequence itself is longer.
    """
    step = max(32, 1 << max(length.bit_length() - 4, 0))
    width = -(-length // step) * step
    if limit:
        width = min(width, max(limit, length))
    return max(1, TOKENS // width), width


def scored(
    model: PreTrainedModel, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> Iterator[tuple[list[int], Tensor]]:
    """The hidden states that predict each response token of ``(prompt ids, response ids)`` pairs.

    Yields:
        batches of positions in ``sequences``, shortest first, each with hidden states [N, H], sequence after sequence.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0
    device = head(model).weight.device
    shapes = [shape_of(len(p) + len(r), limit) for p, r in sequences]
    for shape in sorted(set(shapes), key=lambda s: s[1]):
        members = [i for i, own in enumerate(shapes) if own == shape]
        for start in range(0, len(members), shape[0]):
            batch = members[start : start + shape[0]]
            ids = torch.zeros(shape, dtype=torch.long)
            for row, i in enumerate(batch):
                p, r = sequences[i]
                ids[row, : len(p) + len(r)] = torch.tensor([*p, *r])
            hidden = hidden_states(model, ids.to(device))
            spans = [(len(sequences[i][0]) - 1, len(sequences[i][1])) for i in batch]
            yield batch, torch.cat([hidden[row, a : a + n] for row, (a, n) in enumerate(spans)])


def chunks(hidden: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Hidden states [N, H] in chunks of one shape [CHUNK, H], for the output projection: (which of N, chunk).

    The last one is filled with zeros: only as many of its rows count as the slice has.
    """
    filled = functional.pad(hidden, (0, 0, 0, -len(hidden) % CHUNK))
    for start in range(0, len(hidden), CHUNK):
        yield slice(start, min(start + CHUNK, len(hidden))), filled[start : start + CHUNK]
