"""Session-wide runs: each costs seconds, so tests share them and none changes a shared home in a way another sees.

Workers take whole files of tests, and files that share what is costly to make go to one worker.
"""

# What a fixture needs it imports itself: a test of one small module loads neither Prefect nor torch.
from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the workers share the cores

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

if TYPE_CHECKING:
    from harness import Chain, Finished, Server
    from playwright.sync_api import Page

# The longest first, so that no worker is left alone with one of them at the end.
GROUPS = {
    "runs": (
        "test_concurrent",
        "test_corruption",
        "test_kills",
        "test_cache",
        "test_student",
        "test_plan",
        "test_diagnose",
        "test_tracking",
        "test_compare_runs",
        "test_pages",
    ),
    "retraining": ("test_retrain",),
    "platform": ("test_platform",),
    "faults": ("test_platform_faults",),
    "stages": ("test_resume", "test_damage", "test_power_cut"),
    "models": ("test_vllm", "test_capture", "test_smollm2", "test_benchmarks"),
    "engines": ("test_engines",),
    "commands": ("test_bad_input",),
}


def group(nodeid: str) -> str:
    """Which tests a test goes with: its group's, or its file's."""
    file = Path(nodeid.partition("::")[0])
    return next((name for name, files in GROUPS.items() if file.stem in files), str(file))


class Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = list(GROUPS)
    items.sort(key=lambda item: first.index(name) if (name := group(item.nodeid)) in first else len(first))


def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of the shared runs; nothing may run in it when the session ends."""
    from harness import gone

    home = tmp_path_factory.mktemp("shared") / "home"
    yield home
    gone(home)


@pytest.fixture(scope="session")
def first_run(home: Path) -> Finished:
    """The small recipe, uninterrupted, on the embedded default: no server, a fresh home, nothing forked."""
    from harness import Command, finished, run_arguments

    return finished(home, Command(home, *run_arguments(), fork=False).finish())


@pytest.fixture(scope="session")
def second_run(first_run: Finished) -> Finished:
    """The same command again."""
    from harness import run_paced

    return run_paced(first_run.home)


@pytest.fixture(scope="session")
def alpha_run(second_run: Finished) -> Finished:
    """Another weighting in the same home."""
    from harness import run_paced

    return run_paced(second_run.home, "weights.alpha=2")


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A user's own Prefect server, by its variable, for commands of which something else is tested: the embedded one
    takes them longer to start than the rest of a small run. All workers share it, and who has started it ends it.
    """
    from harness import prefect_server

    from paced.stage import exclusive

    folder = common(tmp_path_factory)
    address, turn = folder / "prefect.url", folder / "prefect.lock"
    server = None
    with (folder / "prefect.users").open("a") as using:
        with exclusive(turn):
            if not address.exists():
                server = prefect_server(tmp_path_factory.mktemp("prefect"), folder / "prefect.log")
                address.write_text(server.url + "/api")
            fcntl.flock(using, fcntl.LOCK_SH)
        yield {"PREFECT_API_URL": address.read_text()}
        while server:
            with exclusive(turn), contextlib.suppress(BlockingIOError):  # when no other worker uses it
                fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
                address.unlink()  # one that comes later starts its own
                server.stop()
                break
            time.sleep(0.1)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Every stage run once, uninterrupted, in one process and without Prefect; whichever worker asks first does it."""
    from harness import CHAIN

    from paced.stage import exclusive

    folder = common(tmp_path_factory)
    whole = folder / "chain.json"
    with exclusive(folder / "chain.lock"):
        if not whole.exists():
            from chain import run_chain

            whole.write_bytes(CHAIN.dump_json(run_chain(tmp_path_factory.mktemp("chain"))))
    return CHAIN.validate_json(whole.read_bytes())


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a browser; one that stays open is drawn all the time."""
    from browser import browser_page

    with browser_page() as page:
        yield page


@pytest.fixture(scope="session")
def prefect_pages(alpha_run: Finished) -> Iterator[Server]:
    """Prefect's own server, on what the shared runs have left."""
    from harness import prefect_server

    with prefect_server(alpha_run.home / "prefect", alpha_run.home.parent / "prefect.log") as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_pages(alpha_run: Finished) -> Iterator[Server]:
    """MLflow's own server, on what the shared runs have left."""
    from harness import mlflow_server

    with mlflow_server(alpha_run.home / "mlflow" / "mlflow.db", alpha_run.home.parent / "mlflow.log") as server:
        yield server
