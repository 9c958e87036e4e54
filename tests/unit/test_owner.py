"""Which flow runs have lost their process, from what is known of them on this host."""

import inspect
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psutil
import pytest
from harness import TINY
from prefect.client.schemas.objects import FlowRun, State, StateType

from paced.config.reading import load_recipe
from paced_deployments.platform import LOST, POOL
from paced_deployments.worker import STARTING, Silence, collapse, verdict
from paced_flows.ablate import ablate
from paced_flows.diagnose import diagnose
from paced_flows.distill import distill
from paced_flows.evaluate import evaluate
from paced_flows.retrain import retrain
from paced_flows.study import study
from paced_tasks.owner import BOOT, LABEL, SINCE, created, lost


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
        # After a suspension or a retry: until it is labelled anew, the label is of the process before.
        (StateType.RUNNING, {LABEL: label(os.getpid(), 1), SINCE: 1.0}, "7", 0, None),
        (StateType.RUNNING, {LABEL: label(os.getpid(), 1), SINCE: 1.0}, "7", 999, "CRASHED"),
        (StateType.RUNNING, {LABEL: label(os.getpid(), 1), SINCE: time.time() + 1e9}, "7", 0, "CRASHED"),
        (StateType.PENDING, {LABEL: label(os.getpid(), 1), SINCE: 1.0}, "7", 0, None),
        (StateType.CANCELLING, {LABEL: label(os.getpid(), 1), SINCE: 1.0}, "7", 0, "CRASHED"),
    ],
)
def test_what_becomes_of_a_run(
    kind: StateType, labels: dict[str, Any], pid: str | None, age: int, becomes: str | None
) -> None:
    assert age == 0 or timedelta(seconds=age) > STARTING
    state = State(type=kind, timestamp=datetime.now(UTC) - timedelta(seconds=age))
    run = FlowRun(flow_id=uuid4(), state=state, labels=labels, infrastructure_pid=pid, work_pool_name=POOL)
    found = verdict(run)
    assert (found and found.type.value) == becomes


@pytest.mark.parametrize(
    ("flow", "arguments"),
    [(distill, ()), (ablate, ()), (evaluate, ("nowhere",)), (diagnose, ()), (retrain, (None,)), (study, ())],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_flow_is_labelled_before_anything_else(
    flow: Any, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Claimed(BaseException):  # which no flow takes for a failure of its own
        pass

    def claim() -> None:
        raise Claimed

    monkeypatch.setitem(inspect.unwrap(flow.fn).__globals__, "claim", claim)
    recipe = load_recipe(TINY)
    nowhere = recipe.model_copy(update={"student": recipe.student.model_copy(update={"path": "nowhere"})})
    with pytest.raises(Claimed):
        flow.fn(nowhere, *arguments)


def test_runs_of_other_pools_are_left_alone() -> None:
    state = State(type=StateType.RUNNING, timestamp=datetime.now(UTC) - timedelta(hours=1))
    assert verdict(FlowRun(flow_id=uuid4(), state=state, work_pool_name="theirs")) is None


def test_silence_is_counted_here_and_only_while_the_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clocks of others say; one that has sent no heartbeat yet is not missed."""
    beats, now = list[SimpleNamespace](), 1000.0
    client: Any = SimpleNamespace(read_events=lambda question, limit: SimpleNamespace(events=beats[-limit:]))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    run, silence = FlowRun(flow_id=uuid4()), Silence()
    said: list[bool] = []
    for passed, beat in ((LOST + 1, False), (1, True), (LOST - 1, False), (1, True), (LOST, False), (1, False)):
        now += passed
        if beat:
            beats.append(SimpleNamespace(id=uuid4()))
        said.append(silence.lasts(client, run))
    assert said == [False, False, False, False, False, True]
    silence.keep([run])
    assert silence.lasts(client, run)
    silence.keep([])  # it was suspended
    assert not silence.lasts(client, run)
    now += LOST + 1
    silence.forget()  # a look has failed
    now += LOST + 1
    assert not silence.lasts(client, run)
    now += LOST + 1
    assert silence.lasts(client, run)


def test_missed_firings_become_one() -> None:
    """The last of each deployment with the same parameters; what somebody triggered, resumed or owns is left alone."""
    deployment, other, day = uuid4(), uuid4(), datetime(2026, 1, 5, 3, tzinfo=UTC)

    def firing(name: str, days: int, parameters: dict[str, Any], **more: Any) -> FlowRun:
        given = {"deployment_id": deployment, "auto_scheduled": True, "work_pool_name": POOL} | more
        due = day + timedelta(days=days)
        return FlowRun(flow_id=uuid4(), name=name, expected_start_time=due, parameters=parameters, **given)

    runs = [
        firing("first", 0, {"a": 1}), firing("last", 2, {"a": 1}), firing("second", 1, {"a": 1}),
        firing("of other parameters", 0, {"a": 2}), firing("of another deployment", 0, {"a": 1}, deployment_id=other),
        firing("triggered", 0, {"a": 1}, auto_scheduled=False), firing("resumed", 0, {"a": 1}, run_count=1),
        firing("of another pool", 0, {"a": 1}, work_pool_name="theirs"),
    ]  # fmt: skip
    states: dict[str, State] = {}
    names = {run.id: run.name for run in runs}
    client: Any = SimpleNamespace(
        read_flow_runs=lambda offset, **_: runs[offset:],
        set_flow_run_state=lambda run, state, **_: states.update({names[run]: state}),
    )
    collapse(client)
    assert states.keys() == {"first", "second"}
    for state in states.values():
        assert (state.type, state.name) == (StateType.CANCELLED, "Skipped")
        assert "2026-01-07 03:00" in str(state.message)
