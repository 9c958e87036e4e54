"""The command ``paced``. Parses and checks first; Prefect, MLflow and torch are imported only when they are needed."""

import argparse
import contextlib
import signal
import sys
from typing import IO, Any, cast

import paced
from paced.config import home
from paced.errors import PacedError, Stopped, UnforeseenError, drop_unread, explained, visible
from paced.storage.files import no_room
from paced_deployments.commands import before, cache, retraining, runs, services, studies

UNREAD = 128 + signal.SIGPIPE  # the exit status of a command whose output nobody reads any more


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
        prog="paced", description="Pass-rate-weighted distillation of language models (arXiv 2603.11178)."
    )
    top.add_argument("--version", action="version", version=f"paced {paced.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (runs, studies, before, services, cache, retraining):
        module.add_commands(commands)
    return top


def main() -> int:
    arguments = parser().parse_args()
    with contextlib.redirect_stdout(cast(IO[str], Visible(sys.stdout))):
        status = obeyed(arguments)
        return UNREAD if drop_unread() else status


class Visible:
    """A text stream on which no control character of a name or of data reaches the terminal."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(visible(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def obeyed(arguments: argparse.Namespace) -> int:
    """Do what a command says; whatever goes wrong outside of this program is told in one line.

    Returns:
        the exit status.
    """
    try:
        return arguments.do(arguments)
    except Stopped:
        print("stopped: the same command goes on from what is committed", file=sys.stderr)
        return 130
    except PacedError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        return fail("out of memory: leave this host more, or ask for less at once")
    except Exception as error:
        if drop_unread():
            return UNREAD
        told = explained(error)
        if not isinstance(told, UnforeseenError):
            return fail(told)
        if full := no_room(home()):  # a server that cannot write fails in ways of its own
            return fail(full)
        raise


def fail(error: object) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
