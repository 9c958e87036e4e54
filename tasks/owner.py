"""Which process executes a flow run, as a label that anyone can check after the process has died without a word."""

import os
import socket
import time
from pathlib import Path

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from paced_tasks.who import submitter, worker

LABEL = "paced.process"
SINCE = "paced.process.since"  # when the label was given, in seconds since 1970
PATIENCE = 5.0  # seconds for the server to say whether a run was cancelled
BOOT = Path("/proc/sys/kernel/random/boot_id")  # of Linux


def claim() -> None:
    """Label the running flow run with this process: host, number, and when it was created; tag it with who has started
    it and as whom it runs.

    What a flow does first: hashing models takes minutes, and a run that is not labelled soon is taken for dead.
    """
    context = FlowRunContext.get()
    if context and context.flow_run:
        me = f"{socket.gethostname()}:{os.getpid()}:{created(os.getpid())}"
        names = [f"by:{known}"] if (known := submitter()) else []
        tags = {*context.flow_run.tags, *names, f"as:{worker()}"}  # which a list of runs shows, and can be asked for
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(context.flow_run.id, {LABEL: me, SINCE: time.time()})
            client.update_flow_run(context.flow_run.id, tags=sorted(tags))


def gone(run: FlowRun) -> bool | None:
    """Whether the process of a run is gone, if this host can know.

    A run that is resumed or tried again has the label of its process before, until the new one gives its own.
    """
    label, since = run.labels.get(LABEL), run.labels.get(SINCE)
    if not isinstance(label, str) or run.state is None:
        return None
    found = lost(label)
    begins = run.state.type in (StateType.PENDING, StateType.RUNNING)
    before = begins and isinstance(since, float) and since < run.state.timestamp.timestamp()
    return None if found and before else found


def lost(label: str) -> bool | None:
    """Whether a labelled process is gone, if this host can know; another with its number does not count."""
    host, pid, birth = label.rsplit(":", 2)
    return created(int(pid)) != birth if host == socket.gethostname() else None


def created(pid: int) -> str | None:
    """When a process was created, if it is there: on Linux by the boot and the kernel's ticks since, which stay what
    they are when the clock is set; the second of the clock is all that others tell.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if not BOOT.exists():
            return str(int(process.create_time()))
        # Field 22, counted from behind the program's name, which may hold spaces and brackets.
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{BOOT.read_text().strip()}.{ticks}"
    except (psutil.Error, OSError):
        return None


def cancelled() -> bool:
    """Whether the flow run of this process was cancelled, as far as the server says at once."""
    context = FlowRunContext.get()
    if not context or not context.flow_run:
        return False
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": PATIENCE}) as client,
        ):
            state = client.read_flow_run(context.flow_run.id).state
    except Exception:  # whatever the server does: nobody can wait for it now
        return False
    return state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED)
