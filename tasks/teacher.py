"""Task 'teacher': answers and sparse targets where the weight is positive."""

from paced.config.stages import TeacherConfig, model_fields
from paced.stage import Spec, spec_of
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


@stage_task
def teacher_answers(run: Run, label: str, seed: int, problems: Ref, weights: Ref, teacher: Ref, student: Ref) -> Spec:
    """The teacher answers the weighted problems; its distributions along the answers are stored."""
    model = run.recipe.teacher_model
    config = TeacherConfig(
        **model_fields(run.recipe, model),
        answers=run.recipe.answers,
        seed=seed,
        privileged=run.recipe.teacher.privileged,
        student_trust_remote_code=run.recipe.student.trust_remote_code,
    )
    inputs = {"problems": problems, "weights": weights, "teacher": teacher, "student": student}
    return spec_of(config, home=run.home, inputs=inputs, runtime=run.recipe.runtime, engine=model.engine)
