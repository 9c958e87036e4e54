"""Task 'diagnose': the gradient of every problem, and its signal-to-noise ratio by pass rate."""

from paced.config import Recipe
from paced.config.stages import DiagnoseConfig, ObjectiveName
from paced.stage import Spec, spec_of
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task
from paced_tasks.train import learning_fields


def objective(recipe: Recipe) -> ObjectiveName:
    """Whose samples the recipe's last arm begins with: the teacher's answers, or the student's own."""
    return "reverse" if recipe.arms[-1].schedule == "reverse" else "forward"


@stage_task
def diagnose(
    run: Run, label: str, seed: int, problems: Ref, weights: Ref, model: Ref, learnt_from: dict[str, Ref]
) -> Spec:
    """``learnt_from``: the teacher's answers, or the student's rollouts and the teacher."""
    recipe = run.recipe
    config = DiagnoseConfig(
        **learning_fields(recipe, recipe.arms[-1], objective(recipe), seed),
        reduction=recipe.training.reduction,
        gradient_checkpointing=recipe.training.gradient_checkpointing,
        samples=recipe.rollouts.samples,
        weights=recipe.weights,
    )
    inputs = {"problems": problems, "weights": weights, "model": model, **learnt_from}
    return spec_of(config, home=run.home, inputs=inputs, runtime=recipe.runtime)
