"""Which problems a step trains on, how a step is split into forward passes, and anything into parts."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Runs of at most ``size`` items, in order."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def draws(count: int, seed: int, start: int, number: int) -> list[tuple[int, int]]:
    """``number`` draws from ``count`` items, from draw ``start`` on: (item, epoch) pairs.

    Each epoch is a fresh permutation that depends on (seed, epoch) alone, so a position in the order is all the state
    a sampler has, and a resumed run draws what the uninterrupted one would have drawn.
    """
    result: list[tuple[int, int]] = []
    for epoch in range(start // count, (start + number - 1) // count + 1):
        order = np.random.default_rng([seed, epoch]).permutation(count)
        low, high = max(start - epoch * count, 0), min(start + number - epoch * count, count)
        result += [(int(item), epoch) for item in order[low:high]]
    return result


def micro_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Split a step into batches of like length, each of at most ``budget`` padded tokens (or one sequence)."""
    batch: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[item] > budget:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
