"""The worker of a host, started by supervisord, in a container, or by hand on a further host.

First it settles the flow runs that a death on this host has left open; while it works, it goes on looking after all of
them. This host knows whether a labelled process of its own is there. That one of another host is gone shows in missing
heartbeats. (An automation of Prefect's could look for those, but it takes a run for dead that has sent one after it
ended or was suspended: docs/decisions.md.)
"""

import json
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
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed, Running, Scheduled, Suspended

from paced.errors import ConfigError
from paced_deployments import environment
from paced_deployments.platform import LOST, POOL, RUNS, SILENT, answers
from paced_tasks.ends import RESUMES, WATCHED, left
from paced_tasks.owner import LABEL, gone, lost
from paced_tasks.reason import NOT_RUN

STARTING = timedelta(seconds=60)  # longer than a run takes from one state to the next until it is labelled
OPEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
PAGE = 200
PAUSE = 10.0  # seconds between looks
AGAIN = 30.0  # seconds before MLflow is told again of a run that it did not take
SUSPENDED = timedelta(days=365)  # in which a suspended run can be resumed
BEAT = "prefect.flow-run.heartbeat"
RECENT = timedelta(minutes=10)  # in which a run that was taken for dead is looked for
SETTLED = timedelta(seconds=30)  # in which a run that ends by itself says what became of its stages
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
            state = None if parent(client, run) else verdict(run)
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


class Silence:
    """Which runs send no heartbeats, by this host's clock alone: others may go wrong."""

    def __init__(self) -> None:
        self._last: dict[UUID, tuple[UUID, float]] = {}  # run -> its last heartbeat, and when this host first saw it

    def keep(self, running: list[FlowRun]) -> None:
        """Forget all others: a run that was suspended begins anew."""
        ids = {run.id for run in running}
        self._last = {run: seen for run, seen in self._last.items() if run in ids}

    def forget(self) -> None:
        """Begin anew: while the server was away, it took no heartbeat."""
        self._last.clear()

    def lasts(self, client: SyncPrefectClient, run: FlowRun) -> bool:
        """Whether a run has sent heartbeats, and none for so long that its process is gone."""
        mine = EventResourceFilter(id=[f"prefect.flow-run.{run.id}"])
        found = client.read_events(EventFilter(event=EventNameFilter(name=[BEAT]), resource=mine), limit=1).events
        if not found:
            return False
        last, since = self._last.get(run.id, (None, 0.0))
        if last != found[0].id:
            self._last[run.id] = found[0].id, time.monotonic()
            return False
        return time.monotonic() - since > LOST


def look(silence: Silence) -> None:
    """Mark running runs whose process is gone as crashed, and those as running that were taken for dead and live."""
    since: Any = datetime.now(UTC) - RECENT
    recent = FlowRunFilterEndTime(after_=since)
    with get_client(sync_client=True) as client:
        running = list(of_type(client, [StateType.RUNNING]))
        silence.keep(running)
        for run in running:
            above, dead = parent(client, run), gone(run)
            if above:  # which has the same process
                dead = above.state is not None and above.state.is_final()
            if dead is True:
                # Not by force: it may have ended well since it was read.
                client.set_flow_run_state(run.id, Crashed(message=GONE))
            elif dead is None and ours(run) and silence.lasts(client, run):
                client.set_flow_run_state(run.id, Crashed(message=SILENT))
        for run in list(of_type(client, [StateType.CRASHED], end_time=recent)):
            if gone(run) is False and run.state and run.state.message == SILENT:
                client.set_flow_run_state(run.id, Running(message="its process is there"), force=True)
        end_stages(client)
        keep_suspended(client)
        collapse(client)


def end_stages(client: SyncPrefectClient) -> None:
    """Say of the stages of runs that have ended that they had no turn, or why they stopped: Prefect leaves them pending
    or running for ever.
    """
    now: Any = datetime.now(UTC)
    ended = FlowRunFilterEndTime(after_=now - 2 * RECENT, before_=now - SETTLED)
    found = of_type(client, [StateType.CANCELLED, StateType.CRASHED, StateType.FAILED], end_time=ended)
    if not (runs := {run.id: run for run in found if ours(run)}):
        return
    mine = FlowRunFilter(id=FlowRunFilterId(any_=list(runs)))
    going = TaskRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    chosen = TaskRunFilter(state=TaskRunFilterState(type=going))
    for stage in client.read_task_runs(flow_run_filter=mine, task_run_filter=chosen, limit=PAGE):
        assert stage.flow_run_id and stage.state
        run = runs[stage.flow_run_id]
        assert run.state and run.end_time
        if run.state.message == SILENT and run.end_time > now - RECENT:
            continue  # it may live
        why = run.state.message or f"the run was {run.state.type.value.lower()}"
        if stage.state.type == StateType.PENDING:
            state = Cancelled(name=NOT_RUN, message=f"not started: {why}")
        else:
            state = Cancelled(message=why) if run.state.type == StateType.CANCELLED else Crashed(message=why)
        client.set_task_run_state(stage.id, state, force=True)


def parent(client: SyncPrefectClient, run: FlowRun) -> FlowRun | None:
    """The flow run whose process a run is carried out by, if it is not its own."""
    if run.parent_task_run_id is None:
        return None
    try:
        above = client.read_task_run(run.parent_task_run_id).flow_run_id
        return client.read_flow_run(above) if above else None
    except ObjectNotFound:
        return None


def keep_suspended(client: SyncPrefectClient) -> None:
    """Let a suspended run wait for days: the page's button gives it five minutes, after which it would fail."""
    soon = datetime.now(UTC) + SUSPENDED / 2
    for run in list(of_type(client, [StateType.PAUSED])):
        assert run.state
        details = run.state.state_details
        if run.state.name != "Suspended" or run.work_pool_name != POOL or details.run_input_keyset:
            continue
        if details.pause_timeout and details.pause_timeout < soon:
            seconds = int(SUSPENDED.total_seconds())
            state = Suspended(timeout_seconds=seconds, pause_key=details.pause_key, message="Resume goes on " + RESUMES)
            client.set_flow_run_state(run.id, state, force=True)


def collapse(client: SyncPrefectClient) -> None:
    """Of a schedule's firings that have not been taken in their time, leave the last: one run does the work of all."""
    due: Any = datetime.now(UTC)
    late = FlowRunFilterExpectedStartTime(before_=due)
    waiting = [r for r in of_type(client, [StateType.SCHEDULED], expected_start_time=late) if r.auto_scheduled]
    kept: dict[str, FlowRun] = {}
    for run in sorted(waiting, key=lambda r: r.expected_start_time or due, reverse=True):
        if run.work_pool_name != POOL or run.run_count:
            continue
        # Not by the schedule's number, which changes when deployments are brought up to date.
        last = kept.setdefault(json.dumps([str(run.deployment_id), run.parameters], sort_keys=True), run)
        if last is not run:
            text = f"the firing of {last.expected_start_time:%Y-%m-%d %H:%M} UTC takes its place"
            client.set_flow_run_state(run.id, Cancelled(name="Skipped", message=text))


def watch() -> None:
    """Look for ever."""
    silence = Silence()
    while True:
        time.sleep(PAUSE)
        for task in (lambda: look(silence), lambda: close_runs(environment.home(), os.environ["MLFLOW_TRACKING_URI"])):
            try:
                task()
            except Exception as error:  # the server is away
                silence.forget()
                print(f"flow runs were not looked after: {' '.join(str(error).split())[:200]}", flush=True)


def close_runs(home: Path, mlflow: str) -> None:
    """Have MLflow, where it answers, know how the runs ended that nobody works on any more.

    A process of its own does so: MLflow's libraries take room, and a run seldom ends without a word.
    """
    now = time.monotonic()
    waiting = [folder for folder in left(home) if now - _tried.get(folder, -AGAIN) >= AGAIN]
    if waiting and (not mlflow.startswith("http") or answers(f"{mlflow}/health")):
        _tried.update(dict.fromkeys(waiting, now))
        subprocess.run([sys.executable, "-m", "paced_tasks.replay"], check=False)


def ours(run: FlowRun) -> bool:
    """Whether a run is of this platform: the server may have others."""
    return run.work_pool_name == POOL or LABEL in run.labels


def verdict(run: FlowRun) -> State | None:
    """The state a run should be in, if not its own."""
    assert run.state
    known = gone(run)
    if known is not None:
        return Crashed(message=GONE) if known else None
    label = run.labels.get(LABEL)
    if isinstance(label, str) and lost(label) is None:
        return None  # another host's
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
    with get_client(sync_client=True) as client:
        collapse(client)
    for run, state in settle().items():
        print(f"flow run {run}: now {state.lower()}", flush=True)
    os.environ[WATCHED] = "1"
    threading.Thread(target=watch, daemon=True).start()
    command = ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", socket.gethostname()]
    sys.argv = command + sys.argv[1:]
    app()


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"error: {error}")
