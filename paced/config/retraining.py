"""When a champion is trained again on new files, and who is told. Imports no torch."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from paced.config.base import PositiveInt, Reach, Section


class Notify(Section):
    """Who is told of a promotion, a refused promotion and a failure."""

    command: Annotated[tuple[str, ...], Reach.PROGRAM] = Field(
        default=(), description="A program and its arguments; it gets the event as JSON on standard input. No shell."
    )
    webhook: str | None = Field(
        default=None, description="Name of a Webhook block of Prefect; it is sent the event as JSON."
    )
    webhook_secret: str | None = Field(
        default=None,
        description="Name of a Secret block of Prefect, with which what the webhook is sent is signed "
        "(docs/retraining.md).",
    )

    @model_validator(mode="after")
    def _signs_something(self) -> Self:
        if self.webhook_secret and not self.webhook:
            raise ValueError("webhook_secret has no effect without webhook: name one, or remove it")
        return self


def _twice(fields: dict[str, Any]) -> float | None:
    limit = fields.get("forgetting_limit")
    return None if limit is None else 2 * limit


class Retraining(Section):
    """When a challenger is trained on new files, and when it takes the champion's place (docs/retraining.md)."""

    watch: Annotated[str, Reach.PLACE] = Field(
        description="Folder, or object store such as s3://bucket/prefix, to look for files in."
    )
    files: Annotated[str, Field(pattern=r"\.(parquet|arrow|(jsonl|json|csv|tsv)(\.gz|\.zst)?)$")] = Field(
        default="*.jsonl", description="Which files count, as a pattern on the path below watch; * crosses folders."
    )
    settle: float = Field(
        default=10.0, ge=0, description="Seconds in which a new file must not change, or it is left for the next time."
    )
    least_problems: PositiveInt = Field(
        default=1, description="New problems there must be before anything is trained; until then files wait."
    )
    least_kept: PositiveInt = Field(
        default=1, description="Problems of positive weight there must be before anything is trained; else files wait."
    )
    drift_limit: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Distance of the new problems from those before, from 0 to 1 (docs/retraining.md), past which "
        "nothing is trained until the limit is raised or taken away; null: it is only told.",
    )
    pool_days: float = Field(
        default=28.0,
        ge=0,
        description="Days in which files that brought no promotion are trained on again with the next new ones.",
    )
    forgetting_limit: Annotated[float, Field(ge=0)] | None = Field(
        default=2.0,
        description="Percentage points of retention that a challenger may lose against its champion, the whole 95% "
        "interval; null: no limit.",
    )
    total_forgetting_limit: Annotated[float, Field(ge=0)] | None = Field(
        default_factory=_twice,
        description="Percentage points of retention that it may have lost in all since the first student; null: no "
        "limit; twice forgetting_limit if not set.",
    )
    first: PositiveInt | None = Field(
        default=None,
        description="Version against which total_forgetting_limit counts; the recipe's student if not set.",
    )
    false_promotions: Annotated[float, Field(gt=0, le=0.5)] | None = Field(
        default=0.05,
        description="Chance, over all challengers of one champion together, that one takes its place without being "
        "better; null: each is judged by itself at 95%.",
    )
    approval: bool = Field(
        default=False, description="A challenger that passes waits for a person, who says paced promote MODEL VERSION."
    )
    overlap: Literal["refuse", "queue"] = Field(
        default="refuse", description="What a retraining does while another one of the same model runs."
    )
    notify: Notify = Notify()

    @model_validator(mode="after")
    def _effective(self) -> Self:
        if self.first is not None and self.total_forgetting_limit is None:
            raise ValueError("first has no effect without total_forgetting_limit: set that, or remove it")
        return self
