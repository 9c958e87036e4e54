"""The errors a user can cause. Each message is one line: what is wrong, where, what to do."""

import errno
import os
import re
import socket
import sys

from pydantic import ValidationError

LONGEST = 500  # characters of a message
# Numbers of the operating system's errors, in the texts of libraries that raise none of Python's.
NUMBER = re.compile(r"\b(?:os error|errno) (\d+)|Os \{ code: (\d+)", re.IGNORECASE)
SQLITE = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EROFS, "SQLITE_CANTOPEN": errno.EACCES}
AGAIN = "then run the same command again; what was committed is kept"


def drop_unread() -> bool:
    """Let output go nowhere from now on whose reader has gone, as a worker that was killed or ``head`` that has enough.

    Both streams are flushed before a process is started, and what waits there to be written would make that fail.

    Returns:
        whether there was such output.
    """
    dropped = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
            dropped = True
        except (AttributeError, ValueError):  # there is none, or it is closed
            continue
    return dropped


def visible(text: str) -> str:
    """A text in which what is no printable character, such as one that a terminal obeys, is written as its code."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """A text as one line that a terminal can show, its middle left out if it is long: the way out stands at its end."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2 - 5]} ... {line[-LONGEST // 2 :]}"


class PacedError(Exception):
    """Base of every error that is reported as one line instead of a traceback.

    Whatever it quotes from files and options, it is one line that any terminal can show (``one_line``).
    """

    def __init__(self, message: str = ""):
        super().__init__(one_line(message))


class ConfigError(PacedError):
    """A recipe or an option is wrong; names the field path."""


class DataError(PacedError):
    """A data file, a model folder or the content of either is unusable; names the file and the line."""


class NothingToLearn(DataError):
    """Every weight is zero: the student solves all of the problems, or none."""


class VerifierError(PacedError):
    """A verifier rejects what it must accept, or cannot run."""


class CacheError(PacedError):
    """A stored artifact or part is damaged, of another schema, or made by another tokenizer."""


class EngineError(PacedError):
    """Sampling or training failed while running: memory, disk, non-finite numbers, a process that died."""


class TransientError(EngineError):
    """What waiting can mend: a process was killed, a connection lost, a device busy. A stage is then tried again."""


class UnforeseenError(PacedError):
    """A fault that no check has foreseen; its traceback is in the log of the stage."""


class Stopped(PacedError):
    """The run was told to stop; what was committed stays."""


_ALL = (
    PacedError, ConfigError, DataError, NothingToLearn, VerifierError, CacheError, EngineError, TransientError,
    UnforeseenError, Stopped,
)  # fmt: skip
ERRORS: dict[str, type[PacedError]] = {error.__name__: error for error in _ALL}


def number_of(error: BaseException) -> int | None:
    """The number of the operating system's error behind an error, if there is one, whichever library raised it."""
    sqlite = getattr(error, "sqlite_errorname", None) or getattr(error.__cause__, "sqlite_errorname", None)
    if sqlite:
        return SQLITE.get(str(sqlite), errno.EIO if str(sqlite).startswith("SQLITE_IOERR") else None)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = NUMBER.search(str(error))
    return int(found[1] or found[2]) if found else None


def disk_is_full(error: BaseException) -> bool:
    """Whether an error comes from a disk or a quota without room, for bytes or for files."""
    return number_of(error) in (errno.ENOSPC, errno.EDQUOT)


def explained(error: Exception, place: object = "") -> PacedError:
    """Any exception as an error of ours: one line, and whether waiting can mend it.

    Args:
        place: what was being done, if the operating system has refused it and the error does not name a file.
    """
    match error:
        case PacedError():
            return error
        case ValidationError():
            first = error.errors()[0]
            return ConfigError(f"spec: {'.'.join(map(str, first['loc']))}: {first['msg']}")
        case MemoryError():
            return EngineError("out of memory: lower runtime.sample_rows or training.micro_batch_tokens")
        case _ if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            return EngineError(
                "out of device memory: lower training.micro_batch_tokens or set training.gradient_checkpointing "
                "('paced plan' says what each stage needs)"
            )
        case _ if disk_is_full(error):
            return EngineError(refusal(error, place))
        case _:
            again, refused = passes(error), refusal(error, place)
            words = refused or f"{type(error).__name__}: {' '.join(str(error).split())[:300] or 'no message'}"
            return TransientError(words) if again else EngineError(words) if refused else UnforeseenError(words)


def passes(error: BaseException) -> bool:
    """Whether a lost connection or a busy device lies behind an error: libraries wrap these in errors of their own."""
    behind = error.__cause__ or error.__context__
    busy = isinstance(error, OSError) and error.errno in (errno.EBUSY, errno.EAGAIN)
    busy = busy or "busy or unavailable" in str(error)  # CUDA's words, whatever torch's class for them is
    lost = isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
    return busy or lost or (behind is not None and passes(behind))


def refusal(error: BaseException, place: object = "") -> str:
    """What the operating system has refused and the way out; "" if it has not, or if only a connection broke."""
    number = number_of(error)
    apart = ConnectionError | TimeoutError | ChildProcessError | ProcessLookupError | socket.gaierror
    if number is None or isinstance(error, apart):
        return ""
    where = getattr(error, "filename", None) or place
    if disk_is_full(error):
        about = f" while writing {where}" if where else ""
        return f"the disk is full{about}: free some space or inodes (paced cache gc), {AGAIN}"
    what = f"{where}: {os.strerror(number)}" if where else os.strerror(number)
    return f"{what}: {WAYS.get(number, 'see to it')}, {AGAIN}"


_RIGHTS = "let this user read and write it, or set PACED_HOME to a folder where it may"
_OTHER = "move away what lies there, or set PACED_HOME to another folder"
_LOCKS = "set PACED_HOME to a folder of a file system that has file locks, and PACED_STORE to what hosts share"
_AWAY = "see that the file system it is on answers"
WAYS = {
    errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS, errno.EROFS: _RIGHTS,
    errno.ENOTDIR: _OTHER, errno.EISDIR: _OTHER, errno.EEXIST: _OTHER, errno.ENOTEMPTY: _OTHER, errno.ELOOP: _OTHER,
    errno.ENAMETOOLONG: "choose a shorter name, or set PACED_HOME to a folder with a shorter path",
    errno.ESTALE: _AWAY, errno.EIO: _AWAY, errno.ENXIO: _AWAY, errno.ENODEV: _AWAY,
    errno.EMFILE: "raise the limit of open files (ulimit -n)", errno.ENFILE: "close what keeps so many files open",
    errno.EAGAIN: "raise the limit of processes (ulimit -u)", errno.ENOMEM: "leave this host more memory",
    errno.ENOENT: "see why it is missing",
    errno.ENOSYS: _LOCKS, errno.ENOLCK: _LOCKS, errno.ENOTSUP: _LOCKS,
}  # fmt: skip
