"""Grade labelled answers three ways: paced, math-verify alone, and string comparison of the last box or number.

    python -m benchmarks.verifier.compare benchmarks/verifier/answers/*.jsonl

The files ``natural_*`` under ``answers`` hold responses written by hand on golds of public data sets (``source``), in
the styles and the natural frequencies of models; ``smollm2`` what SmolLM2-135M-Instruct wrote, labelled by reading
(docs/log.md). Fields are those of ``paced grade``, and ``source``. math-verify reads the gold as LaTeX, and
letters where the gold is one of A to J, as its documentation suggests.
"""

import argparse
import logging
import re
from collections.abc import Callable
from pathlib import Path

from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

from paced.data.grade import pairs
from paced.verify import Sample, Verifier

LETTERS = (StringExtractionConfig(strings=tuple("ABCDEFGHIJ")),)
MATHEMATICS = (LatexExtractionConfig(), ExprExtractionConfig())
BOX = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*)\}")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def by_paced(samples: list[Sample]) -> list[bool]:
    with Verifier() as verifier:
        return [v.outcome == "correct" for v in verifier.grade(samples)]


def by_math_verify(samples: list[Sample]) -> list[bool]:
    return [_math_verify(s) for s in samples]


def _math_verify(sample: Sample) -> bool:
    letter = re.fullmatch("[A-J]", sample.gold)
    config = LETTERS if letter else MATHEMATICS
    gold = sample.gold if letter or re.search(r"(?<!\\)\$", sample.gold) else f"${sample.gold}$"
    return verify(parse(gold, extraction_config=config), parse(sample.response, extraction_config=config))


def by_string(samples: list[Sample]) -> list[bool]:
    return [_bare(_last(s.response)) == _bare(s.gold) for s in samples]


def _last(response: str) -> str:
    found = BOX.findall(response) or NUMBER.findall(response)
    return found[-1] if found else ""


def _bare(answer: str) -> str:
    return re.sub(r"[\s$]", "", answer).rstrip(".")


GRADERS: dict[str, Callable[[list[Sample]], list[bool]]] = {
    "paced": by_paced,
    "math-verify": by_math_verify,
    "string": by_string,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path, nargs="+")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    for path in arguments.answers:
        rows = list(pairs(path))
        right = [p.row["label"] == "correct" for p in rows]
        print(f"{path.name}: {len(rows)} answers, {sum(right)} of them right")
        for name, grade in GRADERS.items():
            given = grade([p.sample for p in rows])
            accepted = sum(g and not r for g, r in zip(given, right, strict=True))
            rejected = sum(r and not g for g, r in zip(given, right, strict=True))
            print(
                f"  {name:<12} accuracy {1 - (accepted + rejected) / len(rows):7.2%}"
                f"  false accepts {accepted:3} ({accepted / right.count(False):.2%} of wrong)"
                f"  false rejects {rejected:3} ({rejected / right.count(True):.2%} of right)"
            )


if __name__ == "__main__":
    main()
