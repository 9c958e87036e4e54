"""Rows of unlike length on disk: any of them at once, without a data set in memory. Imports no torch."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


class RaggedWriter:
    """Writes rows of numbers of one kind to a flat file, one behind the other, and where they end beside it."""

    def __init__(self, path: Path, kind: DTypeLike):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._kind, self._end = np.dtype(kind), 0
        self._file, self._ends = path.open("wb"), _ends(path).open("wb")
        self._ends.write(bytes(8))

    def extend(self, values: NDArray[Any], lengths: ArrayLike) -> None:
        """Add rows: their numbers one behind the other, and how many each has."""
        self._file.write(values.astype(self._kind, copy=False).data)
        ends = self._end + np.cumsum(lengths, dtype=np.int64) * self._kind.itemsize
        self._ends.write(ends.data)
        self._end = int(ends[-1]) if len(ends) else self._end

    def close(self) -> None:
        """Now, and not before, the rows can be read."""
        self._file.close()
        self._ends.close()


class Ragged:
    """The rows of a closed file, in any process; 8 bytes of memory a row.

    What is asked for is read, not mapped, so that pages of the file do not count as this process's memory.
    """

    def __init__(self, path: Path, kind: DTypeLike):
        self._file, self._kind = path.open("rb"), np.dtype(kind)
        self._ends: NDArray[np.int64] = np.fromfile(_ends(path), np.int64)

    def __getitem__(self, i: int) -> NDArray[Any]:
        start, end = self._ends[i], self._ends[i + 1]
        return np.frombuffer(os.pread(self._file.fileno(), end - start, start), self._kind)


def _ends(path: Path) -> Path:
    return path.with_suffix(".ends")
