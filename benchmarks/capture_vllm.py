"""The teacher's stage with vLLM: answers drawn and then scored, against targets captured while they are drawn.

    python -m benchmarks.capture_vllm MODEL OUT.json [--problems 32]

Both stages answer the same problems, each in a fresh store, with an engine that each starts for itself. Seconds are
those of the wall: of the whole stage, and of what follows the last answer drawn.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, versions
from benchmarks.memory import problems_file
from paced.config.reading import load_recipe
from paced.stage import execute
from paced.storage.artifacts import Ref, read_manifest
from paced_tasks.prepare import prepare
from paced_tasks.rollouts import rollouts
from paced_tasks.run import Run, model_ref
from paced_tasks.teacher import teacher_answers
from paced_tasks.weights import weights

ROOT = Path(__file__).parent.parent


def measure(model: Path, home: Path, problems: int, capture: bool) -> dict[str, float]:
    """One teacher's stage, after the stages that it needs."""
    home.mkdir()
    data = problems_file(home / "problems.jsonl", problems)
    recipe = load_recipe(
        ROOT / "recipes" / "smollm2_self.yaml",
        (
            f"student={{path: {model}, dtype: float32}}", f"teacher={{path: {model}, engine: {{kind: vllm}}}}",
            f"data.path={data}", f"data.problems={problems}", f"evaluation.benchmarks.0.data.path={data}",
            "decontamination.enabled=false", "rollouts={samples: 2, sampling: {max_new_tokens: 1}}",
            "answers={keep: all, samples: 2, sampling: {temperature: 0.7, max_new_tokens: 96}}",
            f"answers.capture={capture}", "runtime.threads=1",
            "arms=[{name: uniform, scheme: uniform, schedule: forward}]",
        ),
    )  # fmt: skip
    run, student = Run(name="capture", home=str(home), recipe=recipe), model_ref(recipe.student)
    drawn: list[float] = []

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["what"] == "teacher answers" and event["done"] == event["total"]:
            drawn.append(time.monotonic())

    def made(task: Any, **arguments: Any) -> Ref:
        return execute(task.cache_policy.build(run, task.__name__, **arguments), tell)

    asked = made(prepare, data=recipe.data, seed=0, split="train", exclude={})
    sampled = made(rollouts, seed=0, problems=asked, model=student)
    weighed = made(weights, scheme="uniform", rollouts=sampled, settings=recipe.weights)
    began = time.monotonic()
    ref = made(teacher_answers, seed=0, problems=asked, weights=weighed, teacher=student, student=student)
    ended, counts = time.monotonic(), read_manifest(ref.folder).counts
    return {
        "seconds": ended - began, "after_drawing": ended - drawn[-1],
        "answers": counts["samples"], "positions": counts["tokens"], "scored": counts["scored"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--problems", type=int, default=32)
    a = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, capture in (("scored", False), ("captured", True)):
            results[name] = measure(a.model, Path(scratch) / name, a.problems, capture)
            print(name, results[name], flush=True)
    record = {"results": results, "machine": machine(), "versions": versions("torch", "transformers")}
    a.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
