"""A pool of worker processes: what one answer can cost is one verdict, not the run (see ``worker.py``)."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from paced.errors import VerifierError
from paced.verify.rules.decision import Decision
from paced.verify.rules.judge import Case
from paced.verify.workers.worker import Ready, Reply

_CASE_SECONDS = 30.0  # the worker's own limit is far below; this one is for a worker that hangs itself
_START_SECONDS = 120.0  # until a worker has imported its libraries, on a busy machine
_LONGEST_CHUNK = 65_536  # bytes read at once
_PROGRAM = f"{__package__}.worker"
# A worker runs the code that its parent runs: it imports from the folder that this package lies in.
_IMPORT_ROOT = str(Path(__file__).resolve().parents[__name__.count(".")])


class Graded(NamedTuple):
    """A response for a verifier that runs in a worker: the name of its record, and what its function is given."""

    verifier: str
    response: str
    gold: str
    question: str


class Judgement(NamedTuple):
    """What came of a case: ``decision`` is None where none was reached, and ``reason`` says why."""

    decision: Decision | None
    reason: str
    seconds: float


class _Worker:
    """A worker process with the case it is at; ``index`` in ``task`` says whose case that is.

    Raises:
        VerifierError: the process cannot be started.
    """

    def __init__(self) -> None:
        path = os.pathsep.join([_IMPORT_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,
            )
        except OSError as error:
            raise VerifierError(f"no verifier process can be started: {error.strerror}") from None
        assert self.process.stdin
        assert self.process.stdout
        self.input, self.output = self.process.stdin, self.process.stdout
        self.began = time.monotonic()
        self.ready, self.buffer = False, b""
        self.task: tuple[int, Case | Graded] | None = None

    @property
    def deadline(self) -> float:
        """When it is late, by ``time.monotonic``."""
        return self.began + (_CASE_SECONDS if self.ready else _START_SECONDS)

    def give(self, index: int, case: Case | Graded) -> bool:
        """Hand a case over; False if the process is gone."""
        self.task, self.began = (index, case), time.monotonic()
        try:
            self.input.write(json.dumps(case._asdict()).encode() + b"\n")
            self.input.flush()
        except OSError:
            return False
        return True

    def read(self) -> list[Ready | Reply] | None:
        """The lines that have come; None at the end of the process."""
        chunk = os.read(self.output.fileno(), _LONGEST_CHUNK)
        if not chunk:
            return None
        *lines, self.buffer = (self.buffer + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> None:
        """Kill the process and wait for its end."""
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.input, self.output):
            with contextlib.suppress(OSError):
                pipe.close()


class Pool:
    """Up to ``size`` workers, started when the first case comes; a context manager, which leaves no process."""

    def __init__(self, size: int):
        self.size = size
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self._workers:
            self._workers.pop().end()

    def judge(self, cases: Sequence[Case | Graded]) -> list[Judgement]:
        """Decide all cases, in order.

        Raises:
            VerifierError: a worker cannot start.
        """
        judgements: list[Judgement | None] = [None] * len(cases)
        waiting = deque(enumerate(cases))
        try:
            while waiting or any(w.task for w in self._workers):
                self._hand_out(waiting)
                self._collect(judgements)
        except BaseException:
            self.close()
            raise
        return [o for o in judgements if o]

    def _hand_out(self, waiting: "deque[tuple[int, Case | Graded]]") -> None:
        """Start the workers that are needed, and give every idle one a case."""
        while len(self._workers) < min(self.size, len(waiting) + sum(w.task is not None for w in self._workers)):
            self._workers.append(_Worker())
        for worker in [w for w in self._workers if w.ready and w.task is None]:
            if not waiting:
                return
            if worker.process.poll() is not None:
                self._drop(worker)  # the next round starts another
                continue
            task = waiting.popleft()
            if not worker.give(*task):
                waiting.appendleft(task)
                self._drop(worker)

    def _collect(self, judgements: list[Judgement | None]) -> None:
        """Wait for what the workers say next; give up what takes too long."""
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.output, selectors.EVENT_READ, worker)
            deadlines = [w.deadline for w in self._workers if w.task or not w.ready]
            ready = selector.select(max(0.0, min(deadlines, default=0.0) - time.monotonic()))
        for key, _ in ready:
            worker: _Worker = key.data
            lines = worker.read()
            if lines is None:
                self._lost(worker, judgements, "the verifier process died")
                continue
            for line in lines:
                self._take_down(line, worker, judgements)
        now = time.monotonic()
        for worker in [w for w in self._workers if w.ready and w.task and now > w.deadline]:
            self._lost(worker, judgements, f"took longer than {_CASE_SECONDS:.0f} s")
        if any(not w.ready and now > w.deadline for w in self._workers):
            raise VerifierError(
                f"a verifier process was not ready after {_START_SECONDS:.0f} s: is the machine overloaded?"
            )

    def _take_down(self, line: Ready | Reply, worker: _Worker, judgements: list[Judgement | None]) -> None:
        """Note what a worker says: that it is ready, or its decision on the case it was given."""
        if "ready" in line:
            worker.ready = True
        elif worker.task:
            correct = line["correct"]
            decision = None if correct is None else Decision(correct, line["rule"])
            judgements[worker.task[0]] = Judgement(decision, line["rule"], time.monotonic() - worker.began)
            worker.task = None

    def _lost(self, worker: _Worker, judgements: list[Judgement | None], reason: str) -> None:
        """Drop a worker that has ended, or has to, and leave its case undecided."""
        if not worker.ready:
            raise VerifierError(
                "a verifier process ended while it started: does "
                f"'{Path(sys.executable).name} -m {_PROGRAM}' run? (needs sympy and math-verify)"
            )
        if worker.task:
            judgements[worker.task[0]] = Judgement(None, reason, time.monotonic() - worker.began)
        self._drop(worker)

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.end()
