"""Task 'rollouts': sample a student on problems and verify each response."""

from paced.config.stages import Draw, RolloutsConfig, model_fields
from paced.stage import Spec, spec_of
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


@stage_task
def rollouts(run: Run, label: str, seed: int, problems: Ref, model: Ref, first: int | None = None) -> Spec:
    """G samples of each problem (of the ``first`` ones, if set), from which pass rates follow."""
    recipe = run.recipe
    config = RolloutsConfig(
        **model_fields(recipe, recipe.student),
        samples=recipe.rollouts.samples,
        sampling=recipe.rollouts.sampling,
        seed=seed,
        first=first,
    )
    inputs = {"problems": problems, "model": model}
    return spec_of(config, home=run.home, inputs=inputs, runtime=recipe.runtime, engine=recipe.student.engine)


@stage_task
def on_policy_samples(
    run: Run, label: str, seed: int, problems: Ref, model: Ref, weights: Ref, start: int, number: int
) -> Spec:
    """One sample of each problem that draws ``start`` to ``start + number`` of the next training stage will touch."""
    recipe = run.recipe
    config = RolloutsConfig(
        **model_fields(recipe, recipe.student),
        samples=1,
        sampling=recipe.rollouts.sampling,
        seed=seed,
        draw=Draw(seed=seed, start=start, number=number, by_weight=recipe.training.weight_as == "probability"),
    )
    inputs = {"problems": problems, "model": model, "weights": weights}
    return spec_of(config, home=run.home, inputs=inputs, runtime=recipe.runtime, engine=recipe.student.engine)
