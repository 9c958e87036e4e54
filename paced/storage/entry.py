"""What ``run.json`` says of one stage. Imports no torch."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from paced.config.label import Label


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
