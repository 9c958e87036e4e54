"""The errors a user can cause. Each message is one line: what is wrong, where, what to do."""


class PacedError(Exception):
    """Base of every error that is reported as one line instead of a traceback.

    Whatever it quotes from files and options, it is one line that any terminal can show: white space is a space, and
    what is no printable character is written as its code.
    """

    def __str__(self) -> str:
        line = " ".join(super().__str__().split())
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


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
