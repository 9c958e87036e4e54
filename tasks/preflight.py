"""Task 'preflight': models, templates, contexts and disk are checked before anything expensive."""

from paced.config.stages import PreflightConfig
from paced.stage import Spec, spec_of
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


@stage_task
def preflight(
    run: Run, label: str, student: Ref, teacher: Ref, problems: dict[str, Ref], benchmarks: dict[str, Ref]
) -> Spec:
    """``problems`` by seed, ``benchmarks`` by name."""
    inputs = {"student": student, "teacher": teacher}
    inputs |= {f"problems/{seed}": ref for seed, ref in problems.items()}
    inputs |= {f"benchmark/{name}": ref for name, ref in benchmarks.items()}
    recipe = run.recipe
    engines = {"student": recipe.student.engine, "teacher": recipe.teacher_model.engine}
    config = PreflightConfig(recipe=recipe)
    return spec_of(config, home=run.home, inputs=inputs, runtime=recipe.runtime, engines=engines)
