"""Runs a stage in a process of its own: what it says is passed on, and it never outlives or blocks its parent.

A process holds model weights, so memory comes back when it ends and an out-of-memory kill harms nothing else. Processes
take a slot of the host first: a slot is a file lock, which the kernel frees when its holder dies, however it dies.
"""

import collections
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paced.artifacts import Ref
from paced.errors import ERRORS, PacedError
from paced.stage import STAGES, Listener, Spec, execute
from tasks.policies import StageDied

_running: dict[int, subprocess.Popen[str]] = {}
_lock = threading.Lock()
_stopping = threading.Event()


class Stopped(PacedError):
    """The run was told to stop; what was committed stays."""


def stop_all(grace: float = 8.0) -> None:
    """Stop every stage of this process: politely, then for good; no stage starts after it."""
    _stopping.set()
    with _lock:
        processes = list(_running.values())
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline and any(p.poll() is None for p in processes):
            time.sleep(0.05)


@contextlib.contextmanager
def slot(home: Path, count: int) -> Iterator[None]:
    """Hold one of ``count`` slots of the host."""
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / f"slot-{i}").open("w")) for i in range(count)]
        while True:
            for file in files:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield
                    return
            if _stopping.is_set():
                raise Stopped("stopped")
            time.sleep(0.1)


def environment(spec: Spec) -> dict[str, str]:
    """The stage's environment: thread count, and no library that asks the network or prints bars of its own."""
    threads = {"OMP_NUM_THREADS": str(spec.runtime.threads)} if spec.runtime.threads else {}
    return os.environ | threads | {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def run_stage(spec: Spec, log: Path, listen: Listener) -> Ref:
    """Run a stage and return its artifact; ``listen`` gets each event it emits.

    A stage that holds no weights runs right here; it takes neither a slot nor the seconds a process needs to start.

    Args:
        log: where the stage's standard error goes.

    Raises:
        PacedError: the stage's own typed error, one line.
        StageDied: it ended without one.
    """
    if not STAGES[spec.stage].holds_weights:
        return execute(spec, listen)
    with slot(Path(spec.home), spec.runtime.processes), tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        if _stopping.is_set():
            raise Stopped("stopped")
        file.write(spec.model_dump_json())
        file.flush()
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "paced", spec.stage, "--spec", file.name, "--supervised"]
        with log.open("a") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # closes when this process dies, and then the stage ends
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                env=environment(spec),
            )
        with _lock:
            _running[process.pid] = process
        listen({"event": "started"})
        try:
            last = _follow(process, listen)
        finally:
            with _lock:
                _running.pop(process.pid, None)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever the stage itself started
            process.wait()
    if process.returncode == 0 and last.get("event") == "done":
        return Ref.model_validate(last["ref"])
    if _stopping.is_set():
        raise Stopped("stopped; the same command resumes from what is committed")
    if last.get("event") == "error":
        raise ERRORS.get(last["type"], Stopped)(last["message"])
    how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit status {process.returncode}"
    tail = " | ".join(collections.deque(log.read_text(errors="replace").splitlines(), maxlen=3))
    raise StageDied(f"stage {spec.stage} died ({how}); last lines of {log}: {tail or 'none'}")


def _follow(process: subprocess.Popen[str], listen: Listener) -> dict[str, Any]:
    """Pass events on until the process closes its output; returns the last ``done`` or ``error``."""
    last: dict[str, Any] = {}
    assert process.stdout is not None
    for line in process.stdout:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, KeyError, TypeError):
            continue  # a library that prints to standard output
        if kind in ("done", "error"):
            last = event
        listen(event)
    process.wait()
    return last
