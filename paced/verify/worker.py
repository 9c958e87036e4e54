"""A worker process: reads one case a line from standard input, writes one decision a line.

It ends when its input ends, so it does not outlive its parent. While it computes it reads nothing; then the limit on
processor time, renewed for every case, ends it.
"""

import contextlib
import json
import os
import resource
import sys

SECONDS = 3  # of processor time for a case; the parent's limit on wall time comes first while there is a parent
MEMORY = 512 << 20  # bytes of address space, the interpreter and its libraries included


def _limit(kind: int, value: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a system without this limit; the limit on time still holds
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def main() -> None:
    _limit(resource.RLIMIT_CORE, 0)
    from paced.verify.algebra import Undecided
    from paced.verify.exact import Exact
    from paced.verify.judge import Case, judge

    _limit(resource.RLIMIT_AS, MEMORY)
    # Whatever a library prints must not look like a decision.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps({"ready": os.getpid()}), file=answers, flush=True)
    engine = Exact()
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + SECONDS)
        case = json.loads(line)
        try:
            decision = judge(Case(tuple(case["parts"]), case["gold"], case["choices"]), engine)
            said = {"correct": decision.correct, "rule": decision.rule}
        except Undecided as undecided:
            said = {"correct": None, "rule": str(undecided)}
        except MemoryError:
            said = {"correct": None, "rule": f"more than {MEMORY >> 20} MB of memory"}
        except Exception as error:  # noqa: BLE001  a library's failure on one answer is that answer's alone
            said = {"correct": None, "rule": f"{type(error).__name__} in the symbolic engine"}
        print(json.dumps(said), file=answers, flush=True)
        if "memory" in said["rule"]:
            return


if __name__ == "__main__":
    main()
