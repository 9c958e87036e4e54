"""Labelled pairs for the verifier, from the gold answers of real data sets.

    python -m benchmarks.verifier.pairs DATA OUT.jsonl --seed 1 [--held-out]
    paced grade OUT.jsonl --out VERDICTS.jsonl

DATA is a folder with the original files of MATH, MATH-500, GSM8K, Minerva, OlympiadBench and others. Labels are right
by construction (rewrites/), independently of the verifier. Each pair is a whole response: some working with other
numbers in it, then one of many endings.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.verifier.rewrites import CATEGORIES, HELD_OUT
from benchmarks.verifier.rewrites.base import DAYS

MATH_ENDINGS = [
    "Therefore, the answer is $\\boxed{{{0}}}$.",
    "Thus, we get\n\n\\[\n\\boxed{{{0}}}\n\\]",
    "\\boxed{{{0}}}",
    "So the final answer is \\(\\boxed{{{0}}}\\).",
    "**Final Answer**\n\n\\[\n\\boxed{{{0}}}\n\\]",
    "**Final Answer:** $\\boxed{{{0}}}$",
    "Final Answer: The final answer is ${0}$. I hope it is correct.",
    "The answer is ${0}$.",
    "**Answer:** ${0}$",
    "### Final Answer\n\n${0}$",
    "# Answer\n\n$${0}$$",
    "Answer: ${0}$",
    "The final answer is: $\\boxed{{{0}}}$",
    "Hence the result is\n$$\\boxed{{{0}}}$$\nas required.",
    "Therefore, the correct answer is: \\(\\boxed{{ {0} }}\\)",
    "\\fbox{{{0}}}",
    "The answer is: ${0}$",
    "Therefore, the final answer is:\n\n$$\n\\boxed{{{0}}}\n$$",
    "<think>\nLet me see, 3 + 4 = 7, maybe \\boxed{{99991}}.\n</think>\n\nThe answer is \\boxed{{{0}}}.",
    "At first I had \\boxed{{88881}}. Wait, that is wrong, I made a sign error.\n\nThe answer is $\\boxed{{{0}}}$.",
]
NUMBER_ENDINGS = [
    "#### {0}",
    "The answer is {0}.",
    "**Answer: {0}**",
    "Therefore, the answer is **{0}**.",
    "Answer: {0}",
    "So the total is {0}.",
    "Final answer: {0}",
    "Thus, the final answer is **{0}**.\n",
    "答案：{0}",
]
WORKINGS = [
    "We start with 17 and 25, so 17 + 25 = 42. Next, we divide by 6 and get 7.\n\n",
    "Let $x$ be the unknown. Then $3x + 4 = 19$ gives a first relation, and $x^2 - 13x + 31$ is another.\n\n",
    "**Step 1:** There are 613 cases.\n**Step 2:** Of these, 29 are excluded, as $613 = 29 \\cdot 21 + 4$.\n\n",
    "By the given conditions,\n\\begin{align*}\na &= 12.7 \\\\\nb &= \\frac{331}{7}\n\\end{align*}\nso it is.\n\n",
    "",
]


def _boxed(solution: str) -> str | None:
    start = solution.rfind("\\boxed{")
    depth = 0
    for i in range(start + 6, len(solution) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(solution[i], 0)
        if depth == 0:
            return solution[start + 7 : i]
    return None


def golds(data: Path) -> Iterator[str]:
    """Gold answers as they stand in the files, taken out without the verifier."""
    for name in ("math_test", "minerva_math_test"):
        for line in (data / f"{name}.jsonl").open(encoding="utf-8"):
            yield _boxed(json.loads(line)["solution"]) or ""
    for row in pd.read_parquet(data / "math_train.parquet")["reward_model"]:
        yield _boxed(row["ground_truth"]["solution"]) or ""
    for row in pd.read_parquet(data / "dsr_sub_train.parquet")["reward_model"]:
        yield str(row["ground_truth"])
    for line in (data / "olympiadbench_test.jsonl").open(encoding="utf-8"):
        found = json.loads(line)["final_answer"]
        yield found[0].strip("$") if len(found) == 1 else ""
    for line in (data / "gsm8k_test.jsonl").open(encoding="utf-8"):
        yield json.loads(line)["answer"].rpartition("####")[2].strip()


def _response(answer: str, draw: random.Random) -> str:
    plain = all(c.isdigit() or c in "-.,/" for c in answer) and answer != ""
    ending = draw.choice(NUMBER_ENDINGS + MATH_ENDINGS[:8] if plain else MATH_ENDINGS)
    return draw.choice(WORKINGS) + ending.format(answer)


def statements(draw: random.Random, number: int) -> Iterator[dict[str, Any]]:
    """Where the answer stands: self-correction, guesses, thinking, unfinished and missing statements."""
    for _ in range(number):
        n, wrong = draw.randint(11, 999), draw.randint(1000, 1999)
        day = draw.choice(DAYS)
        other = DAYS[(DAYS.index(day) + 2) % 7]
        right = [
            f"I get \\boxed{{{wrong}}}. Wait, let me check: no, I forgot a term. So \\boxed{{{n}}}.",
            f"<think>It may be \\boxed{{{wrong}}} or {wrong}.</think>\n\nThe answer is \\boxed{{{n}}}.",
            f"There are {wrong} in all, of which {wrong - n} go. So {wrong} - {wrong - n} = {n} remain.\n\n**{n}**",
            f"The total cost is **{n}** dollars.",
            f"So \\boxed{{{n}}} is the answer, as we have seen that it holds. Hence \\boxed{{{n}}}.",
            f"# Answer\n{n}",
            f"Adding everything up, the number of apples is {n}.",
            f"So $x = {n}$.",
            f"{n}",
            f"The value is\n$$x = {n}.$$",
            f"Therefore, the answer is:\n\n**{n}**",
            f"\\boxed {n}",
            f"Step 1 gives \\boxed{{{wrong}}}, which we use in the next step to find the length of the other side of"
            f" the figure by the theorem of Pythagoras: \\boxed{{{n}}}",
        ]
        false = [
            f"\\boxed{{{n}}}. Wait, that's not right. \\boxed{{{wrong}}}",
            f"\\boxed{{{wrong}}} \\boxed{{{wrong + 1}}} \\boxed{{{n}}}",
            f"It could be \\boxed{{{wrong}}}, or maybe \\boxed{{{n}}}.",
            f"The answer is \\boxed{{{n}}} or \\boxed{{{wrong}}}.",
            f"<think>The answer is \\boxed{{{n}}}.",
            f"<think>The answer is \\boxed{{{n}}}.</think>\n\nThe answer is {wrong}.",
            f"First, {wrong} - {wrong - n} = {n}, and then we have to add the number of",
            f"We have {n} apples and then, since",
            "",
            "I cannot solve this problem.",
            f"The answer is not {n}.",
            f"Answer: {n} or {wrong}",
            f"#### {wrong}\nas {n} is too small",
            f"Let us compute {n} + {wrong} =",
        ]
        yield {"response": draw.choice(right), "gold": str(n), "label": "correct", "category": "statements"}
        yield {"response": draw.choice(false), "gold": str(n), "label": "wrong", "category": "statements"}
        yield {
            "response": f"The day is {day}.\n\n**Answer:** {day}",
            "gold": rf"\text{{{day}}}",
            "label": "correct",
            "category": "statements",
        }
        yield {
            "response": f"The day after {day}.\n\nAnswer: {other}",
            "gold": rf"\text{{{day}}}",
            "label": "wrong",
            "category": "statements",
        }


def choices(draw: random.Random, number: int) -> Iterator[dict[str, Any]]:
    """Multiple choice where the question lists the choices."""
    for _ in range(number):
        values = draw.sample(range(10, 99), 5)
        style = draw.choice(["({0}) {1}", "\\textbf{{({0})}}\\ {1}", "\n{0}. {1}", "$\\text{{({0})}}$ {1}"])
        question = "Which one? " + " \\qquad ".join(style.format(a, v) for a, v in zip("ABCDE", values, strict=True))
        if "\n" in style:
            question = "Which one? " + "".join(style.format(a, v) for a, v in zip("ABCDE", values, strict=True))
        i, j = draw.sample(range(5), 2)
        for k, label in ((i, "correct"), (j, "wrong")):
            said = draw.choice(
                [
                    f"\\boxed{{\\text{{({'ABCDE'[k]})}}}}",
                    f"The answer is ({'ABCDE'[k]}).",
                    f"\\boxed{{{'ABCDE'[k]}}}",
                    f"\\boxed{{{values[k]}}}",
                    f"Answer: {'ABCDE'[k]}. {values[k]}",
                    f"The correct answer is **{'ABCDE'[k]}**.",
                    f"**Answer: ({'ABCDE'[k]}) {values[k]}**",
                    f"The correct option is \\boxed{{\\textbf{{({'ABCDE'[k]})}}\\ {values[k]}}}",
                ]
            )
            gold = draw.choice(["ABCDE"[i], f"\\text{{({'ABCDE'[i]})}}"]) if draw.random() < 0.6 else str(values[i])
            yield {"response": said, "gold": gold, "question": question, "label": label, "category": "choices"}


def make(data: Path, seed: int, each: int, held_out: bool) -> list[dict[str, Any]]:
    """At most ``each`` right and ``each`` wrong pairs a category."""
    draw = random.Random(seed)
    every = sorted({g for g in golds(data) if g})
    draw.shuffle(every)
    found: dict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
    for category, rewrite in (HELD_OUT if held_out else CATEGORIES).items():
        drawn = (
            every if rewrite(every[0], draw) == [] or not all(rewrite(g, draw) for g in every[:20]) else every[:each]
        )
        seen: set[tuple[str, str]] = set()
        for _ in range(3):
            for gold in drawn:
                if min(len(found[category, True]), len(found[category, False])) >= each:
                    break
                for g, answer, right in rewrite(gold, draw):
                    if len(found[category, right]) < each and (g, answer) not in seen:
                        seen.add((g, answer))
                        pair = {
                            "response": _response(answer, draw),
                            "gold": g,
                            "label": "correct" if right else "wrong",
                        }
                        found[category, right].append(pair | {"category": category})
    pairs = [p for rows in found.values() for p in rows]
    if not held_out:
        pairs += [*statements(draw, each), *choices(draw, each)]
    return [{"id": f"{seed}-{i}"} | p for i, p in enumerate(pairs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--each", type=int, default=60, help="right and wrong pairs a category")
    parser.add_argument("--held-out", action="store_true", help="the categories that no rule was tuned on")
    arguments = parser.parse_args()
    pairs = make(arguments.data, arguments.seed, arguments.each, arguments.held_out)
    arguments.out.write_text("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in pairs), encoding="utf-8")
    print(f"{len(pairs)} pairs")


if __name__ == "__main__":
    main()
