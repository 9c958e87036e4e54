"""The errors a user can cause. Each message is one line: what is wrong, where, what to do."""

import errno
import os
import re

LONGEST = 500  # characters of a message
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Numbers of the operating system's errors, in the texts of libraries that raise none of Python's.
NUMBER = re.compile(r"\b(?:os error|errno) (\d+)|Os \{ code: (\d+)", re.IGNORECASE)
SQLITE = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EROFS, "SQLITE_CANTOPEN": errno.EACCES}
AGAIN = "then run the same command again; what was committed is kept"


def visible(text: str) -> str:
    """A text without characters that a terminal obeys or that hide or reorder others: those are written out."""
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str) -> str:
    """A text as one line that a terminal can show, its middle left out if it is long: the way out stands at its end."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2 - 5]} ... {line[-LONGEST // 2 :]}"


class PacedError(Exception):
    """Base of every error that is reported as one line instead of a traceback."""

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


class Stopped(PacedError):
    """The run was told to stop; what was committed stays."""


ERRORS = {
    e.__name__: e
    for e in (PacedError, ConfigError, DataError, NothingToLearn, VerifierError, CacheError, EngineError, Stopped)
}


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


def explained(error: BaseException, place: object = "") -> "EngineError | None":
    """What the operating system refused, as an error of one line; None if it is not that, or a connection that broke.

    Args:
        place: what was being done, if the error does not name a file.
    """
    number = number_of(error)
    if number is None or isinstance(error, ConnectionError | TimeoutError | ChildProcessError | ProcessLookupError):
        return None
    where = getattr(error, "filename", None) or place
    if disk_is_full(error):
        about = f" while writing {where}" if where else ""
        return EngineError(f"the disk is full{about}: free some space or inodes (paced cache gc), {AGAIN}")
    what = f"{where}: {os.strerror(number)}" if where else os.strerror(number)
    return EngineError(f"{what}: {WAYS.get(number, 'see to it')}, {AGAIN}")


_RIGHTS = "let this user read and write it, or set PACED_HOME to a folder where it may"
_OTHER = "move away what lies there, or set PACED_HOME to another folder"
_AWAY = "see that the file system it is on answers"
WAYS = {
    errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS, errno.EROFS: _RIGHTS,
    errno.ENOTDIR: _OTHER, errno.EISDIR: _OTHER, errno.EEXIST: _OTHER, errno.ENOTEMPTY: _OTHER, errno.ELOOP: _OTHER,
    errno.ENAMETOOLONG: "choose a shorter name, or set PACED_HOME to a folder with a shorter path",
    errno.ESTALE: _AWAY, errno.EIO: _AWAY, errno.ENXIO: _AWAY, errno.ENODEV: _AWAY,
    errno.EMFILE: "raise the limit of open files (ulimit -n)", errno.ENFILE: "close what keeps so many files open",
    errno.EAGAIN: "raise the limit of processes (ulimit -u)", errno.ENOMEM: "leave this host more memory",
    errno.ENOENT: "see why it is missing",
}  # fmt: skip
