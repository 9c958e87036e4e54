"""``python -m paced STAGE --spec spec.json``: run one stage; see paced/stage.py for what it prints."""

import argparse
import errno
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pydantic import ValidationError

from paced.errors import PacedError
from paced.stage import STAGES, Spec, emit, execute


def fail(kind: str, message: str) -> int:
    emit({"event": "error", "type": kind, "message": " ".join(message.split())})
    return 1


def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def watch_parent() -> None:
    """End this process when standard input closes, which is when the process that supervises it dies."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m paced", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--spec", type=Path, required=True, help="JSON file: stage, home, config, inputs, runtime")
    parser.add_argument("--supervised", action="store_true", help="end when standard input closes")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    if arguments.supervised:
        watch_parent()
    try:
        spec = Spec.model_validate_json(arguments.spec.read_text())
        if spec.stage != arguments.stage:
            return fail("ConfigError", f"{arguments.spec} is a spec of stage {spec.stage}, not {arguments.stage}")
        execute(spec)
    except PacedError as error:
        return fail(type(error).__name__, str(error))
    except ValidationError as error:
        first = error.errors()[0]
        return fail("ConfigError", f"{arguments.spec}: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    except KeyboardInterrupt:
        emit({"event": "error", "type": "Interrupted", "message": "stopped; the same command resumes"})
        return 130
    except MemoryError:
        return fail("EngineError", "out of memory: lower runtime.sample_rows or training.micro_batch_tokens")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return fail("EngineError", "the disk is full: free some space, then run the same command again")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
