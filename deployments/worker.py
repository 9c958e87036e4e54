"""The worker of a host, started by supervisord, in a container, or by hand on a further host.

First it settles the flow runs that a death on this host has left open.

Heartbeats tell the server that a flow run's process is gone (deployments/definitions.py), but not at once, not if it
died before the first of them was written down, and wrongly if the server itself was away for as long. This host knows:
a labelled process is there, or it is not; while the worker works, it goes on looking.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.cli import app
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Crashed, Running, Scheduled

from paced.errors import ConfigError
from paced_deployments import environment
from paced_deployments.platform import POOL, RUNS, SILENT, answers
from paced_tasks.ends import left
from paced_tasks.owner import LABEL, lost

STARTING = timedelta(seconds=60)  # longer than a run takes from one state to the next until it is labelled
OPEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
PAGE = 200
PAUSE = 10.0  # seconds between looks
AGAIN = 30.0  # seconds before MLflow is told again of a run that it did not take
RECENT = timedelta(minutes=10)  # in which a run that was taken for dead is looked for
GONE = "its process is gone; run it again to resume from what is committed"

_tried: dict[Path, float] = {}  # folder of a run -> when MLflow was told of its end


def settle() -> dict[UUID, str]:
    """Mark runs whose process is gone as crashed, and hand out again those that never got one.

    Returns:
        the new state of each.
    """
    changed: dict[UUID, str] = {}
    with get_client(sync_client=True) as client:
        for run in list(of_type(client, OPEN)):
            state = verdict(run)
            if state:
                client.set_flow_run_state(run.id, state, force=True)
                changed[run.id] = state.type.value
    return changed


def of_type(client: SyncPrefectClient, types: list[StateType], **more: Any) -> Iterator[FlowRun]:
    """Every flow run in a state of these types."""
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)), **more)
    offset = 0
    while runs := client.read_flow_runs(flow_run_filter=chosen, limit=PAGE, offset=offset):
        yield from runs
        offset += PAGE


def look() -> None:
    """Mark running runs whose process is gone as crashed, and those as running that were taken for dead and live."""
    since: Any = datetime.now(UTC) - RECENT
    recent = FlowRunFilterEndTime(after_=since)
    with get_client(sync_client=True) as client:
        for run in list(of_type(client, [StateType.RUNNING])):
            if gone(run) is True:
                # Not by force: it may have ended well since it was read.
                client.set_flow_run_state(run.id, Crashed(message=GONE))
        for run in list(of_type(client, [StateType.CRASHED], end_time=recent)):
            if gone(run) is False and run.state and run.state.message == SILENT:
                client.set_flow_run_state(run.id, Running(message="its process is there"), force=True)


def watch() -> None:
    """Look for ever."""
    while True:
        time.sleep(PAUSE)
        try:
            look()
        except Exception as error:  # the server is away
            print(f"flow runs were not looked after: {' '.join(str(error).split())[:200]}", flush=True)
        try:
            close_runs(environment.home(), os.environ["MLFLOW_TRACKING_URI"])
        except OSError as error:  # the disk is full
            print(f"runs were not closed in MLflow: {error}", flush=True)


def close_runs(home: Path, mlflow: str) -> None:
    """Have MLflow, where it answers, know how the runs ended that nobody works on any more.

    A process of its own does so: MLflow's libraries take room, and a run seldom ends without a word.
    """
    now = time.monotonic()
    waiting = [folder for folder in left(home) if now - _tried.get(folder, -AGAIN) >= AGAIN]
    if waiting and (not mlflow.startswith("http") or answers(f"{mlflow}/health")):
        _tried.update(dict.fromkeys(waiting, now))
        subprocess.run([sys.executable, "-m", "paced_tasks.replay"], check=False)


def gone(run: FlowRun) -> bool | None:
    """Whether the process of a run is gone, if this host can know."""
    label = run.labels.get(LABEL)
    return lost(label) if isinstance(label, str) else None


def verdict(run: FlowRun) -> State | None:
    """The state a run should be in, if not its own."""
    assert run.state
    label = run.labels.get(LABEL)
    if isinstance(label, str):
        return Crashed(message=GONE) if lost(label) else None
    if run.work_pool_name != POOL or datetime.now(UTC) - run.state.timestamp < STARTING:
        return None
    if run.state.type == StateType.PENDING and not run.infrastructure_pid:
        return Scheduled(message="its worker died before it started")
    return Crashed(message=GONE) if run.state.type == StateType.RUNNING else None


def begin() -> None:
    """See that all settings are there, and start anew with those that are not: Prefect reads them when it is imported.

    Raises:
        ConfigError: no server is named.
    """
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        if name not in os.environ:
            raise ConfigError(f"{name} is not set: a worker takes its runs from one server and reports to another")
    environment.make_folders(environment.home())
    needed = environment.settings(environment.home()) | RUNS
    if needed.keys() - os.environ.keys():
        again = [sys.executable, "-m", "paced_deployments.worker", *sys.argv[1:]]
        os.execve(sys.executable, again, needed | os.environ)


def main() -> None:
    """Become a worker; further arguments are passed on to ``prefect worker start``."""
    begin()
    for run, state in settle().items():
        print(f"flow run {run}: now {state.lower()}", flush=True)
    threading.Thread(target=watch, daemon=True).start()
    command = ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", socket.gethostname()]
    sys.argv = command + sys.argv[1:]
    app()


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"error: {error}")
