"""What runs in a stage's process: the stage, with its events sent through a pipe."""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from paced.__main__ import run
from paced.events import StageEvent


class Warnings(logging.Handler):
    """Sends what modules of paced warn of where the stage's events go."""

    def __init__(self, tell: Callable[[StageEvent], None]):
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell({"event": "warning", "message": record.getMessage()})


def work(spec: str, events: "Connection[Any, Any]", alive: "Connection[Any, Any]", log: str) -> None:
    """Run one stage; standard output and standard error go to ``log``.

    Args:
        spec: the stage's spec as JSON.
        events: takes each event as JSON.
        alive: closes when the supervising process dies, and then this one ends too.
    """
    os.setsid()  # a group of its own: whatever the stage starts can be ended with it
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115

    def watch() -> None:
        alive.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    turn = threading.Lock()

    def tell(event: StageEvent) -> None:
        with turn:  # a warning may come from any thread
            events.send_bytes(json.dumps(event).encode())

    logging.getLogger("paced").addHandler(Warnings(tell))
    status = run(lambda: spec, tell)
    events.close()
    sys.stdout.flush()
    os._exit(status)  # no clean-up of libraries, which can hang
