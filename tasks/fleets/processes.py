"""Copies that are processes of this host, or that a process of this host stands for."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from paced_tasks.fleets.base import CopyState

GRACE = 6.0  # seconds to end politely


class Launch(NamedTuple):
    """What starts a copy, and what it has in its environment besides this process's."""

    words: Sequence[str]
    environment: Mapping[str, str] = {}


class Processes:
    """A process each, in a session of its own, so that a terminal's Ctrl-C reaches none of them by itself."""

    def __init__(self, copies: Sequence[Launch], logs: Path):
        self._copies, self._logs = copies, logs
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._refused: dict[int, CopyState] = {}

    def start(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        for index, copy in enumerate(self._copies):
            try:
                with (self._logs / f"{index}.log").open("ab") as log:
                    self._processes[index] = subprocess.Popen(
                        copy.words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                        env={**os.environ, **copy.environment},
                    )  # fmt: skip
            except OSError as error:
                self._refused[index] = CopyState(False, f"could not be started ({error})")

    def look(self) -> dict[int, CopyState]:
        return self._refused | {index: self._state(index, process) for index, process in self._processes.items()}

    def _state(self, index: int, process: "subprocess.Popen[bytes]") -> CopyState:
        status = process.poll()
        if status is None:
            return CopyState(True)
        if status == 0:
            return CopyState(False)
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return CopyState(False, f"{how}, see {self._logs / f'{index}.log'}")

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._processes.values():
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, number)
            deadline = time.monotonic() + GRACE
            while time.monotonic() < deadline and any(p.poll() is None for p in self._processes.values()):
                time.sleep(0.05)
