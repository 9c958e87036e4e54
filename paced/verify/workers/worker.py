"""The program of a worker: it reads one case a line from standard input and writes one decision a line.

A worker imports the symbolic libraries once and forks a child for every case, which is killed when its time is over. So
an answer's limits on time and memory are its own, and nothing is left of it in the next. The worker ends when its input
ends: it never outlives its parent by more than one case.
"""

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, TypedDict, final

from paced.config.extensions import function
from paced.verify.rules.decision import Undecided
from paced.verify.rules.judge import Case, judge

CPU_SECONDS = 1.2  # of processor time for a case, so that no verdict depends on what else the machine does
WALL_SECONDS = 10 * CPU_SECONDS  # by the clock, for a case that waits
MEMORY_BYTES = 512 << 20  # of address space, the interpreter and its libraries included
_LONGEST_CHUNK = 65_536  # bytes read at once


@final
class Ready(TypedDict):
    """The first line that a worker writes: its libraries are imported."""

    ready: bool


@final
class Reply(TypedDict):
    """The decision on one case; ``correct`` is None where none was reached, and ``rule`` says by what or why not."""

    correct: bool | None
    rule: str


def _limit(kind: int, value: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a system without this limit; the one on time still holds
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def decided(case: Mapping[str, Any]) -> Reply:
    """The decision on one case, as it is sent."""
    from paced.verify.workers.exact import ExactEngine  # sympy: imported by the worker alone

    if "verifier" in case:
        return graded(**case)
    try:
        decision = judge(Case(tuple(case["parts"]), case["gold"], case["choices"]), ExactEngine())
    except Undecided as undecided:
        return {"correct": None, "rule": str(undecided)}
    except MemoryError:
        return {"correct": None, "rule": f"more than {MEMORY_BYTES >> 20} MB of memory"}
    except Exception as error:
        return {"correct": None, "rule": f"{type(error).__name__} in the symbolic engine"}
    return {"correct": decision.correct, "rule": decision.rule}


def graded(verifier: str, response: str, gold: str, question: str) -> Reply:
    """What a verifier of a record says; whatever it raises leaves the response undecided."""
    try:
        correct = function("verifier", verifier)(response, gold, question)
    except MemoryError:
        return {"correct": None, "rule": f"more than {MEMORY_BYTES >> 20} MB of memory"}
    except Exception as error:
        return {"correct": None, "rule": f"{type(error).__name__} in verifier '{verifier}'"}
    return {"correct": None if correct is None else bool(correct), "rule": f"verifier '{verifier}'"}


def _in_child(line: str) -> str:
    """Decide a case in a child of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _limit(resource.RLIMIT_AS, MEMORY_BYTES)
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # its signal ends the child, even if the worker is gone
            os.write(writing, json.dumps(decided(json.loads(line))).encode())
        finally:
            os._exit(0)
    os.close(writing)
    deadline, decision = time.monotonic() + WALL_SECONDS, b""
    while (left := deadline - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        chunk = os.read(reading, _LONGEST_CHUNK)
        if not chunk:
            break
        decision += chunk
    late = time.monotonic() >= deadline
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(reading)
    with contextlib.suppress(ValueError):
        json.loads(decision)
        return decision.decode()
    reason = f"took longer than {WALL_SECONDS:.0f} s" if late else "the verifier process died"
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        reason = f"took longer than {CPU_SECONDS} s of processor time"
    return json.dumps({"correct": None, "rule": reason})


def main() -> None:
    _limit(resource.RLIMIT_CORE, 0)
    from paced.verify.workers.exact import ExactEngine  # sympy: imported by the worker alone

    ExactEngine().outside("x^2", "x^2")  # once, for all children: math-verify builds its parser at first use

    # Whatever a library prints must not look like a decision.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps({"ready": os.getpid()}), file=answers, flush=True)
    for line in sys.stdin:
        with contextlib.suppress(Exception):  # once for all children; one of them tells what is wrong with it
            function("verifier", json.loads(line)["verifier"])
        print(_in_child(line), file=answers, flush=True)


if __name__ == "__main__":
    main()
