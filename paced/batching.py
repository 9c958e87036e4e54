"""Which problems a step trains on, how a step is split into forward passes, and anything into parts."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Runs of at most ``size`` items, in order."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def draws(count: int, seed: int, start: int, number: int, weights: Array | None = None) -> list[tuple[int, int]]:
    """``number`` draws from ``count`` items, from draw ``start`` on: (item, epoch) pairs.

    Each epoch is a fresh permutation that depends on (seed, epoch) alone, so a position in the order is all the state
    a sampler has, and a resumed run draws what the uninterrupted one would have drawn.

    With ``weights``, positive, [count], each draw is of item i with probability w_i / sum w, and an epoch of ``count``
    draws has it count * w_i / sum w times, rounded up or down (systematic sampling; Madow 1949). Equal weights give
    what none give.
    """
    result: list[tuple[int, int]] = []
    for epoch in range(start // count, (start + number - 1) // count + 1):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(count)
        if weights is not None:
            order = systematic(weights, rng.random())[order]
        low, high = max(start - epoch * count, 0), min(start + number - epoch * count, count)
        result += [(int(item), epoch) for item in order[low:high]]
    return result


def systematic(weights: Array, offset: float) -> NDArray[np.intp]:
    """As many items as there are weights, each as often as equally spaced points fall into its share of the sum.

    ``offset`` in [0, 1) says where the first point lies between 0 and the next. Ascending. [N].
    """
    ends = weights.cumsum()
    points = (np.arange(len(weights)) + offset) * (ends[-1] / len(weights))
    return np.minimum(ends.searchsorted(points, side="right"), len(weights) - 1)  # rounding may leave the last share


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
