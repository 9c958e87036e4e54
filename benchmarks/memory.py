"""Peak memory of real stages against what ``paced plan`` says of them, on a CPU.

    python -m benchmarks.memory OUT.json [--smollm2 FOLDER]

Runs the tiny world, and with ``--smollm2`` SmolLM2-135M-Instruct (``make smollm2``), small but with every kind of
stage, and compares ``counts.peak_memory`` of each stage's manifest with the plan's figure for prompts and responses as
long as they were. ``OUT`` has both for each stage, their ratio, the machine and the versions.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.machine import machine, versions
from benchmarks.sampling import QUESTION
from paced.config import Recipe, Sampling
from paced.config.reading import load_recipe
from paced.planning.footprint import Shape, host_memory, sampling_memory, scoring_memory, shape, training_memory

ROOT = Path(__file__).parent.parent
TINY = (
    "seeds=[0]", "data.problems=1536", "training.steps=6", "training.warmup=2",
    "consolidation={steps: 2, rounds: 1, rescore: 200}",
    "arms=[{name: paced, scheme: beta, schedule: forward}, {name: two_stage, scheme: beta, schedule: two_stage}]",
)  # fmt: skip
SMOLLM2 = (
    "data.problems=4", "evaluation.benchmarks.0.data.problems=4", "rollouts.samples=4", "training.steps=2",
    "training.batch=4", "training.warmup=1", "consolidation.rounds=1", "evaluation.samples=1", "runtime.processes=1",
    "answers={keep: all, sampling: {max_new_tokens: 160}}",
    "arms=[{name: forward, scheme: uniform, schedule: forward}, {name: reverse, scheme: uniform, schedule: reverse}]",
)  # fmt: skip


class Longest(NamedTuple):
    """Tokens of the longest prompt, and of the longest prompt with its response, in what a run has stored."""

    prompt: int
    sequence: int


def longest(home: Path) -> Longest:
    prompt = sequence = 0
    for part in home.glob("store/samples/*/*.parquet"):
        rows = pd.read_parquet(part, columns=["prompt_ids", "response_ids"])
        prompts, responses = rows["prompt_ids"].str.len(), rows["response_ids"].str.len()
        prompt, sequence = max(prompt, int(prompts.max())), max(sequence, int((prompts + responses).max()))
    return Longest(prompt, sequence)


def planned(recipe: Recipe, stage: str, label: str, manifest: dict[str, Any], length: Longest) -> dict[str, int] | None:
    """The plan's items for one stage; None if it loads no model."""
    student, teacher = shape(recipe.student.path), shape(recipe.teacher_model.path)
    runtime, samples = recipe.runtime, manifest["counts"].get("samples", 0)

    def sampled(model: Shape, dtype: Any, sampling: Sampling, each: int) -> dict[str, int]:
        rows = min(runtime.sample_rows, runtime.part_problems * each, samples)
        return sampling_memory(model, dtype, sampling, length.prompt, rows)

    if stage == "rollouts":
        return sampled(student, recipe.student.dtype, recipe.rollouts.sampling, recipe.rollouts.samples)
    if stage == "evaluate":
        if not label.startswith("base"):  # a student is stored in the precision that it is loaded in
            student = student._replace(config=student.config | {"dtype": recipe.student.dtype})
        return sampled(student, recipe.student.dtype, recipe.evaluation.sampling, recipe.evaluation.samples)
    if stage == "teacher":
        dtype = recipe.teacher_model.dtype
        answers = sampled(teacher, dtype, recipe.answers.sampling, recipe.answers.samples)
        return max(answers, scoring_memory(teacher, dtype, length.sequence), key=host_memory)
    if stage == "train":
        resident = (teacher, recipe.teacher_model.dtype) if manifest["config"]["objective"] == "reverse" else None
        return training_memory(student, recipe.training, recipe.student.dtype, length.sequence, resident)
    return None


def measure(recipe: Path, changes: tuple[str, ...], home: Path) -> Iterator[dict[str, Any]]:
    """Run the recipe in a fresh home; a row for each stage that loads a model, the first of its kind and label."""
    settings = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "paced_deployments.cli", "run", str(recipe), *settings]
    subprocess.run(command, env=os.environ | {"PACED_HOME": str(home)}, check=True, cwd=ROOT, stdout=sys.stderr)
    (record,) = home.glob("runs/*/run.json")
    loaded, length = load_recipe(recipe, changes), longest(home)
    for entry in json.loads(record.read_text())["stages"]:
        manifest = json.loads((Path(entry["path"]) / "manifest.json").read_text())
        items = planned(loaded, entry["stage"], entry["label"], manifest, length)
        loads = manifest["counts"].get("computed", 1)  # none if all its samples were stored
        if items and loads and "peak_memory" in manifest["counts"]:
            peak, plan = manifest["counts"]["peak_memory"], host_memory(items)
            yield {
                "recipe": loaded.name, "stage": entry["label"], "measured": peak, "planned": plan,
                "ratio": round(plan / peak, 3), "items": items,
            }  # fmt: skip


def problems_file(path: Path, number: int, first: int = 0) -> Path:
    """Write word problems as GSM8K has them, with their solutions; the recipe adds the instruction."""
    lines: list[str] = []
    for i in range(first, first + number):
        hens, eggs, weeks = 3 + i, 2 + i % 5, 2 + i % 7
        total = hens * eggs * weeks - 12 * weeks
        answer = f"{hens} * {eggs} * {weeks} - 12 * {weeks} = {total}\n#### {total}"
        question = QUESTION.format(hens, eggs, weeks).partition("\n\n")[0]
        lines.append(json.dumps({"question": question, "answer": answer}) + "\n")
    path.write_text("".join(lines))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--smollm2", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = list(measure(ROOT / "recipes" / "tiny.yaml", TINY, Path(scratch) / "tiny"))
        if arguments.smollm2:
            data, judged = (problems_file(Path(scratch) / f"{n}.jsonl", 4, n) for n in (0, 4))
            changes = (
                f"student.path={arguments.smollm2}", f"data.path={data}", f"evaluation.benchmarks.0.data.path={judged}",
                "decontamination.enabled=false", *SMOLLM2,
            )  # fmt: skip
            rows += measure(ROOT / "recipes" / "smollm2_self.yaml", changes, Path(scratch) / "smollm2")
    record = {"rows": rows, "versions": versions("torch", "transformers"), "machine": machine()}
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{'recipe':<16} {'stage':<28} {'measured, MB':>12} {'planned, MB':>12} {'ratio':>6}")
    for r in rows:
        stage, mega = r["stage"], (r["measured"] / 1e6, r["planned"] / 1e6)
        print(f"{r['recipe']:<16} {stage:<28} {mega[0]:>12,.0f} {mega[1]:>12,.0f} {r['ratio']:>6.2f}")


if __name__ == "__main__":
    main()
