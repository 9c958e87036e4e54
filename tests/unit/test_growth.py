"""Memory does not grow with the data set: what stages hold at most, of few problems and of six times as many."""

import gc
import os
import tracemalloc
from pathlib import Path

import pytest

from benchmarks.growth import STAGES
from paced import stage
from paced.data import cleaning
from paced.storage import store

pytestmark = pytest.mark.slow


def peak(name: str, problems: int, home: Path) -> int:
    home.mkdir()
    found = STAGES[name][0](home, problems)
    thresholds = gc.get_threshold()
    gc.set_threshold(500, 1, 1)  # else the peak is that of garbage, up to when it happens to be collected
    tracemalloc.start()
    try:
        STAGES[name][1](home, problems, found)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.set_threshold(*thresholds)


@pytest.mark.parametrize("name", ["prepare", "weights"])
def test_six_times_the_problems_in_the_same_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module, size in ((stage, "ROW_GROUP"), (store, "ROW_GROUP"), (cleaning, "PART")):
        monkeypatch.setattr(module, size, 64)
    for run in ("first", "second"):  # imports, and caches of a fixed size
        peak(name, 900, tmp_path / run)
    few, many = (peak(name, n, tmp_path / str(n)) for n in (150, 900))
    assert many < 1.25 * few, f"{few:,} bytes at 150 problems, {many:,} at 900"


def test_the_store_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that finds all its samples: however many they are, it lists the folder of their parts as often."""
    listed: list[str] = []
    listdir = os.listdir
    found = STAGES["rollouts"][0](tmp_path, 600)
    monkeypatch.setattr(store.os, "listdir", lambda path: listed.append(str(path)) or listdir(path))
    STAGES["rollouts"][1](tmp_path, 600, found)
    assert 1 <= sum("samples" in folder for folder in listed) <= 2
