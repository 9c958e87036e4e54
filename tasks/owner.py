"""Which process executes a flow run, as a label that anyone can check after the process has died without a word."""

import os
import socket

import psutil
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

LABEL = "paced.process"


def claim() -> None:
    """Label the running flow run with this process: host, number, and the second it was created in.

    What a flow does first: hashing models takes minutes, and a run that is not labelled soon is taken for dead.
    """
    context = FlowRunContext.get()
    if context and context.flow_run:
        me = f"{socket.gethostname()}:{os.getpid()}:{created(os.getpid())}"
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(context.flow_run.id, {LABEL: me})


def lost(label: str) -> bool | None:
    """Whether a labelled process is gone, if this host can know; another with its number does not count."""
    host, pid, second = label.rsplit(":", 2)
    return created(int(pid)) != int(second) if host == socket.gethostname() else None


def created(pid: int) -> int | None:
    """The second in which a process was created, if it is there."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time())
    except psutil.Error:
        return None
