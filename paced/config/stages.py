"""The configuration of every stage: what its task builds and its program reads. Imports no torch.

A field here changes the stage's result, so what is given for it enters the identity. A key that is missing, misspelt or
of a wrong type is an error of the type checker where a task builds the object, and of pydantic when it is built: before
anything is paid for.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from paced.config import (
    Answers,
    Data,
    Decontamination,
    Loss,
    Model,
    Precision,
    Recipe,
    Sampling,
    Scheme,
    Training,
    Weights,
)
from paced.config.base import JsonObject, left_out_at

ObjectiveName = Literal["forward", "reverse"]


class StageConfig(BaseModel):
    """Base of every stage's configuration: frozen, unknown keys and numbers that are not finite refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def settings(self) -> JsonObject:
        """What enters the identity, as JSON: the fields that were given, each of them whole.

        A field that was left at its default is absent, so that a new one with a default keeps the old identities.
        """
        return self.model_dump(mode="json", include=self.model_fields_set)


class PrepareConfig(StageConfig):
    """Stage 'prepare': a data set; ``split`` names the benchmark, or is ``train``.

    ``data.path`` is ``file`` where there is one, because the file is an input. ``decontamination`` is None for a
    benchmark, which is taken as it is.
    """

    data: Data
    split: str
    decontamination: Decontamination | None


class PreflightConfig(StageConfig):
    """Stage 'preflight': the whole recipe but what changes no result."""

    recipe: Recipe

    @field_serializer("recipe")
    def _what_counts(self, recipe: Recipe) -> JsonObject:
        return recipe.settings()


class ModelFields(TypedDict):
    """What every stage that holds a model's weights is given of the recipe."""

    dtype: Precision
    thinking: bool | None
    trust_remote_code: bool


def model_fields(recipe: Recipe, model: Model) -> ModelFields:
    """Of the recipe's student or teacher."""
    return {"dtype": model.dtype, "thinking": recipe.thinking, "trust_remote_code": model.trust_remote_code}


class ModelStageConfig(StageConfig):
    """Base of the stages that hold a model's weights."""

    dtype: Precision
    thinking: bool | None
    trust_remote_code: bool

    def model(self, folder: Path) -> Model:
        """The stage's model, whose files lie in ``folder``, in the precision that it is computed in."""
        return Model(path=str(folder), dtype=self.dtype, trust_remote_code=self.trust_remote_code)


class Draw(BaseModel):
    """The problems that ``number`` draws from draw ``start`` on will touch (paced.batching.draws).

    ``by_weight`` says that they are drawn as often as their weights say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    seed: int
    start: int
    number: int
    by_weight: bool = Field(default=False, exclude_if=left_out_at(False))


class RolloutsConfig(ModelStageConfig):
    """Stage 'rollouts': ``samples`` responses to each problem, to the ``first`` ones, or to those of a ``draw``."""

    samples: int
    sampling: Sampling
    seed: int
    first: int | None = None
    draw: Draw | None = None


class WeightsConfig(StageConfig):
    """Stage 'weights': a scheme and, of the settings of weights, those that it reads; with the rollouts' noise."""

    scheme: Scheme
    weights: Weights
    verdict_noise: float = Field(default=0.0, exclude_if=left_out_at(0.0))

    @field_serializer("weights")
    def _read(self, weights: Weights) -> JsonObject:
        return weights.read_by([self.scheme])


class TeacherConfig(ModelStageConfig):
    """Stage 'teacher'; the tokenizer that writes the prompts is the student's."""

    answers: Answers
    seed: int
    privileged: bool
    student_trust_remote_code: bool


class LearningFields(ModelFields):
    """What every stage that forms the loss of an arm is given."""

    objective: ObjectiveName
    loss: Loss
    jsd_share: float | None
    temperature: float
    seed: int
    teacher_dtype: Precision
    privileged: bool
    teacher_trust_remote_code: bool


class LearningConfig(ModelStageConfig):
    """What a training step minimises: ``loss`` is formed at ``temperature``; the model is the student."""

    objective: ObjectiveName
    loss: Loss
    jsd_share: float | None
    temperature: float
    seed: int
    teacher_dtype: Precision
    privileged: bool
    teacher_trust_remote_code: bool


class TrainConfig(LearningConfig):
    """Stage 'train'.

    ``start`` is the first step under the arm's one schedule of ``training.steps``, ``draw_start`` the first draw of
    this objective; ``more`` says that another training stage follows, which needs fp32 weights and the moments.
    """

    steps: int
    start: int
    draw_start: int
    more: bool
    training: Training


class DiagnoseConfig(LearningConfig):
    """Stage 'diagnose'; ``samples`` is the G behind the pass rates, ``dimensions`` the numbers kept of a gradient."""

    reduction: Literal["sequence", "token"]
    gradient_checkpointing: bool
    samples: int
    weights: Weights
    dimensions: int = 2048


class EvaluateConfig(ModelStageConfig):
    """Stage 'evaluate'; ``samples`` by benchmark, where its problems are sampled."""

    samples: dict[str, int]
    sampling: Sampling
    seed: int


class ComparedBenchmark(BaseModel):
    """A benchmark's name, and whether it measures forgetting rather than the skill trained for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    retention: bool = False


class CompareConfig(StageConfig):
    """Stage 'compare'; ``pairs`` are arm names (a, b), compared as a - b."""

    benchmarks: tuple[ComparedBenchmark, ...]
    pairs: tuple[tuple[str, str], ...]


def compare_config(recipe: Recipe, pairs: Iterable[tuple[str, str]]) -> CompareConfig:
    """The comparison of these arms on the benchmarks of a recipe."""
    benchmarks = (ComparedBenchmark(name=b.name, retention=b.retention) for b in recipe.evaluation.benchmarks)
    return CompareConfig(benchmarks=tuple(benchmarks), pairs=tuple(pairs))
