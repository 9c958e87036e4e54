"""``python -m paced STAGE --spec spec.json``: run one stage; see paced/stage.py for what it prints."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pydantic import ValidationError

from paced.errors import PacedError, explained, one_line
from paced.events import Listener
from paced.stage import STAGES, Spec, emit, execute


def guarded(program: Callable[[], object], tell: Listener) -> int:
    """Run something; an error becomes the last event told.

    Returns:
        the exit status: 0, 1 on an error that ``tell`` was told of, 130 when stopped.
    """

    def fail(kind: str, message: str, status: int = 1) -> int:
        tell({"event": "error", "type": kind, "message": one_line(message)})
        return status

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        program()
    except PacedError as error:
        return fail(type(error).__name__, str(error))
    except ValidationError as error:
        first = error.errors()[0]
        return fail("ConfigError", f"spec: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    except KeyboardInterrupt:
        return fail("Stopped", "stopped; the same command resumes from what is committed", 130)
    except MemoryError:
        return fail("EngineError", "out of memory: lower runtime.sample_rows or training.micro_batch_tokens")
    except Exception as error:
        if told := explained(error):
            return fail("EngineError", str(told))
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            return fail(
                "EngineError",
                "out of device memory: lower training.micro_batch_tokens or set training.gradient_checkpointing "
                "('paced plan' says what each stage needs)",
            )
        raise
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
