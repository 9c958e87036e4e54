"""Runs a stage with a fleet: copies fill the store, this process watches them and makes the stage of what is there.

The stage itself says whether anything is missing, and only then is a fleet started. It waits in its own process for
rows to be there, and so it ends when the store is full, whatever the engine says of the copies.
"""

import contextlib
import contextvars
import json
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from paced import config
from paced.config.label import Label
from paced.errors import EngineError, PacedError, TransientError, explained
from paced.events import DividesEvent, Listener, ProgressEvent, StageEvent
from paced.stage import STAGES, Spec
from paced.storage.artifacts import Ref
from paced.storage.identity import short
from paced.storage.shared import FLEETS, PROBED_FOR, objects_at
from paced_tasks.fleets.base import Copies, CopyRow, CopyState, Member, Order
from paced_tasks.fleets.kinds import KINDS
from paced_tasks.fleets.member import DRIVER, SILENCE, STOP
from paced_tasks.runner import run_stage, turn

LOOK = 2.0  # seconds between two looks at a fleet
FAREWELL = 10.0  # seconds that copies have to end by themselves when the stage is done
LATE, WELL = 10.0, 300.0  # seconds in which this host has to see the last rows of copies that have ended, or ended well
EXPECTED = 60.0  # seconds after which it is told how many copies are at work

Show = Callable[[list[CopyRow], bool], None]  # takes a row for each copy, and whether they are the last ones


class Alone(Exception):
    """No copy is at work; says why."""


class Sign(NamedTuple):
    """A copy's latest sign of life, and when its first and its latest one were seen, by this host's clock."""

    host: str
    items: int
    state: str
    number: int
    first: float
    latest: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.items / (self.latest - self.first) if self.latest > self.first else 0.0


class FleetWatch:
    """The fleet of a stage, from the first part that is missing until the stage has ended.

    Attributes:
        lost: why this host has to do what is left; "" as long as copies do it.
    """

    def __init__(self, spec: Spec, label: Label, logs: Path, listen: Listener, show: Show):
        fleet = spec.runtime.fleet
        assert fleet is not None
        self._settings, self._kind, self._spec = fleet, KINDS[fleet.kind], spec
        self._label, self._logs, self._listen, self._show = label, logs, listen, show
        self._name = f"{FLEETS}/{short(spec.identity)}.{secrets.token_hex(4)}"
        self._objects = objects_at(config.store(), PROBED_FOR)
        self._fleet: Copies | None = None
        self._states: dict[int, CopyState] = {}
        self._signs: dict[int, Sign] = {}
        self._told = set[int]()  # copies of whose end people were told
        self._turn, self._beating = contextlib.ExitStack(), threading.Lock()
        within = contextvars.copy_context().run  # so that what is told stands on this flow run's page
        self._over = threading.Event()
        self._thread = threading.Thread(target=within, args=(self._watch,), daemon=True)
        self._begun = self._working = 0.0  # when it was started, and when a copy was last at work
        self.lost = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._turn:
            if self._fleet:
                self._stop(self._fleet, FAREWELL if error is None else 0.0)

    def heard(self, event: StageEvent) -> None:
        """An event of the stage that waits.

        Raises:
            Alone: it waits in vain.
        """
        if event["event"] == "divides":
            self._start(event)
        else:
            self._listen(self._counted(event) if event["event"] == "progress" else event)
        if self.lost and not self._settings.here:
            raise Alone(self.lost)

    def _counted(self, event: ProgressEvent) -> ProgressEvent:
        return {**event, "what": f"{event['what']} ({self._at_work()} of {len(self._states)} copies)"}

    def _start(self, event: DividesEvent) -> None:
        if self._fleet:  # the stage has come to its next kind of rows
            return
        if not self._kind.own_devices:  # stages that run at once have the devices of this host in turn
            place = Path(self._spec.home) / "locks" / "fleet"
            self._turn.enter_context(turn([place], self._spec.runtime.processes))
        runtime = self._spec.runtime.model_copy(update={"fleet": None})
        member = Member(
            name=self._name, store=config.store(), scratch=self._settings.scratch,
            if_driver_dies=self._settings.if_driver_dies, identity=self._spec.identity,
            spec=self._spec.model_copy(update={"runtime": runtime}), leases=not self._kind.own_devices,
        )  # fmt: skip
        order = Order(self._settings, member, min(self._settings.copies, event["parts"]), self._logs)
        self._begun = self._working = time.monotonic()
        self._beat(0)
        self._fleet = self._kind.make(order)
        try:
            self._fleet.start()
        except PacedError as error:
            self.lost = f"the fleet does not start ({error})"
            if self._settings.here:
                self._listen({"event": "warning", "message": f"fleet: {self.lost}"})
            return
        self._states = self._fleet.look()
        self._log(f"fleet: {len(self._states)} {self._settings.kind} copies are started for {event['parts']} parts")
        self._thread.start()

    def _log(self, message: str) -> None:
        self._listen({"event": "log", "message": message})

    def _watch(self) -> None:
        try:
            self._look_on()
        except Exception as error:  # of an engine or a page: nobody else would see that copies are lost
            self.lost = f"its copies cannot be watched ({explained(error)})"

    def _look_on(self) -> None:
        number, expected = 0, False
        while not self._over.wait(LOOK) and self._fleet:
            number += 1
            self._beat(number)
            self._states = self._fleet.look()
            with contextlib.suppress(EngineError):
                self._read()
            now, working = time.monotonic(), self._at_work()
            self._working = now if working else self._working
            for index, state in self._states.items():
                self._tell_end(index, state)
            if not expected and (working == len(self._states) or now - self._begun > EXPECTED):
                expected = True
                self._log(self._attendance())
            self._show(self._rows(), False)
            self._look_whether_lost(now)

    def _beat(self, number: int) -> None:
        with self._beating, contextlib.suppress(EngineError):  # a store that is away is the stage's to tell
            if not self._over.is_set():
                self._objects.put(f"{self._name}/{DRIVER}", str(number).encode())

    def _read(self) -> None:
        """The signs of life that copies have left; what is no such thing says nothing."""
        now = time.monotonic()
        for found in self._objects.list(self._name):
            index = found.name.rpartition("/")[2]
            if not index.isdecimal() or int(index) not in self._states:
                continue
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
                said, before = json.loads(self._objects.get(found.name)), self._signs.get(int(index))
                sign = Sign(str(said["host"]), int(said["items"]), str(said["state"]), int(said["number"]), now, now)
                if before and (before.number, before.state) == (sign.number, sign.state):
                    continue
                self._signs[int(index)] = sign._replace(first=before.first if before else now)

    def _at_work(self) -> int:
        return sum(self._works(index) for index in self._states)

    def _works(self, index: int) -> bool:
        sign = self._signs.get(index)
        runs = self._states[index].alive and not self._states[index].text
        return bool(runs and sign and sign.state == "works" and time.monotonic() - sign.latest < SILENCE)

    def _tell_end(self, index: int, state: CopyState) -> None:
        """One line for a copy that has not ended well, is in the queue again, or is not heard of any more."""
        sign = self._signs.get(index)
        how = ""
        if not state.alive and state.text:
            how = f"has ended ({self._end_of(index)})"
        elif state.alive and sign and state.text:
            how = f"is to begin anew ({state.text})"
        elif state.alive and sign and time.monotonic() - sign.latest > SILENCE:
            how = f"has given no sign of life for {SILENCE:.0f} s"
        if self._works(index):
            self._told.discard(index)
        if not how or index in self._told:
            return
        self._told.add(index)
        where = f" on {sign.host}" if sign else ""
        rest = sum(s.alive for i, s in self._states.items() if i != index)
        goes_on = f"{rest} of {len(self._states)} copies go on with what is missing" if rest else "no copy is left"
        self._listen({"event": "warning", "message": f"fleet: copy {index}{where} {how}; {goes_on}"})

    def _end_of(self, index: int) -> str:
        """How a copy has ended: what it said itself, else what its engine says."""
        sign = self._signs.get(index)
        return sign.state if sign and sign.state.startswith("failed") else self._states[index].text

    def _attendance(self) -> str:
        """Which copies are at work, and what the others wait for."""
        hosts = sorted({sign.host for index, sign in self._signs.items() if self._works(index)})
        waits = sorted({state.text for state in self._states.values() if state.alive and state.text})
        others = f"; others wait: {', '.join(waits)}" if waits else ""
        on = f" on {', '.join(hosts)}" if hosts else ""
        return f"fleet: {self._at_work()} of {len(self._states)} copies at work{on}{others}"

    def _account(self) -> str:
        """What the copies have made, and which of them was slow."""
        copies = sorted(self._signs.items(), key=lambda item: item[1].rate)
        rows, hosts = sum(sign.items for _, sign in copies), {sign.host for _, sign in copies}
        text = f"fleet: {rows} rows by {len(copies)} copies on {len(hosts)} hosts"
        if not rows:
            return f"{text}: the stage was done before they made any"
        each = [f"{sign.items} by copy {index} on {sign.host} ({sign.rate:.3g}/s)" for index, sign in copies]
        return f"{text}: slowest {each[0]}, fastest {each[-1]}" if len(copies) > 1 else f"{text}: {each[0]}"

    def _rows(self) -> list[CopyRow]:
        """What the run's page shows of each copy."""
        rows: list[CopyRow] = []
        for index, state in sorted(self._states.items()):
            sign = self._signs.get(index, Sign("", 0, "begins", 0, 0.0, 0.0))
            what = self._end_of(index) or sign.state if not state.alive else state.text or sign.state
            rows.append(
                {"copy": index, "host": sign.host, "is": what, "rows": sign.items, "rows a second": round(sign.rate, 3)}
            )
        return rows

    def _look_whether_lost(self, now: float) -> None:
        idle, after = now - self._working, self._settings.alone_after
        if not any(state.alive for state in self._states.values()):
            ends = [end for index in self._states if (end := self._end_of(index))]
            if idle > (LATE if ends else WELL):
                self.lost = f"no copy of the fleet is left ({ends[0] if ends else 'all have ended'})"
        elif after is not None and idle > after:
            self.lost = f"no copy of the fleet has been at work for {after} s"

    def _stop(self, fleet: Copies, within: float) -> None:
        """End the fleet: by the store, so that copies end well; what is left after so many seconds, by its engine."""
        self._over.set()
        with self._beating, contextlib.suppress(EngineError):
            self._objects.put(f"{self._name}/{DRIVER}", STOP)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and any(s.alive and not s.text for s in fleet.look().values()):
            time.sleep(0.5)
        try:
            fleet.stop()
        except PacedError as error:
            self._listen({"event": "warning", "message": f"fleet: its engine does not stop it ({error})"})
        if self._thread.is_alive():
            self._thread.join(PROBED_FOR)
        with contextlib.suppress(EngineError):
            self._read()
        if self._signs:
            self._log(self._account())
        self._show(self._rows(), True)
        with contextlib.suppress(EngineError):  # what stays, ``paced cache gc`` removes
            self._objects.delete([found.name for found in self._objects.list(self._name)])


def run_shared(spec: Spec, label: Label, folder: Path, listen: Listener, show: Show) -> Ref:
    """Run a stage as ``run_stage`` does, with a fleet if its recipe has one and the stage can be divided.

    Args:
        folder: the run's, for logs.
        show: takes a row for each copy, now and then.

    Raises:
        TransientError: no copy is left, and this host is not to do the rest.
    """
    log, fleet = folder / "logs" / f"{label.file}.log", spec.runtime.fleet
    if fleet is None or not STAGES[spec.stage].shared:
        return run_stage(spec, log, listen)
    with FleetWatch(spec, label, folder / "logs" / f"{label.file}-fleet", listen, show) as watch:
        try:
            return run_stage(spec.model_copy(update={"waits": not fleet.here}), log, watch.heard, leased=fleet.here)
        except Alone as alone:
            if fleet.alone_after is None:
                raise TransientError(f"{alone}: what is there is kept, run the same command again") from None
            listen({"event": "warning", "message": f"fleet: {alone}: this host does what is left"})
        return run_stage(spec, log, listen)
