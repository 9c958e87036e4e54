"""Sparse teacher targets: what is kept of a next-token distribution, and how it is read back (method section 6).

Shapes: N positions, V ids the tokenizer knows, K most entries a position. Entries are stored flat, with a count a
position; log-probabilities in fp16, so reading them back renormalises entries and tail to sum to 1 again.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Sparse(NamedTuple):
    """Entries of N positions, flat: ``counts`` [N], ``ids`` and ``logprobs`` [sum of counts], ``tail`` [N]."""

    counts: NDArray[np.int32]
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float16]
    tail: NDArray[np.float16]


def encode(logits: Tensor, taken: Tensor, mass: float, max_entries: int) -> Sparse:
    """Keep the smallest set of ids that reaches ``mass``, at most ``max_entries``, always the one taken.

    Args:
        logits: teacher, [N, V].
        taken: the response's token at each position, [N].
    """
    logp = logits.float().log_softmax(-1)
    k = min(max_entries, logp.shape[-1])
    top, ids = logp.topk(k, -1)
    count = ((top.exp().cumsum(-1) < mass).sum(-1) + 1).clamp_max(k)
    slots = torch.arange(k, device=logits.device)
    absent = ~((ids == taken[:, None]) & (slots < count[:, None])).any(-1)
    place = torch.where(count < k, count, k - 1)[:, None]
    ids = torch.where(absent[:, None] & (slots == place), taken[:, None], ids)
    count = torch.where(absent, (count + 1).clamp_max(k), count)
    kept = slots < count[:, None]
    logprobs = logp.gather(-1, ids)
    first = ids[:, :1].expand_as(ids)
    tail = logp.scatter(-1, torch.where(kept, ids, first), -torch.inf).logsumexp(-1)
    return Sparse(
        count.to(torch.int32).cpu().numpy(),
        ids[kept].to(torch.int32).cpu().numpy(),
        logprobs[kept].half().cpu().numpy(),
        tail.half().cpu().numpy(),
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


_FLAT = {
    "response_ids": np.int32,
    "entry_count": np.int32,
    "tail_logprob": np.float16,
    "entry_ids": np.int32,
    "entry_logprobs": np.float16,
}


class Packed:
    """Targets of many samples as memory-mapped flat files: any sample at once, memory bounded by the page cache.

    Built in one pass over table rows, so that the order of training is free of the order of storage.
    """

    def __init__(self, folder: Path, rows: Iterable[dict[str, Any]]):
        folder.mkdir(parents=True, exist_ok=True)
        files = {name: (folder / f"{name}.bin").open("wb") for name in _FLAT}
        positions, entries = [0], [0]
        for row in rows:
            for name, file in files.items():
                file.write(np.asarray(row[name], dtype=_FLAT[name]).tobytes())
            positions.append(positions[-1] + len(row["entry_count"]))
            entries.append(entries[-1] + len(row["entry_ids"]))
        for file in files.values():
            file.close()
        self._positions, self._entries = np.array(positions), np.array(entries)
        self._flat = {name: np.memmap(folder / f"{name}.bin", dtype=kind, mode="r") for name, kind in _FLAT.items()}

    def response(self, sample: int) -> list[int]:
        a, b = self._positions[sample], self._positions[sample + 1]
        return self._flat["response_ids"][a:b].tolist()

    def sparse(self, samples: Iterable[int]) -> Sparse:
        """The entries of several samples, position after position."""
        samples = list(samples)

        def gather(name: str, offsets: NDArray[np.int64]) -> Any:
            return np.concatenate([self._flat[name][offsets[s] : offsets[s + 1]] for s in samples])

        return Sparse(
            gather("entry_count", self._positions),
            gather("entry_ids", self._entries),
            gather("entry_logprobs", self._entries),
            gather("tail_logprob", self._positions),
        )
