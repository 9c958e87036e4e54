"""A whole recipe, and the rules that its sections have to keep together. Imports no torch."""

import logging
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from paced.config.arms import Arm, TrainingStages, Weights, reestimated, stages_of, weighting
from paced.config.base import Device, JsonObject, PositiveInt, Reach, Section, Seed
from paced.config.catalog import SCHEDULES, WEIGHTINGS
from paced.config.data import Data, Decontamination
from paced.config.evaluation import Evaluation
from paced.config.fleet import Fleet
from paced.config.models import Engine, Model, Teacher
from paced.config.sampling import Answers, Rollouts
from paced.config.training import Consolidation, Training
from paced.config.upgrade import VERSION, upgraded

logger = logging.getLogger(__name__)


class Runtime(Section):
    """Where and how fast; nothing here enters an identity, but bits depend on ``threads``."""

    device: Device = "auto"
    threads: PositiveInt | None = Field(default=None, description="CPU threads a process; torch's choice if not set.")
    accelerate: Annotated[str | None, Reach.PLACE] = Field(
        default=None, description="Train on several devices: an accelerate configuration file, see recipes/accelerate/."
    )
    processes: PositiveInt = Field(default=1, description="Stage processes at once on this host.")
    sample_rows: PositiveInt = Field(
        default=64, description="Sequences sampled at once; vLLM and servers do best with 256 and more."
    )
    part_problems: PositiveInt = Field(default=256, description="Problems a stored part: what a kill can cost.")
    checkpoint_every: PositiveInt = Field(default=20, description="Training steps between checkpoints.")
    fleet: Fleet | None = Field(
        default=None, description="Copies, on this host or on others, that sample and score for a run: docs/scale.md."
    )


class Recipe(Section):
    """A whole run: data, models, arms and seeds."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]*$")]
    recipe_version: Annotated[int, Field(ge=1, le=VERSION)] = Field(
        default=VERSION, description="Which release's names it uses; those of the one before are read with a warning."
    )
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    data: Data
    decontamination: Decontamination = Decontamination()
    student: Model
    teacher: Teacher = Teacher()
    thinking: bool | None = Field(
        default=None, description="For chat templates that have a thinking mode (Qwen3): on or off, for both models."
    )
    rollouts: Rollouts = Rollouts()
    weights: Weights = Weights()
    answers: Answers = Answers()
    training: Training = Training()
    consolidation: Consolidation = Consolidation()
    arms: tuple[Arm, ...] = Field(default=(Arm(name="paced"),), min_length=1)
    evaluation: Evaluation
    runtime: Runtime = Runtime()

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, tree: Any) -> Any:
        found, told = upgraded(tree)
        for line in told:
            logger.warning("%s", line)
        return found

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for rule in RULES:
            if fault := rule(self):
                raise ValueError(fault)
        return self

    def stages_of(self, arm: Arm) -> TrainingStages:
        """The steps of an arm's training stages."""
        return stages_of(arm.schedule, self.training, self.consolidation)

    def reestimated(self, arm: Arm) -> list[int]:
        """The rounds of an arm's stage 2 before which its pass rates are estimated again."""
        return reestimated(self.stages_of(arm), self.consolidation)

    @property
    def schemes(self) -> set[str]:
        return {arm.scheme for arm in self.arms}

    @property
    def teacher_answers(self) -> bool:
        """Whether any arm learns from the teacher's answers."""
        return any(SCHEDULES[arm.schedule].forward for arm in self.arms)

    def settings(self) -> JsonObject:
        """All settings but those that only say where and how fast: ``runtime`` and each ``engine.python``."""
        python = {"engine": {"python"}}
        apart = {"recipe_version": True, "runtime": True, "student": python, "teacher": python}
        return self.model_dump(mode="json", exclude=apart)

    def weights_of(self, arm: Arm) -> Weights:
        """The settings of an arm's weights: the recipe's, with the arm's own exponents if it has any."""
        return self.weights.with_exponents(arm.exponents)

    @property
    def teacher_model(self) -> Model:
        """The teacher's folder and precision, the student's own if the teacher names none."""
        if self.teacher.path is None:
            return self.student
        return Model.model_validate(self.teacher.model_dump(include=set(Model.model_fields)))


def _names(recipe: Recipe) -> str | None:
    names = [a.name for a in recipe.arms]
    if len(set(names)) < len(names) or "base" in names:
        return f"arms need distinct names other than 'base': {', '.join(names)}"
    return None


def _seeds(recipe: Recipe) -> str | None:
    return f"seeds repeat: {recipe.seeds}" if len(set(recipe.seeds)) < len(recipe.seeds) else None


def _steps_for_both_stages(recipe: Recipe) -> str | None:
    both = any(SCHEDULES[a.schedule].forward and SCHEDULES[a.schedule].reverse for a in recipe.arms)
    if both and recipe.consolidation.steps >= recipe.training.steps:
        return (
            f"consolidation.steps ({recipe.consolidation.steps}) must be below training.steps "
            f"({recipe.training.steps}): stage 1 needs steps of its own"
        )
    return None


def _steps_for_rounds(recipe: Recipe) -> str | None:
    steps = max(recipe.stages_of(arm).reverse for arm in recipe.arms)
    if steps and recipe.consolidation.rounds > steps:
        return f"consolidation.rounds ({recipe.consolidation.rounds}) exceeds its {steps} steps"
    return None


def _reestimate(recipe: Recipe) -> str | None:
    own, usual = recipe.consolidation, recipe.consolidation.model_copy(update={"reestimate": "stage"})
    steps = [recipe.stages_of(arm) for arm in recipe.arms]
    if own != usual and all(reestimated(s, own) == reestimated(s, usual) for s in steps):
        needed = "schedule two_stage" if own.reestimate == "never" else "several rounds of stage 2"
        return f"consolidation.reestimate '{own.reestimate}' has no effect: no arm has {needed}"
    if own.reestimate == "never" and own.rescore:
        return "consolidation.rescore has no effect with reestimate 'never': set it to null"
    return None


def _settings_of_weightings(recipe: Recipe) -> str | None:
    """A setting of a weighting that no arm uses."""
    read = {field for scheme in recipe.schemes for field in weighting(scheme).reads}
    for scheme, record in WEIGHTINGS.items():
        if changed := [field for field in recipe.weights.changed(*record.reads) if field not in read]:
            return f"weights.{changed[0]} has no effect: no arm uses scheme '{scheme}'"
    options = {name for scheme in recipe.schemes for name in weighting(scheme).options}
    if unread := [row.name for row in recipe.weights.options if row.name not in options]:
        return f"weights.options: {unread[0]} has no effect: no arm uses a scheme with this option"
    return None


def _exponents_of_the_recipe(recipe: Recipe) -> str | None:
    shaped = [a for a in recipe.arms if weighting(a.scheme).takes_exponents]
    if recipe.weights.changed("alpha", "beta") and all(a.exponents for a in shaped):
        return "weights.alpha and weights.beta have no effect: every arm has exponents of its own"
    return None


def _needs_pass_rates(recipe: Recipe) -> str | None:
    """A setting of weights in general, where no arm has any but equal ones."""
    found = {
        "weights.floor": recipe.weights.floor,
        "rollouts.verdict_noise": recipe.rollouts.verdict_noise,
        "training.weight_as": recipe.training.weight_as != "factor",
    }
    if all(weighting(scheme).keeps_all for scheme in recipe.schemes):
        return next(
            (f"{name} has no effect: every arm gives all problems the same weight" for name in found if found[name]),
            None,
        )
    return None


def _normalise(recipe: Recipe) -> str | None:
    if recipe.training.reduction == "token" and recipe.weights.normalise == "all":
        return (
            "weights.normalise 'all' has no effect with training.reduction 'token', which divides by the sum of "
            "weights: use reduction 'sequence' or normalise 'kept'"
        )
    return None


def _student_changes(recipe: Recipe) -> str | None:
    if recipe.student.engine.record.remote:
        return (
            "student.engine.kind: a server goes on serving the model it was started with, but the student changes: "
            "use vllm"
        )
    return None


def _device_memory(recipe: Recipe) -> str | None:
    models = (recipe.student, recipe.teacher_model)
    own, other = (m.engine.memory_share if "memory_share" in m.engine.record.reads else 0.0 for m in models)
    # Teacher stages take turns (flows/distill.py): among those that run at once there is one at most.
    most = (recipe.runtime.processes - 1) * own + max(own, other)
    if recipe.runtime.device != "cpu" and most > 1:
        return (
            f"engine.memory_share: {recipe.runtime.processes} stages at once (runtime.processes) would take "
            f"{most:.0%} of a device's memory: lower one of the two"
        )
    return None


def _teacher_engine(recipe: Recipe) -> str | None:
    if recipe.teacher.engine != Engine() and not recipe.teacher_answers:
        return "teacher.engine has no effect: with schedule 'reverse' the teacher only scores"
    return None


def _capture(recipe: Recipe) -> str | None:
    if recipe.answers.capture and not recipe.teacher_answers:
        return "answers.capture has no effect: with schedule 'reverse' the teacher only scores"
    engine = recipe.teacher_model.engine
    if recipe.answers.capture and not engine.record.captures:
        return (
            f"answers.capture: engine '{engine.kind}' gives no distributions: set the teacher's engine.kind to vllm, "
            "or remove it"
        )
    return None


def _something_to_learn(recipe: Recipe) -> str | None:
    if recipe.data.record.choices:
        return f"data: source '{recipe.data.source}' has no responses to learn from; it is a benchmark"
    return None


def _decontamination(recipe: Recipe) -> str | None:
    if recipe.data.generated and recipe.decontamination.changed("enabled", "words", "share"):
        return "decontamination has no effect with source 'tiny', which is drawn apart from its benchmarks"
    return None


def _reference_solutions(recipe: Recipe) -> str | None:
    if recipe.data.source == "tiny" and recipe.teacher.privileged:
        return "teacher.privileged needs problems with reference solutions; the tiny world has none"
    return None


Rule = Callable[[Recipe], str | None]
# What is wrong with a recipe whose sections are each in order, None if nothing is; the first fault is told.
RULES: tuple[Rule, ...] = (
    _names,
    _seeds,
    _steps_for_both_stages,
    _steps_for_rounds,
    _reestimate,
    _settings_of_weightings,
    _exponents_of_the_recipe,
    _needs_pass_rates,
    _normalise,
    _student_changes,
    _device_memory,
    _teacher_engine,
    _capture,
    _something_to_learn,
    _decontamination,
    _reference_solutions,
)
