"""Who has started a run, and who it runs as, as far as anybody can know."""

import getpass
import os
import socket

from prefect.context import FlowRunContext

SUBMITTER = "paced.submitter"  # a label that the server gives a run that was started through a proxy with users
SCHEDULE = "schedule"


def worker() -> str:
    """The user of this process, and the host."""
    return f"{user()}@{socket.gethostname()}"


def submitter() -> str:
    """Who has started the running flow run: the user of the command, or of the page, or a schedule; "" if unknown.

    Prefect's pages know no users: only a proxy before them does, and the server takes the name from it.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return user()
    if run.auto_scheduled:
        return SCHEDULE
    return str(run.labels.get(SUBMITTER, ""))


def user() -> str:
    """The user of this process; in a container without an entry for it the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
