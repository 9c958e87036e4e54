"""``python -m paced STAGE --spec spec.json``: run one stage; see paced/stage.py for what it prints."""

import argparse
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from paced.errors import PacedError, UnforeseenError, explained
from paced.events import Listener
from paced.stage import STAGES, Spec, emit, execute


def guarded(program: Callable[[], object], tell: Listener) -> int:
    """Run something; an error becomes the last event told.

    Returns:
        the exit status: 0, 1 on an error that ``tell`` was told of, 130 when stopped.
    """

    def fail(kind: str, message: str, status: int = 1) -> int:
        tell({"event": "error", "type": kind, "message": message})
        return status

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        program()
    except KeyboardInterrupt:
        return fail("Stopped", "stopped; the same command resumes from what is committed", 130)
    except Exception as error:
        found = explained(error)
        if isinstance(found, UnforeseenError):
            traceback.print_exc()
        return fail(type(found).__name__, str(found))
    return 0


def run(read: Callable[[], str], tell: Listener) -> int:
    """Run the stage of a spec in this process; the last event told is ``done`` or ``error``.

    Args:
        read: gives the spec as JSON.
    """
    return guarded(lambda: execute(Spec.model_validate_json(read()), tell), tell)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m paced", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--spec", type=Path, required=True, help="JSON file: stage, home, config, inputs, runtime")
    arguments = parser.parse_args()

    def read() -> str:
        try:
            text = arguments.spec.read_text()
        except OSError as error:
            raise PacedError(f"spec {arguments.spec} cannot be read: {error.strerror}") from None
        if f'"stage":"{arguments.stage}"' not in "".join(text.split()):
            raise PacedError(f"{arguments.spec} is not a spec of stage {arguments.stage}")
        return text

    return run(read, emit)


if __name__ == "__main__":
    sys.exit(main())
