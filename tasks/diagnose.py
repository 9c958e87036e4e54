"""Task 'diagnose': the gradient of every problem, and its signal-to-noise ratio by pass rate."""

from paced.artifacts import Ref
from paced.config import Recipe
from paced.stage import Spec
from tasks.run import Run
from tasks.stage import stage_task


def objective(recipe: Recipe) -> str:
    """The loss that the recipe's last arm begins with."""
    return "reverse" if recipe.arms[-1].schedule == "reverse" else "forward"


@stage_task
def diagnose(
    run: Run, label: str, seed: int, problems: Ref, weights: Ref, model: Ref, learnt_from: dict[str, Ref]
) -> Spec:
    """``learnt_from``: the teacher's answers, or the student's rollouts and the teacher."""
    recipe, teacher = run.recipe, run.recipe.teacher_model
    config = {
        "objective": objective(recipe),
        "reduction": recipe.training.reduction,
        "samples": recipe.rollouts.samples,
        "weights": recipe.weights.model_dump(mode="json"),
        "seed": seed,
        "dtype": recipe.student.dtype,
        "teacher_dtype": teacher.dtype,
        "privileged": recipe.teacher.privileged,
        "thinking": recipe.thinking,
        "trust_remote_code": recipe.student.trust_remote_code,
        "teacher_trust_remote_code": teacher.trust_remote_code,
    }
    inputs = {"problems": problems, "weights": weights, "model": model, **learnt_from}
    return Spec(stage="diagnose", home=run.home, config=config, inputs=inputs, runtime=recipe.runtime)
