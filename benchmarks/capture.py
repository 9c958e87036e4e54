"""What teacher targets cost beside the models' own work: storing them while the teacher scores, waiting for them.

    python -m benchmarks.capture OUT.json [--smollm2 FOLDER] [--repeats 3]

``capture``: scoring answers and storing their targets (paced/distill/teacher.py), and in it the teacher's forward pass
with its output projection. ``wait``: real training stages on stored targets, and in them the time in which a step reads
its samples and decodes their targets, the copy that training makes of them first apart. Both in the tiny world, and
with ``--smollm2`` for SmolLM2-135M-Instruct (``make smollm2``). Seconds of ``capture`` are those of the processor, of
all threads, so that what else a machine does tells little; those of ``wait`` the clock's, as a disk's time is waited
for too. Ratios are medians over the repeats.
"""

import argparse
import functools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paced.distill.objectives
import paced.models.scoring
from benchmarks.machine import machine, spread, versions
from benchmarks.memory import problems_file
from paced.config import Recipe
from paced.config.reading import load_recipe
from paced.distill.teacher import Scorer
from paced.losses import Projection
from paced.stage import execute
from paced.storage.artifacts import Ref
from paced.storage.store import Collection
from paced_tasks.prepare import prepare
from paced_tasks.rollouts import rollouts
from paced_tasks.run import Run, model_ref
from paced_tasks.teacher import teacher_answers
from paced_tasks.train import train_forward
from paced_tasks.weights import weights

ROOT = Path(__file__).parent.parent
ARM = "arms=[{name: uniform, scheme: uniform, schedule: forward}]"
TINY = (
    "data.problems=1024", "rollouts.samples=4", "training.steps=30", "training.warmup=2", "runtime.threads=1", ARM,
)  # fmt: skip
SMOLLM2 = (
    "data.problems=8", "rollouts.samples=4", "training.steps=3", "training.batch=4", "training.warmup=1",
    "answers={keep: all, sampling: {max_new_tokens: 96}}", "runtime.threads=1", "decontamination.enabled=false", ARM,
)  # fmt: skip


class Timer:
    """Seconds and calls of what it wraps, by name; the processor's, unless another clock is given."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.clock = clock
        self.seconds, self.calls = Counter[str](), Counter[str]()

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **more: Any) -> Any:
            began = self.clock()
            try:
                return function(*arguments, **more)
            finally:
                self.seconds[name] += self.clock() - began
                self.calls[name] += 1

        return timed


def measure(recipe: Recipe, home: Path, repeats: int) -> dict[str, Any]:
    """The stages of one forward arm, its teacher and its training measured."""
    run = Run(name="capture", home=str(home), recipe=recipe)
    captures: list[dict[str, float]] = []

    def made(name: str, task: Any, **arguments: Any) -> Ref:
        return execute(task.cache_policy.build(run, name, **arguments), lambda event: None)

    score, write = Scorer._score, Collection.write  # pyright: ignore[reportPrivateUsage]
    forward, logits = paced.models.scoring.hidden_states, Projection.logits

    def measured(scorer: Scorer, missing: dict[str, dict[str, Any]]) -> Any:
        """Score the same rows and store them, several times; the last result is the stage's."""
        result: Any = score(scorer, missing)  # warms up
        with tempfile.TemporaryDirectory() as scratch:
            for _ in range(repeats):
                timer = Timer()
                paced.models.scoring.hidden_states = timer.around("model", forward)
                Projection.logits = timer.around("model", logits)
                result = timer.around("whole", score)(scorer, missing)
                other = Collection(Path(scratch), "targets", scorer.about, scorer.collection.schema, "")
                timer.around("whole", write)(other, result)
                captures.append(dict(timer.seconds))
        paced.models.scoring.hidden_states, Projection.logits = forward, logits
        return result

    student, teacher = model_ref(recipe.student), model_ref(recipe.teacher_model)
    problems = made("prepare", prepare, data=recipe.data, seed=0, split="train", exclude={})
    sampled = made("rollouts", rollouts, seed=0, problems=problems, model=student)
    weighed = made("weights", weights, scheme="uniform", rollouts=sampled, settings=recipe.weights)
    base = {"problems": problems, "weights": weighed}
    Scorer._score = measured  # pyright: ignore[reportPrivateUsage]
    try:
        answers = made("teacher", teacher_answers, seed=0, teacher=teacher, student=student, **base)
    finally:
        Scorer._score = score  # pyright: ignore[reportPrivateUsage]
    waits = [waited(run, recipe.arms[0], seed, base, answers, student) for seed in range(repeats)]
    ratios = [c["whole"] / c["model"] - 1 for c in captures]
    shares = [w["reading"] / w["steps"] for w in waits]
    return {
        "positions": json.loads((answers.folder / "manifest.json").read_text())["counts"]["tokens"],
        "capture": {"overhead": spread(ratios), "bar": 0.05, "seconds": captures},
        "wait": {"share": spread(shares), "bar": 0.02, "seconds": waits},
    }


def waited(run: Run, arm: Any, seed: int, base: dict[str, Ref], answers: Ref, student: Ref) -> dict[str, float]:
    """Seconds in which the steps of one training stage took place, and those in which they read their targets."""
    timer, Forward = Timer(time.perf_counter), paced.distill.objectives.Forward
    steps = run.recipe.training.steps
    arguments = {"arm": arm, "seed": seed, "steps": steps, "more": False, "answers": answers, "model": student, **base}
    spec = train_forward.cache_policy.build(run, "train", **arguments)  # pyright: ignore[reportFunctionMemberAccess]

    class Timed(Forward):
        sample = timer.around("reading", Forward.sample)
        divergence = timer.around("reading", Forward.divergence)

    began: list[float] = []

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["what"].startswith("steps"):
            if not began:
                timer.seconds.clear()  # the canary reads, too, in the first step
            began.append(timer.clock())

    paced.distill.objectives.Forward = Timed
    try:
        before = timer.clock()
        execute(spec, tell)
        whole = timer.clock() - before
    finally:
        paced.distill.objectives.Forward = Forward
    assert timer.calls["reading"], "training read by another class than the one that is timed"
    share = (steps - 1) / steps  # of the steps that was measured, all but the first
    return {"reading": timer.seconds["reading"] / share, "steps": (began[-1] - began[0]) / share, "stage": whole}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--smollm2", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        recipes = {"tiny world": load_recipe(ROOT / "recipes" / "tiny.yaml", TINY)}
        if a.smollm2:
            data = problems_file(Path(scratch) / "problems.jsonl", 8)
            places = (f"student.path={a.smollm2}", f"data.path={data}", f"evaluation.benchmarks.0.data.path={data}")
            recipes["SmolLM2-135M"] = load_recipe(ROOT / "recipes" / "smollm2_self.yaml", (*places, *SMOLLM2))
        for name, recipe in recipes.items():
            results[name] = measure(recipe, Path(scratch) / name.replace(" ", "-"), a.repeats)
            print(name, {k: results[name][k] for k in ("capture", "wait")}, flush=True)
    record = {"results": results, "machine": machine(), "versions": versions("torch", "transformers", "pyarrow")}
    a.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
