"""Which flow runs have lost their process, from what is known of them on this host."""

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psutil
import pytest
from harness import TINY
from prefect.client.schemas.objects import FlowRun, State, StateType

from paced.config.reading import load_recipe
from paced_deployments.platform import POOL
from paced_deployments.worker import STARTING, verdict
from paced_flows.ablate import ablate
from paced_flows.diagnose import diagnose
from paced_flows.distill import distill
from paced_flows.evaluate import evaluate
from paced_flows.retrain import retrain
from paced_tasks.owner import BOOT, LABEL, created, lost


def label(pid: int, birth: int | str | None, host: str | None = None) -> str:
    return f"{host or socket.gethostname()}:{pid}:{birth}"


def test_a_process_is_known_by_number_and_birth() -> None:
    me = created(os.getpid())
    assert not lost(label(os.getpid(), me))
    assert lost(label(os.getpid(), f"{me}0"))  # after a reboot another program has the number
    assert lost(label(os.getpid(), 1764000000))  # as labels were: the second of the clock
    assert lost(label(os.getpid(), 1, host="another")) is None  # of another host nothing is known here


@pytest.mark.skipif(not BOOT.exists(), reason="other systems tell the clock's second alone")
def test_a_clock_that_is_set_kills_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil computes when a process was created from when the host was booted, by the clock as it is now."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        mark = label(child.pid, created(child.pid))
        booted = psutil.boot_time()
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + 3600)
        assert not lost(mark)
        child.kill()
    assert lost(mark)


def test_a_dead_process_is_lost_even_before_it_is_reaped() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        mark = label(child.pid, created(child.pid))
        assert not lost(mark)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert lost(mark)
    assert lost(mark)


@pytest.mark.parametrize(
    ("kind", "labels", "pid", "age", "becomes"),
    [
        (StateType.RUNNING, {LABEL: label(os.getpid(), 1)}, "7", 0, "CRASHED"),
        (StateType.CANCELLING, {LABEL: label(os.getpid(), 1)}, "7", 0, "CRASHED"),
        (StateType.RUNNING, {LABEL: label(os.getpid(), created(os.getpid()))}, "7", 999, None),
        (StateType.RUNNING, {LABEL: label(1, 1, host="another")}, "7", 999, None),
        (StateType.RUNNING, {}, "7", 999, "CRASHED"),
        (StateType.RUNNING, {}, "7", 0, None),  # it may be about to be labelled
        (StateType.PENDING, {}, None, 999, "SCHEDULED"),
        (StateType.PENDING, {}, None, 0, None),
        (StateType.PENDING, {}, "7", 999, None),
    ],
)
def test_what_becomes_of_a_run(
    kind: StateType, labels: dict[str, str], pid: str | None, age: int, becomes: str | None
) -> None:
    assert age == 0 or timedelta(seconds=age) > STARTING
    state = State(type=kind, timestamp=datetime.now(UTC) - timedelta(seconds=age))
    run = FlowRun(flow_id=uuid4(), state=state, labels=labels, infrastructure_pid=pid, work_pool_name=POOL)
    found = verdict(run)
    assert (found and found.type.value) == becomes


@pytest.mark.parametrize(
    ("flow", "arguments"),
    [(distill, ()), (ablate, ()), (evaluate, ("nowhere",)), (diagnose, ()), (retrain, (None,))],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_flow_is_labelled_before_anything_else(
    flow: Any, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Claimed(Exception):
        pass

    def claim() -> None:
        raise Claimed

    monkeypatch.setitem(flow.fn.__globals__, "claim", claim)
    recipe = load_recipe(TINY)
    nowhere = recipe.model_copy(update={"student": recipe.student.model_copy(update={"path": "nowhere"})})
    with pytest.raises(Claimed):
        flow.fn(nowhere, *arguments)


def test_runs_of_other_pools_are_left_alone() -> None:
    state = State(type=StateType.RUNNING, timestamp=datetime.now(UTC) - timedelta(hours=1))
    assert verdict(FlowRun(flow_id=uuid4(), state=state, work_pool_name="theirs")) is None
