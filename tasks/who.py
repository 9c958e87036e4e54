"""Who has started a run, and who it runs as, as far as anybody can know."""

import getpass
import os
import socket
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

SUBMITTER = "paced.submitter"  # a label that the server gives a run that was started through a proxy with users
SCHEDULE = "schedule"
OUTERMOST = "PREFECT__FLOW_RUN_ID"  # in the environment of a process that a worker has started: the run it is for


def worker() -> str:
    """The user of this process, and the host."""
    return f"{user()}@{socket.gethostname()}"


def submitter() -> str:
    """Who has started the running flow run: the user of the command, or of the page, or a schedule; "" if unknown.

    Prefect's pages know no users: only a proxy before them does, and the server takes the name from it. What a run
    starts itself is by whoever has started that.
    """
    context, outermost = FlowRunContext.get(), os.environ.get(OUTERMOST)
    run = context.flow_run if context else None
    if run is None or outermost is None:
        return user()
    if run.id != UUID(outermost):
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(outermost))
    return SCHEDULE if run.auto_scheduled else str(run.labels.get(SUBMITTER, ""))


def user() -> str:
    """The user of this process; in a container without an entry for it the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
