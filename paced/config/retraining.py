"""When a champion is trained again on new files, and who is told. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field

from paced.config.base import Reach, Section


class Notify(Section):
    """Who is told of a promotion, a refused promotion and a failure."""

    command: Annotated[tuple[str, ...], Reach.PROGRAM] = Field(
        default=(), description="A program and its arguments; it gets the event as JSON on standard input. No shell."
    )
    webhook: str | None = Field(
        default=None, description="Name of a Webhook block of Prefect; it is sent the event as JSON."
    )


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
    forgetting_limit: Annotated[float, Field(ge=0)] | None = Field(
        default=2.0,
        description="Percentage points of retention that the whole 95% interval must not exceed; null: no limit.",
    )
    overlap: Literal["refuse", "queue"] = Field(
        default="refuse", description="What a retraining does while another one of the same model runs."
    )
    notify: Notify = Notify()
