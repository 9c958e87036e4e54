"""A Prefect API for the time of one command, where PREFECT_API_URL names none.

Prefect's own temporary server is a child in the terminal's process group: Ctrl-C ends it before the flow can say how it
ended, and a killed command leaves it behind. This one has a session of its own and watches the pipe it is started with.
"""

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from paced.errors import EngineError
from paced.stage import exclusive
from paced.storage.files import no_room

PATIENCE = 120.0  # seconds for a first start on a busy machine, which creates the database
GRACE = 10.0  # seconds to write down what it has been told


def start(log: Path) -> Callable[[], None]:
    """Start the server and name it in PREFECT_API_URL; call before Prefect is imported, so that it is stopped after it.

    Returns:
        a function that waits until the server answers.
    """
    # One start at a time in a home: Prefect's servers would each create the same database.
    turn = contextlib.ExitStack()
    turn.enter_context(exclusive(log.with_suffix(".lock")))
    began = datetime.now(UTC).isoformat()
    # Bound and listening from the start: nobody else takes the port, and early requests only wait.
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("a") as output:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        process = subprocess.Popen(
            [sys.executable, "-m", "paced_deployments.embedded", str(listener.fileno())],
            stdin=subprocess.PIPE, stdout=output, stderr=output, pass_fds=[listener.fileno()], start_new_session=True,
        )  # fmt: skip

    def stop() -> None:
        with contextlib.suppress(OSError):
            deadline = time.monotonic() + GRACE
            while process.poll() is None and unsettled(url, began) and time.monotonic() < deadline:
                time.sleep(0.1)
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait() -> None:
        deadline = time.monotonic() + PATIENCE
        with turn:
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    with urllib.request.urlopen(url + "/health", timeout=5):
                        return
                except OSError:
                    time.sleep(0.1)
        failed = EngineError(f"the embedded Prefect server did not start, see {log}; or set PREFECT_API_URL")
        raise no_room(log.parent) or failed

    atexit.register(stop)
    os.environ["PREFECT_API_URL"] = url
    # Where its pages will be once ``prefect server start`` is run on the same database, for links.
    os.environ.setdefault("PREFECT_UI_URL", "http://127.0.0.1:4200")
    return wait


def unsettled(url: str, since: str) -> int:
    """How many stages of completed flow runs the server still holds for unfinished.

    Task states reach it as events that it writes down seconds later, and ending it loses those.
    """
    started = {"start_time": {"after_": since}, "state": {"type": {"any_": ["COMPLETED"]}}}
    open_ = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
    question = json.dumps({"flow_runs": started, "task_runs": open_}).encode()
    request = urllib.request.Request(url + "/task_runs/count", question, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return int(answer.read())


def main(descriptor: int) -> None:
    """Serve on an open socket until told to stop or until the command at the other end of standard input has died."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    os.environ.pop("PREFECT_API_URL", None)  # its own address
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.server.database import provide_database_interface

    from paced_deployments.hosts import OwnNames, allowed
    from paced_deployments.prefect_server import take_turns

    take_turns()
    # Every statement goes to another thread and back. On one CPU that is cheap; across two, making the database took
    # 28 s instead of 6 on a virtual machine (docs/log.md).
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    if cpus:
        os.sched_setaffinity(0, {min(cpus)})
    asyncio.run(provide_database_interface().create_db())
    if cpus:
        os.sched_setaffinity(0, cpus)
    app = OwnNames(create_app(ephemeral=True, final=True), allowed())
    config = uvicorn.Config(app, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(int(sys.argv[1]))
