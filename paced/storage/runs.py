"""What ``run.json`` says of a stage, and ``summary.json`` of a run. Imports no torch."""

from typing import Annotated, Any, NotRequired, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from paced.config.label import Label
from paced.storage.tables import Row


def _label(value: Label | str) -> Label:
    return Label.parse(value) if isinstance(value, str) else value


class Entry(BaseModel):
    """One stage of a run."""

    model_config = ConfigDict(frozen=True)
    label: Annotated[Label, BeforeValidator(_label), PlainSerializer(str)]
    stage: str
    arm: str | None = None
    seed: int | None = None
    path: str
    identity: str
    cached: bool = False
    seconds: float = 0.0
    counts: dict[str, float] = {}

    @property
    def step(self) -> str:
        """What the stage is for, without its round: ``sample`` of ``sample_1``."""
        return self.label.purpose or self.stage


class StageSummary(TypedDict):
    """One stage of a run; ``reused`` and ``computed`` are rows of the store."""

    name: str
    identity: str
    cached: bool
    reused: int
    computed: int
    seconds: float


class ComparisonSummary(TypedDict):
    """Arms judged on the same problems, of one run or of several.

    ``arms`` holds the scores, costs and settings of each arm; ``comparisons`` the paired differences a - b.
    """

    name: str
    status: str
    benchmarks: list[Row]
    arms: dict[str, Row]
    comparisons: list[Row]
    warnings: list[str]


class RunSummary(ComparisonSummary):
    """``summary.json``; ``data`` is what was left out of each data set."""

    seeds: list[int]
    data: dict[str, Row]
    stages: list[StageSummary]
    diagnosis: NotRequired[Any]
