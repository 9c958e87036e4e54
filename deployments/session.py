"""The surroundings of a flow that is run from the terminal: Prefect's API, what is shown, what Ctrl-C does."""

import contextlib
import signal
from collections.abc import Generator
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

    from paced_tasks.console import display
    from paced_tasks.runner import stop_all

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        display.say("stopping; what is committed is kept ...")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop_all()

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    display.start()
    try:
        if wait:
            wait()
        yield own_prefect
    finally:
        display.stop()
