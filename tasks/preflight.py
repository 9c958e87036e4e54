"""Task 'preflight': models, templates, contexts and disk are checked before anything expensive."""

from paced.stage import Spec
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


@stage_task
def preflight(
    run: Run, label: str, student: Ref, teacher: Ref, problems: dict[str, Ref], benchmarks: dict[str, Ref]
) -> Spec:
    """``problems`` by seed, ``benchmarks`` by name."""
    config = {"recipe": run.recipe.settings()}
    inputs = {"student": student, "teacher": teacher}
    inputs |= {f"problems/{seed}": ref for seed, ref in problems.items()}
    inputs |= {f"benchmark/{name}": ref for name, ref in benchmarks.items()}
    engines = {"student": run.recipe.student.engine, "teacher": run.recipe.teacher_model.engine}
    return Spec(
        stage="preflight", home=run.home, config=config, inputs=inputs, runtime=run.recipe.runtime, engines=engines
    )
