"""Session-wide runs: each costs seconds, so tests share them and none changes a shared home in a way another sees."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Finished, processes_of, run_paced


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of the shared runs; nothing may run in it when the session ends."""
    home = tmp_path_factory.mktemp("shared") / "home"
    yield home
    assert not processes_of(home)


@pytest.fixture(scope="session")
def first_run(home: Path) -> Finished:
    """The small recipe, uninterrupted, on the embedded default: no server, a fresh home."""
    return run_paced(home)


@pytest.fixture(scope="session")
def second_run(first_run: Finished) -> Finished:
    """The same command again."""
    return run_paced(first_run.home)


@pytest.fixture(scope="session")
def alpha_run(second_run: Finished) -> Finished:
    """Another weighting in the same home."""
    return run_paced(second_run.home, "weights.alpha=2")
