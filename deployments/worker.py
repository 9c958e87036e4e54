"""The worker as supervisord starts it: first it settles the flow runs that the last one left behind.

Heartbeats tell the server that a flow run's process is gone (deployments/definitions.py), but not if it died before the
first of them was written down, and not at once. This host knows: a run that it executed has its process, or none.
"""

import os
import socket
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Crashed, Scheduled

from deployments.platform import BIN, MARK, POOL

SUBMITTING = timedelta(seconds=60)  # longer than it takes to start a process
OPEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def settle() -> dict[UUID, str]:
    """Mark runs of this host whose process is gone as crashed, and hand out again those that never got one.

    Returns:
        the new state of each.
    """
    changed: dict[UUID, str] = {}
    with get_client(sync_client=True) as client:
        for run in unfinished(client):
            state = verdict(run)
            if state:
                client.set_flow_run_state(run.id, state, force=True)
                changed[run.id] = state.type.value
    return changed


def unfinished(client: SyncPrefectClient) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN))),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
    )


def verdict(run: FlowRun) -> State | None:
    """The state a run should be in, if not its own."""
    host, _, pid = (run.infrastructure_pid or "").rpartition(":")
    if host == socket.gethostname() and not alive(int(pid)):
        return Crashed(message="its process is gone; run it again to resume from what is committed")
    assert run.state
    waiting = run.state.type == StateType.PENDING and not run.infrastructure_pid
    if waiting and datetime.now(UTC) - run.state.timestamp > SUBMITTING:
        return Scheduled(message="its worker died before it started")
    return None


def alive(pid: int) -> bool:
    """Whether a process of this platform has this number: after a reboot another program may."""
    try:
        return psutil.Process(pid).environ().get(MARK) == os.environ.get(MARK)
    except psutil.Error:
        return False


def main() -> None:
    for run, state in settle().items():
        print(f"flow run {run}: now {state.lower()}", flush=True)
    program = str(BIN / "prefect")
    os.execv(program, [program, "worker", "start", "--pool", POOL, "--type", "process", "--name", socket.gethostname()])


if __name__ == "__main__":
    main()
