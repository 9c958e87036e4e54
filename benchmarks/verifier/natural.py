"""Two checks on whole data sets: natural wrong answers are refused, and reference solutions are accepted.

    python -m benchmarks.verifier.natural DATA [--wrong 20000] [--seed 1] [--show 20]

DATA is the folder that ``benchmarks.verifier.pairs`` reads. *Wrong pairs* give a problem an answer that a model could
give by mistake: the gold answer of another problem, the gold plus or minus one, its negative, its reciprocal, or a
number or formula of the question. They are wrong by construction where gold and answer are plain numbers of different
value; other pairs that math-verify takes for equal are left out. *References* are the published solutions against their
own golds: as they are, and without the marks that say which part is the answer. ``--show`` prints what went wrong.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from math_verify import LatexExtractionConfig, parse, verify

from paced.verify import Sample, SeveralAnswersError, Verdict, Verifier, boxed_answer
from paced.verify.extraction.sentences import FORMULA, content_of

ENDINGS = (
    "We compute step by step.\n\nTherefore the result is $\\boxed{{{0}}}$.",
    "After working it out, the answer is ${0}$.",
    "Some steps here.\n\n**Final Answer**\n\n${0}$",
    "So we are done.\n\n# Answer\n\n{0}",
)
KINDS = ("another gold", "one more", "one less", "negative", "reciprocal", "a number of the question")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{?(\d+)\}?\{?(\d+)\}?")
_BATCH = 2_000


class Problem(NamedTuple):
    """One row of a data set; ``data`` is its name."""

    data: str
    question: str
    solution: str
    gold: str


def boxed(question: str, solution: str) -> str:
    """The gold answer that a data set's reader takes from a solution; empty if it takes none."""
    try:
        return boxed_answer(solution, question) or ""
    except SeveralAnswersError:
        return ""


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def problems(data: Path) -> list[Problem]:
    """MATH train and test, GSM8K and OlympiadBench with their solutions."""
    found: list[Problem] = []
    for row in pd.read_parquet(data / "math_train.parquet")["reward_model"]:
        truth = row["ground_truth"]
        question, solution = truth["question"], truth["solution"]
        found.append(Problem("MATH train", question, solution, boxed(question, solution)))
    for row in _lines(data / "math_test.jsonl"):
        found.append(Problem("MATH test", row["problem"], row["solution"], boxed(row["problem"], row["solution"])))
    for name in ("gsm8k_train.jsonl", "gsm8k_test.jsonl"):
        for row in _lines(data / name):
            working = re.sub(r"<<.*?>>", "", row["answer"])
            found.append(Problem("GSM8K", row["question"], working, working.rpartition("####")[2].strip()))
    for row in _lines(data / "olympiadbench_test.jsonl"):
        golds, solution = row["final_answer"], row["solution"]
        text = solution[0] if isinstance(solution, list) else solution
        found.append(Problem("OlympiadBench", row["question"], str(text), str(golds[0])))
    return [p for p in found if p.gold.strip()]


# References


def references(found: list[Problem]) -> Iterator[tuple[str, Sample]]:
    """Solutions as published, and those of MATH without their boxes, each with the name of its group."""
    for p in found:
        sample = Sample("", p.solution, p.gold, p.question)
        if p.data == "OlympiadBench":
            answer = p.gold.strip().strip("$") if p.gold.count("$") == 2 else p.gold
            yield f"{p.data}, # Answer", sample._replace(response=f"{p.solution}\n# Answer\n\n{answer}")
            yield f"{p.data}, **Answer:**", sample._replace(response=f"{p.solution}\n\n**Answer:** {p.gold}")
            continue
        yield p.data, sample
        if p.data.startswith("MATH"):
            bare = re.sub(r"\\boxed\s*(?=\{" + re.escape(p.gold) + r"\})", "", p.solution)
            yield f"{p.data}, no box", sample._replace(response=bare.replace("{" + p.gold + "}", p.gold), finish="stop")


# Wrong pairs


def plain_value(text: str) -> Fraction | None:
    """The value of a plain number: digits, a decimal, a fraction of two whole numbers; None for anything else."""
    bare = re.sub(r"[\s$]|\\[,!]|(?<=\d),(?=\d{3})", "", text)
    if _NUMBER.fullmatch(bare):
        return Fraction(bare)
    if (match := _FRACTION.fullmatch(bare)) and int(match[3]):
        return Fraction(int(match[1] + match[2]), int(match[3]))
    return None


def _written(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    return f"{'-' * (value < 0)}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def wrong_answer(kind: str, problem: Problem, found: list[Problem], draw: random.Random) -> str | None:
    """A wrong answer of a kind; None if this problem has none."""
    value = plain_value(problem.gold)
    if kind == "another gold":
        return draw.choice(found).gold
    if kind == "a number of the question":
        formulas = [content_of(m) for m in FORMULA.finditer(problem.question)]
        given = formulas + _NUMBER.findall(FORMULA.sub(" ", problem.question))
        return draw.choice(given).strip() if given else None
    if value is None or value == 0 or (kind == "reciprocal" and abs(value) == 1):
        return None
    return _written({"one more": value + 1, "one less": value - 1, "negative": -value, "reciprocal": 1 / value}[kind])


def surely_wrong(answer: str, gold: str) -> bool:
    """Is an answer wrong, as far as can be told without our own verifier?"""
    given, expected = plain_value(answer), plain_value(gold)
    if given is not None and expected is not None:
        return given != expected
    config = (LatexExtractionConfig(),)
    a, g = (parse(f"${t.strip().strip('$')}$", config) for t in (answer, gold))
    return not (verify(a, g) or verify(g, a))


def wrong_pairs(found: list[Problem], count: int, seed: int) -> Iterator[tuple[str, Sample]]:
    """``count`` wrong answers, each with its kind."""
    draw = random.Random(seed)
    made = 0
    while made < count:
        kind, problem = draw.choice(KINDS), draw.choice(found)
        answer = wrong_answer(kind, problem, found, draw)
        if not answer or len(answer) > 300 or not surely_wrong(answer, problem.gold):
            continue
        made += 1
        yield kind, Sample("", draw.choice(ENDINGS).format(answer), problem.gold, problem.question)


def graded(samples: list[tuple[str, Sample]]) -> Iterator[tuple[str, Sample, Verdict]]:
    """Each sample with its group and its verdict."""
    with Verifier() as verifier:
        for start in range(0, len(samples), _BATCH):
            batch = samples[start : start + _BATCH]
            for (group, sample), verdict in zip(batch, verifier.grade([s for _, s in batch]), strict=True):
                yield group, sample, verdict


def table(samples: list[tuple[str, Sample]], show: int) -> None:
    """Print the share accepted by group, and of each group some of those that went wrong."""
    groups = {group: "wrong" for group, _ in samples if group in KINDS}
    counts: dict[str, list[int]] = {}
    for group, sample, verdict in graded(samples):
        total = counts.setdefault(group, [0, 0, 0])
        total[0] += 1
        total[1] += verdict.outcome == "correct"
        failed = (verdict.outcome == "correct") == (group in groups)
        total[2] += failed
        if failed and total[2] <= show:
            tail = " ".join(sample.response[-160:].split())
            print(
                f"  {group} | gold {sample.gold[:80]} | {verdict.outcome}: {(verdict.extracted or '-')[:80]} | {tail}"
            )
    for group, (total, accepted, _) in counts.items():
        print(f"{group:<28} {total:>6}  accepted {accepted:>6} ({accepted / total:.2%})")
    if groups:
        total, accepted = (sum(c[i] for c in counts.values()) for i in (0, 1))
        print(f"{'all wrong pairs':<28} {total:>6}  accepted {accepted:>6} ({accepted / total:.3%})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--wrong", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--only", choices=("wrong", "references"))
    arguments = parser.parse_args()
    found = problems(arguments.data)
    if arguments.only != "wrong":
        table(list(references(found)), arguments.show)
    if arguments.only != "references":
        table(list(wrong_pairs(found, arguments.wrong, arguments.seed)), arguments.show)


if __name__ == "__main__":
    main()
