"""Tasks 'train': on the teacher's answers (forward KL) and on the student's own samples (reverse KL)."""

from typing import Any

from paced.config import Arm
from paced.stage import Spec
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


def learning_config(run: Run, arm: Arm, objective: str, seed: int) -> dict[str, Any]:
    """What a step of an arm minimises: forward or reverse KL, or the arm's own loss on the same samples."""
    recipe = run.recipe
    loss = arm.loss or f"{objective}_kl"
    return {
        "objective": objective,
        "loss": loss,
        "jsd_share": (arm.jsd_share or 0.5) if loss == "jsd" else None,
        "temperature": recipe.consolidation.temperature if objective == "reverse" else 1.0,
        "seed": seed,
        "dtype": recipe.student.dtype,
        "teacher_dtype": recipe.teacher_model.dtype,
        "privileged": recipe.teacher.privileged,
        "thinking": recipe.thinking,
        "trust_remote_code": recipe.student.trust_remote_code,
        "teacher_trust_remote_code": recipe.teacher_model.trust_remote_code,
    }


def training_config(
    run: Run, arm: Arm, objective: str, seed: int, start: int, steps: int, draw_start: int, more: bool
) -> dict[str, Any]:
    """Steps ``start`` to ``start + steps`` of an arm's one schedule."""
    return learning_config(run, arm, objective, seed) | {
        "steps": steps,
        "start": start,
        "draw_start": draw_start,
        "more": more,
        "training": run.recipe.training.model_dump(mode="json"),
    }


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
    config = training_config(run, arm, "forward", seed, 0, steps, 0, more)
    inputs = {"problems": problems, "weights": weights, "answers": answers, "model": model}
    return Spec(stage="train", home=run.home, config=config, inputs=inputs, runtime=run.recipe.runtime)


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
    config = training_config(run, arm, "reverse", seed, start, steps, draw_start, more)
    inputs = {"problems": problems, "weights": weights, "rollouts": samples, "teacher": teacher, "model": model}
    if model.kind == "train":
        inputs["state"] = model
    return Spec(stage="train", home=run.home, config=config, inputs=inputs, runtime=run.recipe.runtime)
