"""The students to train: their weights, losses and schedules. Imports no torch."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from paced.config.base import Exponent, JsonObject, Loss, Schedule, Scheme, Section, Share, left_out_at
from paced.config.catalog import LOSSES, SCHEDULES, LossRecord, WeightingRecord
from paced.config.extensions import find
from paced.config.training import Consolidation, Training


def weighting(scheme: Scheme) -> WeightingRecord:
    """What is known of a weighting, built in or of an installed package."""
    return find("weighting", scheme)


def loss_record(loss: Loss) -> LossRecord:
    """What is known of a loss, built in or of an installed package."""
    return find("loss", loss)


def fields_read(schemes: Sequence[Scheme]) -> set[str]:
    """The fields of section ``weights`` that these schemes read, but ``options``."""
    records = [weighting(scheme) for scheme in schemes]
    levelled = {"normalise"} if all(r.keeps_all for r in records) else {"normalise", "floor"}
    return levelled.union(*(r.reads for r in records))


class WeightingOption(Section):
    """A number that a weighting of an installed package reads."""

    name: str
    value: float


class Weights(Section):
    """Stage 'weights': the Beta kernel w(p) = p^alpha (1-p)^beta and its baselines (method section 2)."""

    alpha: Exponent = 1.0
    beta: Exponent = 1.0
    low: Share = Field(default=0.2, description="hard_filter keeps pass rates in [low, high].")
    high: Share = 0.8
    shrinkage: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="Beta(a0, b0) prior: the weight is the posterior expectation of the kernel."
    )
    normalise: Literal["kept", "all"] = Field(
        default="kept", description="Mean 1 over the problems of positive weight, or over all."
    )
    floor: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        exclude_if=left_out_at(0.0),
        description="Share of all weight that is spread evenly over the problems with a known verdict.",
    )
    options: tuple[WeightingOption, ...] = Field(
        default=(),
        exclude_if=left_out_at(()),
        description="Numbers that a package's own weighting reads. In a file also as {name: number}.",
    )

    @field_validator("options", mode="before")
    @classmethod
    def _rows(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        numbers: dict[Any, Any] = value
        return [{"name": name, "value": numbers[name]} for name in sorted(numbers, key=str)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high}): hard_filter would keep nothing")
        if len({row.name for row in self.options}) < len(self.options):
            raise ValueError("options names one twice")
        return self

    def with_exponents(self, pair: tuple[float, float] | None) -> "Weights":
        """The same with other alpha and beta, if they are given."""
        return self if pair is None else self.model_copy(update={"alpha": pair[0], "beta": pair[1]})

    def settings_of(self, scheme: Scheme) -> JsonObject:
        """What the weighting reads: its fields of this section, and its options, as they are set or by default."""
        record, given = weighting(scheme), {row.name: row.value for row in self.options}
        fields = {name: getattr(self, name) for name in record.reads}
        return fields | {name: given.get(name, default) for name, default in record.options.items()}

    def read_by(self, schemes: Sequence[Scheme]) -> JsonObject:
        """The settings that these schemes read; the others change nothing."""
        records = [weighting(scheme) for scheme in schemes]
        found = self.model_dump(mode="json", include=fields_read(schemes))
        read = [row for row in self.options if any(row.name in r.options for r in records)]
        options: list[JsonValue] = [row.model_dump() for row in read]
        return {**found, "options": options} if options else found


class Arm(Section):
    """One student to train: which weights, and which losses in which order."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    scheme: Scheme = "beta"
    schedule: Schedule = "two_stage"
    exponents: tuple[Exponent, Exponent] | None = Field(
        default=None, description="alpha and beta of this arm; weights.alpha and weights.beta if not set (beta)."
    )

    loss: Loss | None = Field(
        default=None, description="In every stage of this arm; forward KL in stage 1, reverse KL in stage 2 if not set."
    )
    jsd_share: float | None = Field(
        default=None, gt=0, lt=1, description="The teacher's share of the mixture in loss jsd; 0.5 if not set."
    )

    @model_validator(mode="after")
    def _effective(self) -> Self:
        if self.exponents is not None and not weighting(self.scheme).takes_exponents:
            raise ValueError(f"exponents has no effect with scheme '{self.scheme}': remove it")
        read = loss_record(self.loss).parameters if self.loss else {}
        known = {field for record in LOSSES.values() for field in record.parameters}
        if unread := [field for field in self.changed(*sorted(known)) if field not in read]:
            raise ValueError(f"{unread[0]} has no effect with loss '{self.loss or 'not set'}': remove it")
        return self


class TrainingStages(NamedTuple):
    """Optimizer steps on the teacher's answers, steps on own samples, and the rounds in which those are drawn."""

    forward: int
    reverse: int
    rounds: int

    def round(self, number: int) -> tuple[int, int]:
        """First and last step of a round, counted from the first step on own samples."""
        return self.reverse * number // self.rounds, self.reverse * (number + 1) // self.rounds


def reestimated(steps: TrainingStages, consolidation: Consolidation) -> list[int]:
    """The rounds before which pass rates are estimated again; without stage 1 those of the base hold in the first."""
    first = [0] if steps.forward and steps.reverse and consolidation.reestimate != "never" else []
    return [*first, *range(1, steps.rounds if consolidation.reestimate == "round" else 1)]


def stages_of(schedule: Schedule, training: Training, consolidation: Consolidation) -> TrainingStages:
    """The training stages that a schedule divides an arm's steps into."""
    record = SCHEDULES[schedule]
    reverse = 0 if not record.reverse else consolidation.steps if record.forward else training.steps
    return TrainingStages(training.steps - reverse, reverse, consolidation.rounds if reverse else 0)
