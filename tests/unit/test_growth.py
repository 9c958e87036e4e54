"""Memory does not grow with the data set: what stages hold at most, of few problems and of six times as many."""

import tracemalloc
from pathlib import Path

import pytest

from benchmarks.growth import STAGES
from paced import stage, store
from paced.data import cleaning


def peak(name: str, problems: int, home: Path) -> int:
    home.mkdir()
    found = STAGES[name][0](home, problems)
    tracemalloc.start()
    try:
        STAGES[name][1](home, problems, found)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["prepare", "weights"])
def test_six_times_the_problems_in_the_same_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module, size in ((stage, "ROW_GROUP"), (store, "ROW_GROUP"), (cleaning, "PART")):
        monkeypatch.setattr(module, size, 64)
    peak(name, 900, tmp_path / "first")  # imports, and caches of a fixed size
    few, many = (peak(name, n, tmp_path / str(n)) for n in (150, 900))
    assert many < 1.25 * few, f"{few:,} bytes at 150 problems, {many:,} at 900"
