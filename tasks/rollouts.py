"""Task 'rollouts': sample a student on problems and verify each response."""

from typing import Any

from paced.stage import Spec
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


def sampling_config(run: Run, samples: int, seed: int) -> dict[str, Any]:
    """How the student is sampled, for pass rates and for stage 2 alike."""
    student = run.recipe.student
    return {
        "samples": samples,
        "sampling": run.recipe.rollouts.sampling.model_dump(),
        "seed": seed,
        "dtype": student.dtype,
        "thinking": run.recipe.thinking,
        "trust_remote_code": student.trust_remote_code,
    }


@stage_task
def rollouts(run: Run, label: str, seed: int, problems: Ref, model: Ref, first: int | None = None) -> Spec:
    """G samples of each problem (of the ``first`` ones, if set), from which pass rates follow."""
    config = sampling_config(run, run.recipe.rollouts.samples, seed) | {"first": first}
    inputs = {"problems": problems, "model": model}
    engine = run.recipe.student.engine
    return Spec(
        stage="rollouts", home=run.home, config=config, inputs=inputs, runtime=run.recipe.runtime, engine=engine
    )


@stage_task
def on_policy_samples(
    run: Run, label: str, seed: int, problems: Ref, model: Ref, weights: Ref, start: int, number: int
) -> Spec:
    """One sample of each problem that draws ``start`` to ``start + number`` of the next training stage will touch."""
    config = sampling_config(run, 1, seed) | {"draw": {"seed": seed, "start": start, "number": number}}
    inputs = {"problems": problems, "model": model, "weights": weights}
    engine = run.recipe.student.engine
    return Spec(
        stage="rollouts", home=run.home, config=config, inputs=inputs, runtime=run.recipe.runtime, engine=engine
    )
