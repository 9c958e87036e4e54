"""Commands and stages in processes of their own that need not import what they need: they are forked from a server that
has done so, as the flow's runner starts stages.

A command's own server of stages is forked from the command for the same reason. Whatever starts a new interpreter, as
multiprocessing does for that server, would take some seconds of processor time for torch alone.
"""

import atexit
import contextlib
import ctypes
import functools
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.util
import os
import sys
import threading
import zlib
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from paced_deployments import cli


@functools.cache
def server() -> ForkServerContext:
    """The server of this test process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["loaded"])
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))  # which the server itself does not heed
    multiprocessing.forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)
    return context


def forked(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a function in a process of its own."""
    from paced_tasks.runner import detached  # and Prefect with it, which most tests need not load

    with detached():
        process = server().Process(target=target, args=arguments)
        process.start()
    return process


def mark(home: Path | str) -> str:
    """The name of the commands that are forked for a home; their stages have a letter more."""
    return f"p{zlib.crc32(str(home).encode()):08x}"


def named(name: str) -> None:
    """Name this process: in /proc, where there is one, a fork has the environment of what it was forked from."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(15, name.encode())  # PR_SET_NAME


def obey(arguments: tuple[str, ...], env: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    """Be a ``paced`` command, as a shell starts it, and so is the server that its stages are forked from."""
    os.setsid()
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = ["paced", *arguments]
    named(mark(env["PACED_HOME"]))

    def fork(_path: str, words: list[str | bytes], descriptors: list[int]) -> int:
        if not (process := os.fork()):
            named(mark(env["PACED_HOME"]) + "s")
            for number in {int(n) for n in os.listdir("/dev/fd")} - {0, 1, 2, *descriptors}:
                with contextlib.suppress(OSError):
                    os.close(number)
            try:
                exec(os.fsdecode(words[-1]), {})  # noqa: S102 (what multiprocessing gives to an interpreter of its own)
            finally:
                os._exit(0)
        return process

    own, multiprocessing.util.spawnv_passfds = multiprocessing.util.spawnv_passfds, fork
    multiprocessing.forkserver.set_forkserver_preload([])
    multiprocessing.forkserver.ensure_running()
    multiprocessing.util.spawnv_passfds = own
    status = cli.main()
    threading._shutdown()  # what an interpreter does at its end, and a process of multiprocessing does not
    atexit._run_exitfuncs()
    sys.exit(status)
