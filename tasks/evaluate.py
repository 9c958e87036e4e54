"""Tasks 'evaluate' and 'compare': judge each student on the same problems, then pair them."""

from paced.config.stages import EvaluateConfig, compare_config, model_fields
from paced.stage import Spec, spec_of
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


@stage_task
def evaluate(run: Run, label: str, model: Ref, benchmarks: dict[str, Ref]) -> Spec:
    """Judge a model on every benchmark, with the same settings as every other model."""
    recipe = run.recipe
    judged = [b for b in recipe.evaluation.benchmarks if not b.data.record.choices]
    config = EvaluateConfig(
        **model_fields(recipe, recipe.student),
        samples={b.name: b.samples or recipe.evaluation.samples for b in judged},
        sampling=recipe.evaluation.sampling,
        seed=recipe.evaluation.seed,
    )
    inputs = {"model": model} | {f"benchmark/{name}": ref for name, ref in benchmarks.items()}
    engine = recipe.student.engine
    return spec_of(config, home=run.home, inputs=inputs, runtime=recipe.runtime, engine=engine)


@stage_task
def compare(run: Run, label: str, scores: dict[str, Ref]) -> Spec:
    """Means, intervals and paired differences: each arm against the base, and the last against each other one."""
    recipe, arms = run.recipe, run.arms
    pairs = [(a, "base") for a in arms] + [(arms[-1], a) for a in arms[:-1]]
    if "paced" in arms[:-1]:
        pairs += [("paced", a) for a in arms[: arms.index("paced")]]
    return spec_of(compare_config(recipe, pairs), home=run.home, inputs=scores, runtime=recipe.runtime)
