"""Runs of MLflow end when their flow run does, however it does: with a real store, and processes that really die.

| end | here | with real servers |
|---|---|---|
| cancelled | test_a_flow_that_ends_badly | ui/test_platform: test_cancelled_from_the_page |
| suspended | test_a_flow_that_ends_badly | ui/test_platform: test_suspended_and_resumed_from_the_page |
| crashed | test_a_process_that_is_killed | faults/test_platform_faults: test_a_flow_run_dies |
| all killed | test_a_process_that_is_killed | faults/test_platform_faults: test_the_host_goes_down_and_comes_back |
| a stage failed | test_a_stage_that_fails | ui/test_platform: test_a_failed_run_says_why |
| the flow failed | test_a_flow_that_ends_badly | integration/test_retrain: test_nothing_spins_in_mlflow |
| MLflow away | test_mlflow_is_away_at_the_end | faults/test_platform_faults: test_nothing_of_that_run_is_lost |
| host gone | test_a_host_that_is_gone | |
| schedule refused, no new data | | integration/test_retrain: test_nothing_spins_in_mlflow |
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from harness import TINY, eventually
from mlflow import MlflowClient
from prefect.exceptions import Pause, TerminationSignal

from paced.config.label import Label
from paced.config.reading import load_recipe
from paced.errors import DataError, Stopped
from paced_tasks import ends, pipeline
from paced_tasks.journal import PARENT, Journal
from paced_tasks.replay import replay, settle
from paced_tasks.run import Run
from paced_tasks.stage import NotStarted
from paced_tasks.tracking import REASON, Tracker

pytestmark = pytest.mark.slow

DONE, AT_WORK, WAITS = "preflight", "0/rollouts", "0/weights"  # a stage that has ended, one that works, one to come


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, which take seconds to make."""
    home = tmp_path_factory.mktemp("database")
    Tracker(home / "runs" / "r", home, "r").client()
    return home / "mlflow" / "mlflow.db"


@pytest.fixture
def run(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PACED_HOME", str(tmp_path))
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_bytes(database.read_bytes())
    monkeypatch.setattr(pipeline, "stop_all", lambda: None)
    monkeypatch.setattr(pipeline, "create_link_artifact", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "not_run", lambda *_: None)
    return Run(name="r", home=str(tmp_path), recipe=load_recipe(TINY))


def begun(run: Run) -> pipeline.Pipeline:
    """A run in the middle of its stages, of which MLflow knows."""
    stages = pipeline.Pipeline(run, keep=False)
    stages.__enter__()
    for label in (DONE, AT_WORK):
        Journal(run.folder, label).begin({}, {}, label)
    Journal(run.folder, DONE).end("FINISHED")
    tracker = Tracker(run.folder, Path(run.home), run.name)
    assert all(tracker.flush(label, wait=True) for label in (PARENT, AT_WORK))  # not of the end of the other
    return stages


def shown(run: Run) -> dict[str, tuple[str, str]]:
    """What MLflow shows of a run: label -> status and reason."""
    client = MlflowClient(Tracker(run.folder, Path(run.home), run.name).uri)
    found = client.search_runs(["1"], f"tags.`paced.run` = '{run.name}'")
    return {r.data.tags["paced.label"]: (r.info.status, r.data.tags.get(REASON, "")) for r in found}


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (DataError("train.jsonl, line 3: no answer"), "FAILED", "train.jsonl, line 3: no answer"),
        (ValueError("two\nlines"), "FAILED", "ValueError: two lines"),
        (Stopped("stopped"), "KILLED", "it was told to stop"),
        (TerminationSignal(signal.SIGTERM), "KILLED", "it was told to stop"),
        (KeyboardInterrupt(), "KILLED", "it was told to stop"),
        (Pause(), "KILLED", "it was suspended: Resume goes on"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_flow_that_ends_badly(run: Run, error: BaseException, status: str, says: str) -> None:
    """By an error of the flow itself, or by somebody's wish."""
    stages = begun(run)
    stages.__exit__(type(error), error, None)
    assert shown(run)[DONE] == ("FINISHED", "")
    for label in (PARENT, AT_WORK):
        found, reason = shown(run)[label]
        assert found == status and says in reason
    assert ends.left(Path(run.home)) == []


def future(result: Any) -> Any:
    state = SimpleNamespace(is_final=lambda: result is not None)
    return SimpleNamespace(
        task_run_id=uuid4(), state=state, result=lambda **_: result, wait=lambda **_: None,
        add_done_callback=lambda call: call(None),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "status"), [(DataError("no answer"), "FAILED"), (Stopped("stopped by Ctrl-C"), "KILLED")]
)
def test_a_stage_that_fails(run: Run, error: Exception, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own run and the whole one; the same settings again begin where they are."""
    stages = begun(run)
    for label, result in ((AT_WORK, error), (WAITS, NotStarted("not started")), ("compare", None)):
        stages._submitted.append(pipeline.Submitted(Label.parse(label), future(result)))
    told: list[Any] = []
    monkeypatch.setattr(pipeline, "not_run", lambda *idle: told.extend(idle))
    with pytest.raises(type(error)):
        stages.__exit__(None, None, None)
    idle = [submitted.future.task_run_id for submitted in stages._submitted[1:]]
    assert told == [idle, f"not started: {error}"]
    found = shown(run)
    assert {label: ended for label, (ended, _) in found.items()} == {PARENT: status, DONE: "FINISHED", AT_WORK: status}
    assert all(("no answer" in reason) == (status == "FAILED") for stage, (_, reason) in found.items() if stage != DONE)

    again = pipeline.Pipeline(run, keep=False)
    again.__enter__()
    Journal(run.folder, AT_WORK).resume()
    tracker = Tracker(run.folder, Path(run.home), run.name)
    assert tracker.flush(PARENT, wait=True) and tracker.flush(AT_WORK, wait=True)
    assert {shown(run)[label] for label in (PARENT, AT_WORK)} == {("RUNNING", "")}
    again.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


DIES = """
import sys
from pathlib import Path
from paced_tasks.ends import at_work
with at_work(Path(sys.argv[1])):
    print("at work", flush=True)
    sys.stdin.read()  # until it is killed, or nobody is left to do so
"""


def test_a_process_that_is_killed(run: Run) -> None:
    """Nobody closes what somebody works on; once the process is gone, whoever looks does."""
    stages, home = begun(run), Path(run.home)
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", DIES, str(run.folder)], **pipes) as other:
        assert other.stdout and other.stdout.readline() == b"at work\n"
        stages.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)  # of two that work on it, one stops
        assert shown(run)[AT_WORK] == shown(run)[PARENT] == ("RUNNING", "")
        assert ends.left(home) == [] and settle(home) == {}
        assert replay(run.folder, home) == (1, 3)  # what has ended
        os.kill(other.pid, signal.SIGKILL)
    eventually(lambda: ends.left(home) == [run.folder], 5, "the lock is free")
    assert settle(home) == {"r": True}
    assert {shown(run)[label] for label in (PARENT, AT_WORK)} == {("KILLED", ends.GONE)}
    assert shown(run)[DONE] == ("FINISHED", "")
    assert ends.left(home) == [] and replay(run.folder, home) == (3, 3)


def test_a_host_that_is_gone(run: Run, tmp_path: Path) -> None:
    """Its home is on a disk that another host has now, where nobody knows of its processes or holds its locks."""
    stages = begun(run)
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    shutil.copytree(tmp_path, moved)
    stages.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    run = run.model_copy(update={"home": str(moved)})
    assert shown(run)[PARENT] == shown(run)[AT_WORK] == ("RUNNING", "")
    assert ends.left(moved) == [run.folder] and settle(moved) == {"r": True}
    assert {shown(run)[label] for label in (PARENT, AT_WORK)} == {("KILLED", ends.GONE)}
    assert ends.left(moved) == []


def test_mlflow_is_away_at_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, home = begun(run), Path(run.home)
    database = home / "mlflow" / "mlflow.db"
    stages._tracker._client = None
    database.rename(home / "away")
    database.mkdir()  # which no database can be
    stages.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert ends.left(home) == [run.folder] and settle(home) == {"r": False}
    assert replay(run.folder, home) == (0, 3)
    database.rmdir()
    (home / "away").rename(database)
    assert settle(home) == {"r": True}
    assert shown(run)[PARENT][0] == shown(run)[AT_WORK][0] == "KILLED"


def test_a_run_that_spins_is_not_called_complete(run: Run) -> None:
    """All was sent, and MLflow has lost the end, as of a backup that was put back."""
    stages, home = begun(run), Path(run.home)
    stages.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    tracker = Tracker(run.folder, home, run.name)
    spinning = tracker.state()["runs"][AT_WORK]["id"]
    tracker.client().update_run(spinning, status="RUNNING")
    assert replay(run.folder, home) == (3, 3)
    assert shown(run)[AT_WORK][0] == "KILLED"


@pytest.mark.parametrize("what", ["run", "parent", "experiment", "for good"])
def test_what_was_deleted_in_mlflow(run: Run, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run says what to do, and goes on; mlflow-replay does it."""
    stages, home = begun(run), Path(run.home)
    stages.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    before, tracker = shown(run), Tracker(run.folder, home, run.name)
    client, ids = tracker.client(), {label: sent["id"] for label, sent in tracker.state()["runs"].items()}
    if what == "experiment":
        client.delete_experiment("1")
    else:
        client.delete_run(ids[AT_WORK if what == "run" else PARENT])
    if what == "for good":  # as 'mlflow gc' does
        client._tracking_client.store._hard_delete_run(ids[PARENT])

    said: list[str] = []
    monkeypatch.setattr("paced_tasks.tracking.display.say", said.append)
    again = pipeline.Pipeline(run, keep=False)
    again.__enter__()
    again.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    (line,) = (line for line in said if line.startswith("warning: "))
    assert "deleted in MLflow" in line and "'paced mlflow-replay r'" in line
    assert ends.left(home) == []  # nothing of it spins

    assert replay(run.folder, home) == (3, 3)
    assert shown(run) == before
    parents = {r.data.tags.get("mlflow.parentRunId") for r in client.search_runs(["1"])} - {None}
    assert parents == {Tracker(run.folder, home, run.name).state()["runs"][PARENT]["id"]}
    assert replay(run.folder, home) == (3, 3)
