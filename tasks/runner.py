"""Runs a stage in a process of its own: what it says is passed on, and it never outlives or blocks its parent.

A process holds model weights, so memory comes back when it ends and an out-of-memory kill harms nothing else. Processes
are forked from a server that has torch and transformers imported already, which saves each of them several seconds.
They lease the device first (tasks/lease.py).
"""

import collections
import contextlib
import functools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Generator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from paced.errors import (
    ERRORS,
    EngineError,
    PacedError,
    Stopped,
    TransientError,
    UnforeseenError,
    drop_unread,
    explained,
)
from paced.events import DoneEvent, ErrorEvent, Listener, StageEvent
from paced.stage import STAGES, Spec, execute
from paced.storage.artifacts import Ref
from paced_tasks.lease import locks, take
from paced_tasks.memory import Watch
from paced_tasks.worker import work

# Signals of a process's own fault, which it would meet again; others come from outside, as when memory is short.
CRASHES = {
    signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP
}  # fmt: skip

_running: set[ForkServerProcess] = set()
_lock = threading.Lock()
_stopping = threading.Event()


@functools.cache
def server() -> ForkServerContext:
    """The server that stage processes are forked from; it ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["paced_tasks.worker", *(s.program.partition(":")[0] for s in STAGES.values())])
    return context


@contextlib.contextmanager
def detached() -> Generator[None]:
    """Start processes that need nothing of this one's main program: without this they would import it once more."""
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def stop_all(grace: float = 4.0) -> None:
    """Stop every stage of this process: politely, then for good; no stage starts after it."""
    _stopping.set()
    with _lock:
        processes = list(_running)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            end(process, number)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline and any(p.is_alive() for p in processes):
            time.sleep(0.05)


def stopping(within: float = 0.0) -> bool:
    """Whether this process was told to stop, or is so within some seconds."""
    return _stopping.wait(within)


def end(process: ForkServerProcess, number: int) -> None:
    """Signal a process and whatever it has started."""
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def turn(wanted: list[Path], places: int) -> Generator[None]:
    """Hold one of the places of each lock.

    Raises:
        Stopped: the run was stopped while it waited.
    """
    while not _stopping.is_set():
        if held := take(wanted, places):
            with held:
                yield
            return
        time.sleep(0.1)
    raise Stopped("stopped; the same command resumes from what is committed")


def run_stage(spec: Spec, log: Path, listen: Listener, leased: bool = True) -> Ref:
    """Run a stage and return its artifact; ``listen`` gets each event it emits, and what it raises ends the stage.

    A stage that holds no weights runs right here; it takes neither a device nor a process.

    Args:
        log: where the stage's standard output and error go.
        leased: take turns for the device with other processes of this host.

    Raises:
        PacedError: the stage's own typed error, one line; an ``UnforeseenError`` names the log.
        TransientError: something that waiting can mend, or it was killed.
        EngineError: it ended without a word otherwise.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if not STAGES[spec.stage].holds_weights:
        try:
            return execute(spec, listen)
        except Exception as error:
            found = explained(error)
            if isinstance(found, UnforeseenError):
                with log.open("a") as file:
                    traceback.print_exc(file=file)
            raise located(found, spec, log) from None
    with turn(locks(Path(spec.home), spec.runtime) if leased else [], spec.runtime.processes):
        receive, send = server().Pipe(duplex=False)
        alive, hold = server().Pipe(duplex=False)  # ``hold`` closes when this process dies
        process = server().Process(target=work, args=(spec.model_dump_json(), send, alive, str(log)), daemon=True)
        with _lock, detached():
            start(process)
            _running.add(process)
        send.close()
        alive.close()
        assert process.pid is not None
        watch = Watch(process.pid)
        try:
            listen({"event": "started"})
            with watch:
                last = follow(receive, listen)
                process.join()
        finally:
            end(process, signal.SIGKILL)
            process.join()
            hold.close()
            receive.close()
            with _lock:
                _running.discard(process)
    if last and last["event"] == "done":
        return Ref.model_validate(last["ref"])
    if _stopping.is_set():
        raise Stopped("stopped; the same command resumes from what is committed")
    if last and last["event"] == "error":
        raise located(ERRORS.get(last["type"], PacedError)(last["message"]), spec, log)
    if process.exitcode == -signal.SIGKILL and (verdict := watch.verdict(spec.stage)):
        raise verdict
    code = process.exitcode or 0
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    text = log.read_text(errors="replace") if log.exists() else ""
    tail = " | ".join(collections.deque(text.splitlines(), maxlen=3))
    kind = EngineError if code >= 0 or -code in CRASHES else TransientError
    raise kind(f"stage {spec.stage} died ({how}); last lines of {log}: {tail or 'none'}")


def located(error: PacedError, spec: Spec, log: Path) -> PacedError:
    """The error of a stage; of one that no check has foreseen, the line says where to look."""
    if not isinstance(error, UnforeseenError):
        return error
    return UnforeseenError(f"stage {spec.stage} failed ({error}); its traceback is in {log}")


def start(process: ForkServerProcess) -> None:
    """Start a process; a server of them that was killed meanwhile is started again, once.

    Raises:
        TransientError: it was killed again.
    """
    drop_unread()
    for _ in range(2):
        try:
            return process.start()
        except (EOFError, ConnectionError, FileNotFoundError):  # what a dead server answers
            time.sleep(0.2)
    raise TransientError(
        "the process that stages are started from was killed twice, as the kernel does when memory runs out: leave "
        "this host more, or lower runtime.processes"
    )


def follow(receive: "Connection[Any, Any]", listen: Listener) -> DoneEvent | ErrorEvent | None:
    """Pass events on until the process closes its end; returns the last ``done`` or ``error``."""
    last: DoneEvent | ErrorEvent | None = None
    while True:
        try:
            event: StageEvent = json.loads(receive.recv_bytes())  # recv() would unpickle
        except (EOFError, OSError):
            return last
        if event["event"] == "done" or event["event"] == "error":
            last = event
        listen(event)
