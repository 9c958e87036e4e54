"""Sparse teacher targets: what is kept of a next-token distribution, and how it is read back (method section 6).

Shapes: N positions, V ids the tokenizer knows, K most entries a position. Entries are stored flat, ids ascending in a
position, with a count a position; log-probabilities in fp16 and rounded, so reading them back renormalises entries and
tail to sum to 1 again.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from paced.losses import BLOCK
from paced.storage.ragged import Ragged, RaggedWriter


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
    pieces: list[Sparse] = []
    size = BLOCK // logits.shape[-1] or 1 if logits.is_cpu else len(logits)
    for own, token in zip(logits.split(size), taken.split(size), strict=True):
        logp = own.float().log_softmax(-1)
        kept = (logp >= math.log(floor)).scatter_(-1, token[:, None], True)
        pieces.append(sparse(logp, kept, functools.partial(rounded, floor=floor)))
    return joined(pieces)


def rounded(entries: Tensor, floor: float) -> Tensor:
    """Log-probabilities with the probabilities of ``floor`` or more rounded to multiples of half of it."""
    step = floor / 2
    return entries.where(entries < math.log(floor), (entries.exp() / step).round_().mul_(step).log_())


def sparse(logp: Tensor, kept: Tensor, stored: Callable[[Tensor], Tensor] = lambda entries: entries) -> Sparse:
    """The entries ``kept`` [N, V], as ``stored``, of distributions ``logp`` [N, V], which is overwritten."""
    rows, ids = kept.nonzero(as_tuple=True)
    entries = stored(logp[rows, ids])
    logp[rows, ids] = -torch.inf
    return Sparse(
        rows.bincount(minlength=len(logp)).int().cpu().numpy(),
        ids.int().cpu().numpy(),
        entries.half().cpu().numpy(),
        logp.logsumexp(-1).half().cpu().numpy(),
    )


def encode_likeliest(
    ids: NDArray[np.int64], logp: NDArray[np.float64], floor: float, known: int, size: int
) -> Sparse | None:
    """The same as ``encode`` from the likeliest ids alone, or None where these do not settle it.

    They do if the last of them lies below the floor: all that reach it are then among them. What they leave of 1 is
    known to rounding only, so no more of it is believed than if each id left out were as likely as the last one.

    Args:
        ids: at each position the one taken, and then the K likeliest by falling probability, [N, 1 + K].
        logp: theirs, over all the ``size`` ids of the model, [N, 1 + K].
        known: ids from here on are padding rows. Their mass is left out as far as it is seen, and is otherwise in the
            tail; one that reaches the floor settles nothing.
    """
    kept = logp >= math.log(floor)
    missing = size - (ids.shape[1] - 1)
    if (missing and kept[:, -1].any()) or (kept & (ids >= known)).any():
        return None
    kept[:, 0] = True
    double = np.zeros_like(kept)
    double[:, 1:] = ids[:, 1:] == ids[:, :1]
    kept &= ~double
    p = np.where(double, 0, np.exp(logp))
    unseen = np.clip(1 - p.sum(1), 0, missing * np.exp(logp[:, -1]))
    with np.errstate(divide="ignore"):
        tail = np.log(unseen + np.where(kept | (ids >= known), 0, p).sum(1))
    order = np.argsort(np.where(kept, ids, size), 1)
    ascending = np.take_along_axis(kept, order, 1)
    entries = torch.from_numpy(np.take_along_axis(logp, order, 1)[ascending]).float()
    return Sparse(
        kept.sum(1, dtype=np.int32),
        np.take_along_axis(ids, order, 1)[ascending].astype(np.int32),
        rounded(entries, floor).half().numpy(),
        tail.astype(np.float16),
    )


def joined(pieces: Sequence[Sparse]) -> Sparse:
    """Position after position."""
    return Sparse(*(np.concatenate(field) for field in zip(*pieces, strict=True)))


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


# The flat lists that a row of targets holds, and as which numbers they are read; last those of a Sparse, in its order.
ENTRIES: dict[str, Any] = {
    "entry_count": np.int32,
    "entry_ids": np.int32,
    "entry_logprobs": np.float16,
    "tail_logprob": np.float16,
}
FLAT: dict[str, Any] = {"prompt_ids": np.int32, "response_ids": np.int32, **ENTRIES}


class Packed:
    """Targets of many samples on disk (``pack``): any sample at once, in memory only where they stand."""

    def __init__(self, folder: Path):
        self._flat = {name: Ragged(folder / f"{name}.bin", kind) for name, kind in FLAT.items()}

    def ids(self, name: str, sample: int) -> list[int]:
        """``prompt_ids`` or ``response_ids`` of a sample."""
        return self._flat[name][sample].tolist()

    def sparse(self, samples: Iterable[int]) -> Sparse:
        """The entries of several samples, position after position."""
        return joined([Sparse(*(self._flat[name][sample] for name in ENTRIES)) for sample in samples])


def pack(folder: Path, tables: Iterable[pa.Table]) -> None:
    """Write samples for ``Packed`` in one pass over tables of such rows.

    The order of training is then free of the order of storage.
    """
    flat = {name: RaggedWriter(folder / f"{name}.bin", kind) for name, kind in FLAT.items()}
    for table in tables:
        for name, writer in flat.items():
            column: Any = table.column(name).combine_chunks()
            writer.extend(column.flatten().to_numpy(), np.diff(column.offsets))
    for writer in flat.values():
        writer.close()
