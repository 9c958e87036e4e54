"""The surroundings of a flow that is run from the terminal: Prefect's API, what is shown, what Ctrl-C does."""

import contextlib
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType

from paced_deployments import environment


@contextlib.contextmanager
def session(home: Path) -> Generator[bool]:
    """Run flows inside; import them there, too: Prefect takes its settings when it is imported.

    A platform that runs in this home is used, else the user's own Prefect, else an embedded one.

    Yields:
        whether Prefect is the embedded one.
    """
    from paced_deployments import embedded, platform

    platform.join(home)
    own_prefect = environment.apply(home)

    wait = embedded.start(home / "prefect" / "server.log") if own_prefect else None

    with at_terminal():
        if wait:
            wait()
        yield own_prefect


@contextlib.contextmanager
def at_terminal(stopped: Callable[[], None] = lambda: None) -> Generator[None]:
    """Show what the stages inside say; Ctrl-C stops them, and calls ``stopped``."""
    from paced_tasks.console import display
    from paced_tasks.runner import stop_all

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        display.say("stopping; what is committed is kept ...")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop_all()
        stopped()

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    display.start()
    try:
        yield
    finally:
        display.stop()
