"""Which process executes a flow run, as a label that anyone can check after the process has died without a word."""

import os
import socket
from pathlib import Path

import psutil
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

LABEL = "paced.process"
BOOT = Path("/proc/sys/kernel/random/boot_id")  # of Linux


def claim() -> None:
    """Label the running flow run with this process: host, number, and when it was created.

    What a flow does first: hashing models takes minutes, and a run that is not labelled soon is taken for dead.
    """
    context = FlowRunContext.get()
    if context and context.flow_run:
        me = f"{socket.gethostname()}:{os.getpid()}:{created(os.getpid())}"
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(context.flow_run.id, {LABEL: me})


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
