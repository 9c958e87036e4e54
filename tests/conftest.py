"""Session-wide runs: each costs seconds, so tests share them and none changes a shared home in a way another sees."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chain import run_chain
from harness import Chain, Finished, Server, gone, mlflow_server, prefect_server, run_paced

# Fixtures that cost much and live as long as a worker: their tests stay together, all others with those of their file.
SHARED = {"home": "runs", "chain": "chain", "model": "smollm2"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two workers run the tests, a group each at a time."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        group = next((SHARED[name] for name in SHARED if name in names), str(item.path))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of the shared runs; nothing may run in it when the session ends."""
    home = tmp_path_factory.mktemp("shared") / "home"
    yield home
    gone(home)


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


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Every stage run once, uninterrupted, in this process and without Prefect."""
    return run_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="session")
def prefect_pages(alpha_run: Finished) -> Iterator[Server]:
    """Prefect's own server, on what the shared runs have left."""
    with prefect_server(alpha_run.home / "prefect", alpha_run.home.parent / "prefect.log") as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_pages(alpha_run: Finished) -> Iterator[Server]:
    """MLflow's own server, on what the shared runs have left."""
    with mlflow_server(alpha_run.home / "mlflow" / "mlflow.db", alpha_run.home.parent / "mlflow.log") as server:
        yield server
