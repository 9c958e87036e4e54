"""What a stage says while it runs: one JSON object an event, told apart by ``event``. Imports no torch."""

from collections.abc import Callable
from typing import Literal, TypedDict


class StartedEvent(TypedDict):
    """The stage's process has its place on the device."""

    event: Literal["started"]


class DividesEvent(TypedDict):
    """The stage lacks so many ``parts``, which a fleet is to compute."""

    event: Literal["divides"]
    parts: int


class ProgressEvent(TypedDict):
    """``done`` of ``total``, at ``rate`` a second, with so many seconds ``left`` (None: not known yet).

    ``here`` is how many rows of the store this process has computed, of whatever kind.
    """

    event: Literal["progress"]
    what: str
    done: int
    total: int
    rate: float
    left: float | None
    here: int


class LogEvent(TypedDict):
    """One line for people."""

    event: Literal["log"]
    message: str


class WarningEvent(TypedDict):
    """One line that reaches people wherever they look: terminal, run page, the worker's log."""

    event: Literal["warning"]
    message: str


class MetricEvent(TypedDict):
    """Values at a step."""

    event: Literal["metric"]
    step: int
    values: dict[str, float]


class DoneEvent(TypedDict):
    """The last event of a stage that ended well; ``ref`` is its artifact."""

    event: Literal["done"]
    ref: dict[str, str]


class ErrorEvent(TypedDict):
    """The last event of a stage that failed: the name of the error's class, and one line."""

    event: Literal["error"]
    type: str
    message: str


StageEvent = (
    StartedEvent | DividesEvent | ProgressEvent | LogEvent | WarningEvent | MetricEvent | DoneEvent | ErrorEvent
)
Listener = Callable[[StageEvent], None]
