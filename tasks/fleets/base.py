"""What an engine has to do for a fleet, and what it is given."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypedDict

from pydantic import BaseModel, ConfigDict

from paced import config
from paced.config import Recipe
from paced.stage import Spec


class Member(BaseModel):
    """What a copy is told, as one argument.

    Attributes:
        name: where in the store the copies of this fleet and their driver leave signs of life.
        store: the store that all of them share.
        identity: the stage's, by the driver's version of the code.
        leases: whether a copy takes turns with other processes of its host for the device; not where the engine gives
            each job devices of its own, under numbers that say nothing outside of it.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    store: str
    scratch: str | None
    if_driver_dies: Literal["stop", "finish"]
    identity: str
    spec: Spec
    leases: bool


class Order(NamedTuple):
    """A fleet to be started; ``logs`` is a folder for what copies write, where the engine keeps no logs itself."""

    settings: config.Fleet
    member: Member
    copies: int
    logs: Path

    def line(self, index: int | None = None) -> list[str]:
        """The command line of a copy, whose number is its last word; it may be added by the engine."""
        words = [sys.executable, "-m", "paced_tasks.fleets.member", self.member.model_dump_json()]
        return words if index is None else [*words, str(index)]


class CopyState(NamedTuple):
    """Of a copy, as its engine tells: ``text`` says what a living one waits for, or how another one has ended."""

    alive: bool
    text: str = ""


CopyRow = TypedDict(  # what the run's page shows of a copy
    "CopyRow", {"copy": int, "host": str, "is": str, "rows": int, "rows a second": float}
)


class Copies(Protocol):
    """Copies of a program, numbered from 0 on."""

    def start(self) -> None:
        """Start all copies; returns soon.

        Raises:
            PacedError: none could be started.
        """
        ...

    def look(self) -> dict[int, CopyState]:
        """What has become of each copy."""
        ...

    def stop(self) -> None:
        """End all copies; returns when they have ended, or within seconds."""
        ...


class Kind(NamedTuple):
    """An engine.

    Attributes:
        make: the fleet of an order.
        check: what cannot work with a recipe on this host is a ``ConfigError``, before anything is started.
        own_devices: whether the engine gives each copy devices of its own.
    """

    make: Callable[[Order], Copies]
    check: Callable[[Recipe, config.Fleet], None]
    own_devices: bool
