"""Everything of a platform is killed in turn: nothing is lost, nobody is blocked, the next trigger goes on from there.

Both databases are in PostgreSQL where it is installed. The tests before the first that starts runs of its own share
one flow run, which stays alive through all of them.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from harness import STAGES, STUDENTS, eventually, gone, need, paced, parts, told
from platforms import ENDED, PATIENCE, Platform
from postgres import BIN, MISSING, PASSWORD, Postgres, postgres

from paced.storage.housekeeping import held
from paced_deployments.platform import SILENT
from paced_tasks.journal import PARENT

ONE_ARM = {"seeds": [11], "arms": [{"name": "paced", "scheme": "beta", "schedule": "forward"}]}
ALONE = 3  # seconds
ROOM = 200  # MB of the file system that the home is on


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres | None]:
    if not BIN.exists():
        yield None
        return
    with postgres() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home on a small file system of its own, where one can be mounted, so that it can be filled."""
    home = tmp_path_factory.mktemp("faults") / "home"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}m", "tmpfs", str(home)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield home
    if mounted:
        subprocess.run(["umount", str(home)], check=True)


@pytest.fixture(scope="module")
def platform(home: Path, cluster: Postgres | None) -> Iterator[Platform]:
    options = [w for s in ("prefect", "mlflow") for w in (f"--{s}-database", cluster.url(s))] if cluster else []
    try:
        yield Platform(home, *options)
    finally:
        assert paced(home, "down").out == "stopped\n"
        gone(home)


@pytest.fixture(scope="module")
def live(platform: Platform) -> str:
    """The flow run under which everything dies, in a stage."""
    run = platform.trigger(seeds=[21])
    platform.in_a_stage(run)
    return run


def run_name(platform: Platform, run: str) -> str:
    return platform.runs()[run]["name"].partition(":")[0]


def stages(platform: Platform) -> list[psutil.Process]:
    """Stage processes: each leads a session of its own."""
    found: list[psutil.Process] = []
    for process in platform.processes("forkserver"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == process.pid:
                found.append(process)
    return found


@contextlib.contextmanager
def asleep(platform: Platform) -> Iterator[None]:
    """Meanwhile no stage gets on, so that the run does not end, however long a service takes to come back."""
    awake = threading.Event()

    def watch() -> None:
        while not awake.wait(0.1):
            for stage in stages(platform):
                with contextlib.suppress(psutil.NoSuchProcess):
                    stage.suspend()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        awake.set()
        watching.join()
        for stage in stages(platform):
            with contextlib.suppress(psutil.NoSuchProcess):
                stage.resume()


def all_healthy(platform: Platform) -> None:
    eventually(
        lambda: all(row["healthy"] for row in platform.services().values()), PATIENCE, "all services are healthy"
    )


def without(platform: Platform, *back: Callable[[], None]) -> None:
    """The run has to do without services that were killed, for a while; then it sleeps until all is well again."""
    time.sleep(ALONE)
    with asleep(platform):
        for wait in back:
            wait()
        all_healthy(platform)


def device_is_free(home: Path) -> bool:
    """Whether a run could have the device now."""
    return not any(held(path) for path in home.glob("locks/slot-*"))


def found(platform: Platform, query: str) -> list[dict[str, Any]]:
    """Runs in MLflow."""
    question = {"experiment_ids": ["1"], "filter": query, "max_results": 1000}
    url = platform.url("mlflow") + "/api/2.0/mlflow/runs/search"
    request = urllib.request.Request(url, json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read()).get("runs", [])


def none_spins(platform: Platform) -> None:
    """Within a minute every run in MLflow has ended."""
    eventually(lambda: not found(platform, "attributes.status = 'RUNNING'"), 60, "no run in MLflow is RUNNING")


def tracked(platform: Platform, name: str) -> dict[str, str]:
    """Label -> status of each MLflow run of a PACED run; fails on a second run of a label."""
    runs = found(platform, f"tags.`paced.run` = '{name}'")
    labels = [next(t["value"] for t in r["data"]["tags"] if t["key"] == "paced.label") for r in runs]
    assert [label for label, number in Counter(labels).items() if number > 1] == []
    return {label: run["info"]["status"] for label, run in zip(labels, runs, strict=True)}


def states(platform: Platform, run: str) -> list[str]:
    """Every state a run has been in."""
    return [state["type"] for state in platform.api(f"/flow_run_states/?flow_run_id={run}")]


def stored_once(home: Path) -> bool:
    """Whether no sample was drawn and kept twice: whatever was committed has been used again."""
    keys = pd.concat(pd.read_parquet(p)["sample_key"] for p in home.glob("store/samples/*/*.parquet"))
    return keys.is_unique


def test_a_stage_dies(platform: Platform, live: str) -> None:
    (stage, *_) = eventually(lambda: stages(platform), PATIENCE, "a stage runs")
    stage.kill()
    eventually(lambda: any(p.pid != stage.pid for p in stages(platform)), PATIENCE, "it is tried again")
    assert platform.state(live) == "RUNNING"


def test_the_worker_and_the_mlflow_server_die(platform: Platform, live: str) -> None:
    """Of MLflow only the process that supervisord knows: its child, which listens, must not be in the way."""
    log = platform.home / "platform" / "mlflow.log"
    worker, mlflow = platform.kill("worker"), platform.kill("mlflow")

    def freed() -> None:  # until then the child answers as if nothing had happened
        eventually(lambda: "which an earlier start has left on port" in log.read_text(), PATIENCE, "the port is freed")

    without(platform, worker, freed, mlflow)
    assert "address already in use" not in log.read_text()
    assert platform.state(live) == "RUNNING"


def test_the_prefect_server_dies(platform: Platform, live: str) -> None:
    without(platform, platform.kill("prefect"))
    assert platform.state(live) == "RUNNING"


def test_postgresql_dies(platform: Platform, live: str, cluster: Postgres | None) -> None:
    need(cluster is not None, MISSING)
    assert cluster
    cluster.die()
    try:
        status = told(platform.home, "status")
    finally:
        cluster.start()
    assert status.status == 1
    assert [line.split()[0] for line in status.out.splitlines() if line.endswith("no answer")] == [
        "prefect", "prefect-db", "mlflow-db",
    ]  # fmt: skip
    with asleep(platform):
        all_healthy(platform)
        assert platform.state(live) == "RUNNING"


def test_a_live_run_taken_for_dead_is_running_again(platform: Platform, live: str) -> None:
    """As happens when the server was away for longer than heartbeats may be missing."""
    crashed = {"state": {"type": "CRASHED", "message": SILENT}, "force": True}
    with asleep(platform):
        platform.api(f"/flow_runs/{live}/set_state", crashed)
        assert platform.state(live) == "CRASHED"
        assert platform.reaches(live, "RUNNING", within=60)


def test_the_mlflow_server_hangs(platform: Platform, live: str) -> None:
    """Connections are taken and never answered: worse than none. The run ends well, and what was missed is sent."""
    assert platform.state(live) == "RUNNING"
    hung = platform.processes("mlflow")
    for process in hung:
        process.suspend()
    try:
        assert platform.reaches(live, "COMPLETED", "FAILED") == "COMPLETED", platform.runs()[live]["state"]["message"]
    finally:
        for process in hung:
            process.resume()
    name = run_name(platform, live)
    replayed = told(platform.home, "mlflow-replay", name)
    assert replayed.status == 0, replayed.err
    assert platform.url("mlflow") in replayed.out


def test_nothing_of_that_run_is_lost(platform: Platform, live: str) -> None:
    history = states(platform, live)
    assert [after for state, after in itertools.pairwise(history) if state == "CRASHED"] == ["RUNNING"]  # the test's
    name = run_name(platform, live)
    labels = {PARENT, *STUDENTS, *STAGES}
    expected = {
        label.replace("0/", "21/") if label.startswith("0/") else label.replace("/0", "/21") for label in labels
    }
    assert tracked(platform, name) == dict.fromkeys(expected, "FINISHED")
    summary = json.loads((platform.home / "runs" / name / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert stored_once(platform.home)
    assert device_is_free(platform.home)


def test_a_flow_run_dies(platform: Platform) -> None:
    before = parts(platform.home)
    run = platform.trigger(**ONE_ARM)
    eventually(lambda: parts(platform.home) > before, PATIENCE, "a part of its rollouts is committed")
    (flow,) = (p for p in platform.processes("prefect.engine") if run in p.environ().values())
    flow.kill()
    died = time.monotonic()
    eventually(lambda: device_is_free(platform.home) and not stages(platform), 10, "the device is free")
    assert platform.reaches(run, *ENDED, within=120) == "CRASHED"
    assert time.monotonic() - died < 120
    none_spins(platform)
    assert tracked(platform, run_name(platform, run))[PARENT] == "KILLED"


def test_the_disk_is_full(platform: Platform) -> None:
    """The run of the test before goes on, until there is no room; then it fails with one line that says so."""
    need(os.path.ismount(platform.home), "no file system can be mounted here: run the tests as root")
    before = parts(platform.home)
    run = platform.trigger(**ONE_ARM)
    eventually(lambda: parts(platform.home) > before, PATIENCE, "a part of its rollouts is committed")
    ballast = platform.home / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    assert shutil.disk_usage(platform.home).free < 1 << 20
    try:
        assert platform.reaches(run, *ENDED, within=120) == "FAILED"
        message: str = platform.api(f"/flow_runs/{run}")["state"]["message"]
        assert "the disk is full while writing" in message and "\n" not in message
        eventually(lambda: device_is_free(platform.home), 10, "the device is free")
    finally:
        ballast.unlink()


def test_the_host_goes_down_and_comes_back(platform: Platform, cluster: Postgres | None) -> None:
    """The same settings again: reused is what was committed before each of three deaths."""
    before = parts(platform.home)
    run = platform.trigger(**ONE_ARM)
    eventually(lambda: parts(platform.home) > before, PATIENCE, "a part of its rollouts is committed")
    died = time.monotonic()
    for process in platform.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)
    if cluster:
        cluster.die()
        cluster.start()
    platform.up()
    assert platform.reaches(run, *ENDED, within=60) == "CRASHED"
    assert time.monotonic() - died < 120
    none_spins(platform)
    again = platform.trigger(**ONE_ARM)
    assert platform.reaches(again, *ENDED) == "COMPLETED"
    assert platform.state(run) == "CRASHED"
    name = run_name(platform, again)
    summary = json.loads((platform.home / "runs" / name / "summary.json").read_text())
    reused, computed = (sum(stage[key] or 0 for stage in summary["stages"]) for key in ("reused", "computed"))
    assert summary["status"] == "completed" and reused > 0 < computed
    assert stored_once(platform.home)
    assert set(tracked(platform, name).values()) == {"FINISHED"}
    unfinished = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}}
    assert platform.api("/flow_runs/filter", unfinished) == []


def test_a_database_that_cannot_be_used_is_named(cluster: Postgres | None, tmp_path: Path) -> None:
    need(cluster is not None, MISSING)
    assert cluster
    cluster.execute("create role guest login password 'guest'")
    guest = cluster.url("mlflow").replace(f"paced:{PASSWORD}", "guest:guest")
    where = f"127.0.0.1:{cluster.port}"
    cases: dict[str, tuple[str, ...]] = {
        f"prefect's database {where}/absent cannot be used: ": ("--prefect-database", cluster.url("absent")),
        f"mlflow's database {where}/mlflow: guest may not create": ("--mlflow-database", guest),
        "Prefect and MLflow need a database each": (
            "--prefect-database", cluster.url("mlflow"), "--mlflow-database", cluster.url("mlflow"),
        ),
        "--mlflow-database: is no valid URL": ("--mlflow-database", f"postgresql://x:{PASSWORD}%@h/d"),
        "--mlflow-database: must be postgresql://": ("--mlflow-database", f"mysql://x:{PASSWORD}@h/d"),
    }  # fmt: skip
    for says, options in cases.items():
        outcome = paced(tmp_path / "home", "up", *options)
        assert outcome.status == 1
        assert outcome.err.startswith(f"error: {says}") and len(outcome.err.splitlines()) == 1
        assert PASSWORD not in outcome.err
    (tmp_path / "psycopg2.py").write_text("raise ImportError")
    path = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    outcome = paced(tmp_path / "home", "up", "--mlflow-database", cluster.url("mlflow"), env=path)
    assert outcome.status == 1
    assert outcome.err.endswith("a driver that is not installed: pip install psycopg2-binary\n")
    assert not (tmp_path / "home" / "platform" / "supervisord.pid").exists()


def test_no_password_is_shown(platform: Platform, cluster: Postgres | None) -> None:
    """It is in one file, which only its owner can read, and in no log, command line or flow run."""
    need(cluster is not None, MISSING)
    words = (PASSWORD.encode(), PASSWORD.replace("%20", " ").encode())
    files = [p for p in platform.home.rglob("*") if p.is_file()]
    holding = [p for p in files if any(word in p.read_bytes() for word in words)]
    settings = platform.home / "platform" / "platform.json"
    assert holding == [settings]
    assert (settings.stat().st_mode & 0o777, settings.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for process in platform.processes():
        assert PASSWORD not in " ".join(process.cmdline())
    (worker,) = platform.processes("paced_deployments.worker")
    assert PASSWORD not in str(worker.environ())
    assert PASSWORD not in told(platform.home, "status").out
