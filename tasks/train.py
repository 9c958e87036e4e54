"""Tasks 'train': on the teacher's answers (forward KL) and on the student's own samples (reverse KL)."""

from paced.config import Arm, Recipe
from paced.config.arms import loss_record
from paced.config.stages import LearningFields, ObjectiveName, TrainConfig, model_fields
from paced.stage import Spec, spec_of
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


def learning_fields(recipe: Recipe, arm: Arm, objective: ObjectiveName, seed: int) -> LearningFields:
    """What a step of an arm minimises: forward or reverse KL, or the arm's own loss on the same samples."""
    loss = arm.loss or ("forward_kl" if objective == "forward" else "reverse_kl")
    return {
        **model_fields(recipe, recipe.student),
        "objective": objective,
        "loss": loss,
        "jsd_share": (arm.jsd_share or 0.5) if "jsd_share" in loss_record(loss).parameters else None,
        "temperature": recipe.consolidation.temperature if objective == "reverse" else 1.0,
        "seed": seed,
        "teacher_dtype": recipe.teacher_model.dtype,
        "privileged": recipe.teacher.privileged,
        "teacher_trust_remote_code": recipe.teacher_model.trust_remote_code,
    }


def training_config(
    recipe: Recipe, arm: Arm, objective: ObjectiveName, seed: int, start: int, steps: int, draw_start: int, more: bool
) -> TrainConfig:
    """Steps ``start`` to ``start + steps`` of an arm's one schedule."""
    return TrainConfig(
        **learning_fields(recipe, arm, objective, seed),
        steps=steps,
        start=start,
        draw_start=draw_start,
        more=more,
        training=recipe.training,
    )


@stage_task
def train_forward(
    run: Run,
    label: str,
    arm: Arm,
    seed: int,
    steps: int,
    more: bool,
    problems: Ref,
    weights: Ref,
    answers: Ref,
    model: Ref,
) -> Spec:
    """Weighted forward KL, or the arm's own loss, from the cached targets."""
    config = training_config(run.recipe, arm, "forward", seed, 0, steps, 0, more)
    inputs = {"problems": problems, "weights": weights, "answers": answers, "model": model}
    return spec_of(config, home=run.home, inputs=inputs, runtime=run.recipe.runtime)


@stage_task
def train_reverse(
    run: Run,
    label: str,
    arm: Arm,
    seed: int,
    start: int,
    steps: int,
    draw_start: int,
    more: bool,
    problems: Ref,
    weights: Ref,
    samples: Ref,
    teacher: Ref,
    model: Ref,
) -> Spec:
    """Weighted reverse KL, or the arm's own loss, against the resident teacher.

    A student trained before brings its optimizer moments.
    """
    config = training_config(run.recipe, arm, "reverse", seed, start, steps, draw_start, more)
    inputs = {"problems": problems, "weights": weights, "rollouts": samples, "teacher": teacher, "model": model}
    if model.kind == "train":
        inputs["state"] = model
    return spec_of(config, home=run.home, inputs=inputs, runtime=run.recipe.runtime)
