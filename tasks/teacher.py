"""Task 'teacher': answers and sparse targets where the weight is positive."""

from paced.stage import Spec
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


@stage_task
def teacher_answers(run: Run, label: str, seed: int, problems: Ref, weights: Ref, teacher: Ref, student: Ref) -> Spec:
    """The teacher answers the weighted problems; its distributions along the answers are stored."""
    model = run.recipe.teacher_model
    config = {
        "answers": run.recipe.answers.model_dump(mode="json"),
        "seed": seed,
        "dtype": model.dtype,
        "privileged": run.recipe.teacher.privileged,
        "thinking": run.recipe.thinking,
        "trust_remote_code": model.trust_remote_code,
        "student_trust_remote_code": run.recipe.student.trust_remote_code,
    }
    inputs = {"problems": problems, "weights": weights, "teacher": teacher, "student": student}
    return Spec(
        stage="teacher", home=run.home, config=config, inputs=inputs, runtime=run.recipe.runtime, engine=model.engine
    )
