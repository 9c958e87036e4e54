"""Session-wide runs: each costs seconds, so tests share them and none changes a shared home in a way another sees.

Two workers run the tests; each makes the shared runs that its own tests ask for.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chain import run_chain
from harness import Chain, Finished, Server, gone, mlflow_server, prefect_server, run_paced


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
