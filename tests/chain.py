"""Every stage run once, uninterrupted and in this process, as the flow would run it."""

from pathlib import Path
from typing import Any

from harness import SMALL, TINY, Chain

from paced.config.reading import load_recipe
from paced.stage import execute
from paced.storage.artifacts import Ref
from paced_tasks import evaluate as judge
from paced_tasks.diagnose import diagnose
from paced_tasks.prepare import prepare
from paced_tasks.rollouts import on_policy_samples, rollouts
from paced_tasks.run import Run, model_ref
from paced_tasks.teacher import teacher_answers
from paced_tasks.train import train_forward, train_reverse
from paced_tasks.weights import weights


def run_chain(home: Path) -> Chain:
    """Prepare to compare, one arm in two stages; a stage's ``Spec`` and artifact by its name."""
    recipe = load_recipe(TINY, SMALL)
    run = Run(name="chain", home=str(home), recipe=recipe)
    made = Chain(home, {}, {})

    def add(name: str, task: Any, **arguments: Any) -> Ref:
        made.specs[name] = task.cache_policy.build(run, name, **arguments)
        made.refs[name] = execute(made.specs[name], lambda event: None)
        return made.refs[name]

    student, teacher = model_ref(recipe.student), model_ref(recipe.teacher_model)
    benchmarks = {
        b.name: add(f"benchmark/{b.name}", prepare, data=b.data, seed=0, split=b.name, exclude={})
        for b in recipe.evaluation.benchmarks
    }
    problems = add("prepare", prepare, data=recipe.data, seed=0, split="train", exclude=benchmarks)
    sampled = add("rollouts", rollouts, seed=0, problems=problems, model=student)
    weighed = add("weights", weights, scheme="beta", rollouts=sampled, settings=recipe.weights)
    base = {"problems": problems, "weights": weighed}
    arm = recipe.arms[0]
    answers = add("teacher", teacher_answers, seed=0, teacher=teacher, student=student, **base)
    model = add(
        "train_forward", train_forward, arm=arm, seed=0, steps=6, more=True, answers=answers, model=student, **base
    )
    samples = add("sample", on_policy_samples, seed=0, model=model, start=0, number=48, **base)
    final = add(
        "train_reverse", train_reverse, arm=arm, seed=0, start=2, steps=6, draw_start=0, more=False, samples=samples,
        teacher=teacher, model=model, **base,
    )  # fmt: skip
    measured = {"seed": 0, "model": student, "learnt_from": {"answers": answers}, **base}
    add("diagnose", diagnose, **measured)
    scores = add("evaluate", judge.evaluate, model=final, benchmarks=benchmarks)
    add("compare", judge.compare, scores={f"{name}/0": scores for name in ("base", "paced", "two_stage")})
    return made
