"""Rows of unlike length on disk: any of them at once, without a data set in memory. Imports no torch."""

import os
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


class RaggedWriter:
    """Writes rows of numbers of one kind to a flat file, one behind the other, and where they end beside it."""

    def __init__(self, path: Path, kind: DTypeLike):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._kind = path, np.dtype(kind)
        self._file, self._ends = path.open("wb"), array("q", [0])

    def extend(self, values: NDArray[Any], lengths: ArrayLike) -> None:
        """Add rows: their numbers one behind the other, and how many each has."""
        self._file.write(values.astype(self._kind, copy=False).data)
        self._ends.extend((self._ends[-1] + np.cumsum(lengths) * self._kind.itemsize).tolist())

    def close(self) -> None:
        """Now, and not before, the rows can be read."""
        self._file.close()
        np.save(_ends(self._path), self._ends)


class Ragged:
    """The rows of a closed file, in any process; 8 bytes of memory a row.

    What is asked for is read, not mapped, so that pages of the file do not count as this process's memory.
    """

    def __init__(self, path: Path, kind: DTypeLike):
        self._file, self._kind = path.open("rb"), np.dtype(kind)
        self._ends: NDArray[np.int64] = np.load(_ends(path))

    def __getitem__(self, i: int) -> NDArray[Any]:
        start, end = self._ends[i], self._ends[i + 1]
        return np.frombuffer(os.pread(self._file.fileno(), end - start, start), self._kind)


def _ends(path: Path) -> Path:
    return path.with_suffix(".ends.npy")
