"""``python -m paced STAGE --spec spec.json``: run one stage; see paced/stage.py for what it prints."""

import argparse
import errno
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pydantic import ValidationError

from paced.errors import ConfigError, EngineError, PacedError, TransientError, UnforeseenError
from paced.events import Listener
from paced.stage import STAGES, Spec, emit, execute
from paced.storage.artifacts import disk_is_full


def guarded(program: Callable[[], object], tell: Listener) -> int:
    """Run something; an error becomes the last event told.

    Returns:
        the exit status: 0, 1 on an error that ``tell`` was told of, 130 when stopped.
    """

    def fail(kind: str, message: str, status: int = 1) -> int:
        tell({"event": "error", "type": kind, "message": " ".join(message.split())})
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


def explained(error: Exception) -> PacedError:
    """Any exception as an error of ours: one line, and whether waiting can mend it."""
    match error:
        case PacedError():
            return error
        case ValidationError():
            first = error.errors()[0]
            return ConfigError(f"spec: {'.'.join(map(str, first['loc']))}: {first['msg']}")
        case MemoryError():
            return EngineError("out of memory: lower runtime.sample_rows or training.micro_batch_tokens")
        case _ if disk_is_full(error):
            return EngineError("the disk is full: free some space, then run the same command again")
        case _ if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            return EngineError(
                "out of device memory: lower training.micro_batch_tokens or set training.gradient_checkpointing "
                "('paced plan' says what each stage needs)"
            )
        case _:
            words = f"{type(error).__name__}: {' '.join(str(error).split())[:300] or 'no message'}"
            return TransientError(words) if passes(error) else UnforeseenError(words)


def passes(error: BaseException) -> bool:
    """Whether a lost connection or a busy device lies behind an error: libraries wrap these in errors of their own."""
    behind = error.__cause__ or error.__context__
    busy = isinstance(error, OSError) and error.errno in (errno.EBUSY, errno.EAGAIN)
    busy = busy or "busy or unavailable" in str(error)  # CUDA's words, whatever torch's class for them is
    lost = isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
    return busy or lost or (behind is not None and passes(behind))


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
