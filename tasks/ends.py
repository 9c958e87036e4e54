"""How a run's tracking ends when its flow run does, however it does.

Whoever works on a run holds a lock in its folder, which the kernel gives back when the process dies. A file ``open``
beside it says that MLflow may not have been told of every end. So whoever finds the file and gets the lock can close
the run: its own process as it ends, the worker every few seconds, the next run or ``paced mlflow-replay``.
"""

import contextlib
import fcntl
import time
from collections.abc import Generator
from pathlib import Path

from paced.stage import exclusive
from paced.storage.files import told_if_full
from paced.storage.housekeeping import held
from paced_tasks.journal import Journal, labels

OPEN, LOCK = "open", ".lock"
WATCHED = "PACED_WATCHED"  # in the environment of flow runs whose home a worker looks after
TRIES = 10
RESUMES = "from what is committed"
GONE = f"its process is gone; the same settings again go on {RESUMES}"


@contextlib.contextmanager
def at_work(folder: Path) -> Generator[None]:
    """Work on a run; others may work on the same one at once."""
    with contextlib.ExitStack() as stack:
        with told_if_full(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / LOCK).open("a"))
            fcntl.flock(lock, fcntl.LOCK_SH)
            (folder / OPEN).touch()
        yield


def close(folder: Path, status: str, reason: str) -> bool:
    """Note an end in each journal that has none, unless somebody works on the run; returns whether nobody does."""
    for _ in range(TRIES):  # who only looks whether somebody works on it has the lock for a moment
        try:
            with exclusive(folder / LOCK, wait=False):
                for label in labels(folder):
                    Journal(folder, label).close(status, reason)
            return True
        except BlockingIOError:
            time.sleep(0.05)
    return False


def told(folder: Path) -> None:
    """Note that MLflow knows all ends, unless somebody works on the run again."""
    with contextlib.suppress(BlockingIOError), exclusive(folder / LOCK, wait=False):
        if all(Journal(folder, label).ended() for label in labels(folder)):
            (folder / OPEN).unlink(missing_ok=True)


def worked_on(folder: Path) -> bool:
    """Whether somebody works on a run."""
    return held(folder / LOCK)


def left(home: Path) -> list[Path]:
    """The folders of the runs that nobody works on, of whose end MLflow may not have been told."""
    return [mark.parent for mark in sorted((home / "runs").glob(f"*/{OPEN}")) if not worked_on(mark.parent)]
