"""What a fleet starts: one stage in a home of its own, together with the other copies.

    python -m paced_tasks.fleets.member MEMBER INDEX

It computes rows and puts them into the store, where its driver finds them; what else the stage makes, the driver makes
itself. It leaves a sign of life beside the driver's, and ends when it is told to, there or by a signal.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType

import paced
from paced.errors import CacheError, ConfigError, EngineError, PacedError, Stopped, UnforeseenError, explained
from paced.events import StageEvent
from paced.stage import Spec
from paced.storage.artifacts import Ref, reference
from paced.storage.objects import Objects
from paced.storage.placing import exchange
from paced.storage.shared import PROBED_FOR, objects_at
from paced_tasks.fleets.base import Member
from paced_tasks.runner import run_stage, stop_all

LOOK = 2.0  # seconds between two looks at the driver, and between two signs of life
SILENCE = 60.0  # seconds without a sign of the driver's after which it is dead
DRIVER, STOP = "driver", b"stop"  # the driver's object in the store, and what it holds when copies are to end


class Life:
    """A copy's own signs of life, and what it sees of the driver's."""

    def __init__(self, member: Member, index: int, objects: Objects):
        self._member, self._objects = member, objects
        self._name = f"{member.name}/{index}"
        self._items, self._state, self._number = 0, "begins", 0
        self._seen, self._since = b"", time.monotonic()
        self.stopped = threading.Event()

    def heard(self, event: StageEvent) -> None:
        """An event of the stage."""
        if event["event"] == "started":
            self._state = "works"
        if event["event"] == "progress":
            self._items = event["here"]
        if event["event"] == "log" or event["event"] == "warning":
            print(event["message"], flush=True)

    def told(self, state: str = "") -> None:
        """Leave a sign of life: how many rows, and what becomes of this copy."""
        self._state, self._number = state or self._state, self._number + 1
        sign = {"host": socket.gethostname(), "items": self._items, "state": self._state, "number": self._number}
        with contextlib.suppress(EngineError):  # of use to people alone
            self._objects.put(self._name, json.dumps(sign).encode())

    def watch(self) -> None:
        """Until the driver says that copies are to end, or is dead, and copies are not to finish without it."""
        while not self._over():
            self.told()
            time.sleep(LOOK)
        self.stopped.set()
        stop_all()

    def _over(self) -> bool:
        name, now = f"{self._member.name}/{DRIVER}", time.monotonic()
        try:
            said = self._objects.get(name)
        except FileNotFoundError:
            return True
        except EngineError:  # a store that is away says nothing of the driver
            self._since = now
            return False
        if said != self._seen:
            self._seen, self._since = said, now
        return said == STOP or (self._member.if_driver_dies == "stop" and now - self._since > SILENCE)


def own(ref: Ref, origin: Path, home: Path) -> Ref:
    """An input as this host has it: what a stage has made comes from the store, a model folder is the host's.

    Raises:
        CacheError: the store does not have it.
    """
    if ref.kind == "model":
        return ref
    place = home / ref.folder.relative_to(origin)
    exchange(place)
    found = reference(place)
    if found.identity != ref.identity:
        raise CacheError(f"{place} holds identity {found.identity}, expected {ref.identity}: run the command again")
    return found


def spec_here(member: Member, home: Path) -> Spec:
    """The stage as this copy runs it.

    Raises:
        ConfigError: another version of PACED would make something else of it.
    """
    spec = member.spec
    if spec.identity != member.identity:
        raise ConfigError(
            f"PACED {paced.__version__} of {socket.gethostname()} makes something else of stage {spec.stage} than the "
            "version that the run was started with: install the same on all hosts"
        )
    inputs = {name: own(ref, Path(spec.home), home) for name, ref in spec.inputs.items()}
    return spec.model_copy(update={"home": str(home), "inputs": inputs})


def work(member: Member, index: int, home: Path) -> None:
    """Do a copy's part of the stage.

    Raises:
        PacedError: the stage's own error, or that the store is not the driver's.
        Stopped: the driver, or a signal, has ended it.
    """
    objects = objects_at(member.store, PROBED_FOR)
    try:
        objects.get(f"{member.name}/{DRIVER}")
    except FileNotFoundError:
        raise ConfigError(
            f"PACED_STORE={member.store} on {socket.gethostname()} is not the store of the host that the run was "
            "started on, or the run has ended: set it to what all hosts share"
        ) from None
    life = Life(member, index, objects)
    threading.Thread(target=life.watch, daemon=True).start()
    try:
        run_stage(spec_here(member, home), home / "stage.log", life.heard, leased=member.leases)
    except Stopped:
        life.told("ends as told")
        if not life.stopped.is_set():
            raise
    except Exception as error:
        life.told(f"failed: {explained(error)}")
        raise
    else:
        life.told("done")


def main() -> int:
    member, index = Member.model_validate_json(sys.argv[1]), int(sys.argv[2])

    def end(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop_all()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's terminal may send it: the driver says what follows
    with tempfile.TemporaryDirectory(prefix="paced-", dir=member.scratch, ignore_cleanup_errors=True) as folder:
        os.environ |= {"PACED_HOME": folder, "PACED_STORE": member.store}
        log = Path(folder) / "stage.log"
        try:
            work(member, index, Path(folder))
        except PacedError as error:
            if isinstance(error, UnforeseenError) and log.exists():
                print(log.read_text(errors="replace"), file=sys.stderr)
            print(f"error: {error}", file=sys.stderr)
            return 130 if isinstance(error, Stopped) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
