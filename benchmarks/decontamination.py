"""What n-gram overlap finds besides word-for-word copies, by n and threshold: the table behind the defaults.

    python benchmarks/decontamination.py dapo_math_17k.parquet math_test.jsonl math500_test.jsonl aime24_test.jsonl ...

For each n and share: training problems found by overlap and not word for word, and of these the part whose gold equals
that of the benchmark problem they overlap most. Equal golds are a lower bound on copies: DAPO rewrote many questions
so that the answer is a whole number (gold 1/3 became 4, with "find m + n" added).
"""

import sys
from pathlib import Path

from paced.config import Data
from paced.data.decontamination import Index, normal
from paced.data.layouts import Problem, read
from paced.data.shelf import same_gold

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def load(path: Path) -> list[Problem]:
    return [p for p in read(Data(source="math", path=str(path)), path) if not p.fault]


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    training, *benchmarks = map(Path, sys.argv[1:])
    problems = load(training)
    print(f"{'benchmark':22} {'n':>3} " + " ".join(f"{f'share {s}':>14}" for s in SHARES))
    for path in benchmarks:
        tests = load(path)
        exact = {normal(t.question) for t in tests}
        for n in (8, 10, 13, 16):
            index = Index({"b": [t.question for t in tests]}, n, min(SHARES))
            best = [
                (max(index.find(p.question), key=lambda h: h.share, default=None), p)
                for p in problems
                if normal(p.question) not in exact
            ]
            hits = [(h.share, same_gold(tests[h.problem].gold) == same_gold(p.gold)) for h, p in best if h]
            cells = [[same for share, same in hits if share >= s] for s in SHARES]
            print(f"{path.stem:22} {n:>3} " + " ".join(f"{f'{len(c)} ({sum(c)} same)':>14}" for c in cells), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
