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
RESTARTS = 5  # of a server that has answered and then died


def start(log: Path) -> Callable[[], None]:
    """Start the server and name it in PREFECT_API_URL; call before Prefect is imported, so that it is stopped after it.

    Returns:
        a function that waits until the server answers.
    """
    # One start at a time in a home: Prefect's servers would each create the same database.
    turn = contextlib.ExitStack()
    turn.enter_context(exclusive(log.with_suffix(".lock")))
    began = datetime.now(UTC).isoformat()
    server = Embedded(log)

    def wait() -> None:
        with turn:
            server.wait()

    atexit.register(server.stop, began)
    os.environ["PREFECT_API_URL"] = server.url
    # Where its pages will be once ``prefect server start`` is run on the same database, for links.
    os.environ.setdefault("PREFECT_UI_URL", "http://127.0.0.1:4200")
    return wait


class Embedded:
    """The server's process, and another in its place when it has died: Prefect's client would try each of its requests
    again for a minute, and a command that everything is computed for would take longer to end than it took to run.

    The socket is this process's own and listens from the start: nobody else takes the port, and what is asked while no
    server is there waits.
    """

    def __init__(self, log: Path):
        self._log = log
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"
        self._stopping = threading.Event()
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        number = self._listener.fileno()
        with self._log.open("a") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "paced_deployments.embedded", str(number)],
                stdin=subprocess.PIPE, stdout=output, stderr=output, pass_fds=[number], start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Wait until it answers; from then on it is started again when it dies.

        Raises:
            EngineError: it does not start.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self.url + "/health", timeout=5):
                    threading.Thread(target=self._keep, daemon=True).start()
                    return
            except OSError:
                time.sleep(0.1)
        self._listener.close()
        failed = EngineError(f"the embedded Prefect server did not start, see {self._log}; or set PREFECT_API_URL")
        raise no_room(self._log.parent) or failed

    def _keep(self) -> None:
        for _ in range(RESTARTS):
            self._process.wait()
            if self._stopping.is_set():
                return
            self._process = self._started()
        self._process.wait()
        self._listener.close()  # what is asked from now on is refused at once

    def stop(self, since: str) -> None:
        """End it, once it has written down what it was told since a time (ISO 8601)."""
        with contextlib.suppress(OSError):
            deadline = time.monotonic() + GRACE
            while self._process.poll() is None and unsettled(self.url, since) and time.monotonic() < deadline:
                time.sleep(0.1)
        self._stopping.set()
        self._process.terminate()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


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
