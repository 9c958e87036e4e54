"""Bytes that are read are compared with the digest recorded for them, and nothing is committed before they were.

Small files are compared before they are opened. Weights are compared in a thread while they are loaded, which costs no
time where a core is idle; every record that makes something count (paced/storage/files.py) first waits for that.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextvars import ContextVar
from pathlib import Path

from paced.errors import CacheError, DataError
from paced.storage.identity import known_digest, stamp

WAY_OUT = "run 'paced cache verify --delete', then the same command again: only what was lost is computed anew"

_going_on: ContextVar[dict[str, "Future[None]"] | None] = ContextVar("_going_on", default=None)


@contextlib.contextmanager
def comparing() -> Generator[None]:
    """Comparisons begun inside concern what is committed inside, and nothing else that this process does.

    Outside, where nothing is committed, each is made at once.
    """
    token = _going_on.set({})
    try:
        yield
    finally:
        _going_on.reset(token)


def check_file(path: Path, recorded: str) -> None:
    """Compare a file with its recorded digest, once a process as long as it is not written.

    Raises:
        CacheError: the file is gone or its bytes are others.
    """
    try:
        found = known_digest(path, recorded.partition(":")[0])
    except (FileNotFoundError, NotADirectoryError):
        raise CacheError(f"{path} is missing although its manifest lists it: {WAY_OUT}") from None
    if found != recorded:
        raise CacheError(f"{path} is damaged (its digest differs from the recorded one): {WAY_OUT}")


def check_meanwhile(files: Iterable[tuple[Path, str]]) -> None:
    """Compare files with their digests in a thread, while they are read; ``settle`` waits for it."""
    for path, recorded in files:
        _begin(f"{path} {recorded}", functools.partial(check_file, path, recorded))


def check_source(path: Path, files: Iterable[Path], identity: Callable[[], str], expected: str) -> None:
    """The same of data or a model that a user keeps: its identity is what it was when the run began, and stays.

    Args:
        files: what the identity is made of.
        identity: computes it from the bytes.
    """
    try:
        stamps = {file: stamp(file) for file in files}
    except OSError:
        return  # who reads it says what is wrong

    def compare() -> None:
        try:
            same = identity() == expected and all(stamp(file) == before for file, before in stamps.items())
        except (OSError, DataError):
            same = False
        if not same:
            raise DataError(
                f"{path} changed while the run went on: leave it as it is until the run has read it, and run the same "
                "command again"
            )

    _begin(f"{path} {expected}", compare)


def _begin(key: str, compare: Callable[[], None]) -> None:
    going_on = _going_on.get()
    if going_on is None:
        return compare()
    if (earlier := going_on.get(key)) and not earlier.done():
        return
    future = Future[None]()

    def work() -> None:
        try:
            compare()
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)

    going_on[key] = future
    threading.Thread(target=work, daemon=True).start()


def settle() -> None:
    """Wait for every comparison that is going on.

    Raises:
        CacheError: stored bytes are damaged.
        DataError: data or a model changed while it was read.
    """
    going_on = _going_on.get() or {}
    for key, future in list(going_on.items()):
        future.result()  # one that failed stays, so that nothing is committed after it either
        if going_on.get(key) is future:
            del going_on[key]
