"""Sparse teacher targets: what is kept of a next-token distribution, and how it is read back (method section 6).

Shapes: N positions, V ids the tokenizer knows, K most entries a position. Entries are stored flat, ids ascending in a
position, with a count a position; log-probabilities in fp16 and rounded, so reading them back renormalises entries and
tail to sum to 1 again.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paced.ragged import Ragged


class Sparse(NamedTuple):
    """Entries of N positions, flat: ``counts`` [N], ``ids`` and ``logprobs`` [sum of counts], ``tail`` [N]."""

    counts: NDArray[np.int32]
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float16]
    tail: NDArray[np.float16]


def encode(logits: Tensor, taken: Tensor, floor: float) -> Sparse:
    """Keep the ids of probability ``floor`` or more, and the one taken.

    Of all sets of so many entries, over all positions, this one leaves the least sum of squares outside. Probabilities
    are rounded to multiples of half the floor, which is less than leaving ids out may miss: so log-probabilities take
    few values, and compress.

    Args:
        logits: teacher, [N, V].
        taken: the response's token at each position, [N].
        floor: in (0, 1).
    """
    logp = logits.float().log_softmax(-1)
    least, step = math.log(floor), floor / 2
    kept = (logp >= least).scatter(-1, taken[:, None], True)
    stored = logp[kept]
    return sparse(logp, kept, stored.where(stored < least, (stored.exp() / step).round_().mul_(step).log_()))


def sparse(logp: Tensor, kept: Tensor, stored: Tensor) -> Sparse:
    """The entries ``kept`` [N, V] of distributions ``logp`` [N, V], ``stored`` as these numbers [sum of kept]."""
    return Sparse(
        kept.sum(-1, dtype=torch.int32).cpu().numpy(),
        kept.nonzero()[:, 1].to(torch.int32).cpu().numpy(),
        stored.half().cpu().numpy(),
        logp.masked_fill(kept, -torch.inf).logsumexp(-1).half().cpu().numpy(),
    )


def decode(sparse: Sparse, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Padded ``ids`` [N, K], ``logprobs`` [N, K] and ``tail_logprob`` [N], as paced.losses.bucketed reads them."""
    counts = torch.from_numpy(sparse.counts.astype(np.int64))
    n, k = len(counts), int(counts.max())
    kept = torch.arange(k) < counts[:, None]
    ids = torch.zeros(n, k, dtype=torch.int64)
    ids[kept] = torch.from_numpy(sparse.ids.astype(np.int64))
    ids = torch.where(kept, ids, ids[:, :1])
    logprobs = torch.full((n, k), -torch.inf, dtype=dtype)
    logprobs[kept] = torch.from_numpy(sparse.logprobs.astype(np.float64)).to(dtype)
    tail = torch.from_numpy(sparse.tail.astype(np.float64)).to(dtype)
    log_z = torch.cat([logprobs, tail[:, None]], 1).logsumexp(1)
    return ids.to(device), (logprobs - log_z[:, None]).to(device), (tail - log_z).to(device)


# What a row of targets holds, flat, and as which numbers it is read.
FLAT: dict[str, Any] = {
    "response_ids": np.int32,
    "entry_count": np.int32,
    "tail_logprob": np.float16,
    "entry_ids": np.int32,
    "entry_logprobs": np.float16,
}


class Packed:
    """Targets of many samples on disk: any sample at once, in memory only where they stand.

    Built in one pass over table rows, so that the order of training is free of the order of storage.
    """

    def __init__(self, folder: Path, rows: Iterable[dict[str, Any]]):
        self._flat = {name: Ragged(folder / f"{name}.bin", kind) for name, kind in FLAT.items()}
        for row in rows:
            for name, flat in self._flat.items():
                flat.append(row[name])

    def response(self, sample: int) -> list[int]:
        return self._flat["response_ids"][sample].tolist()

    def sparse(self, samples: Iterable[int]) -> Sparse:
        """The entries of several samples, position after position."""
        samples = list(samples)
        names = ("entry_count", "entry_ids", "entry_logprobs", "tail_logprob")
        return Sparse(*(np.concatenate([self._flat[name][s] for s in samples]) for name in names))
