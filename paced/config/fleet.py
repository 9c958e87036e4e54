"""Who draws a stage's samples and scores its targets beside the host that runs it. Imports no torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from paced.config.base import PositiveInt, Reach, Section

COPY, INDEX = "{copy}", "{index}"  # in a command template: a copy's command line, and its number from 0 on


class Fleet(Section):
    """Copies of one program that fill the shared store with what a stage wants (docs/scale.md).

    It says how fast a stage is and where it runs, so nothing of it enters an identity.
    """

    kind: Literal["local", "slurm", "command"] = Field(
        default="local", description="Processes of this host, an array job, or processes that a command starts."
    )
    copies: PositiveInt = Field(description="How many at most; a stage of fewer parts starts fewer.")
    command: Annotated[tuple[str, ...], Reach.PROGRAM] = Field(
        default=(),
        description="slurm: sbatch and its options. command: what starts a copy, with {copy} and, if wanted, {index}.",
    )
    scratch: Annotated[str | None, Reach.PLACE] = Field(
        default=None, description="Folder of each host for what a copy needs while it works; the system's own if unset."
    )
    here: bool = Field(default=False, description="This host computes, too, beside copies on others.")
    alone_after: PositiveInt | None = Field(
        default=600,
        description="Seconds without a copy at work after which this host does what is left; null: it never does.",
    )
    if_driver_dies: Literal["stop", "finish"] = Field(
        default="stop", description="What copies do when the run's own process dies: end soon, or finish the stage."
    )

    @model_validator(mode="after")
    def _command_of_its_kind(self) -> Self:
        if self.kind == "local" and self.command:
            raise ValueError("command has no effect with kind 'local': remove it, or set kind to command")
        if self.kind == "slurm" and not self.command:
            raise ValueError("kind 'slurm' needs command: [sbatch, --gpus=1, --time=24:00:00], with your options")
        if self.kind == "command" and not any(COPY in word for word in self.command):
            raise ValueError(
                f"command lacks the placeholder {COPY}, which a copy's command line takes the place of: write it as "
                f'command: [ssh, "gpu{INDEX}", "{COPY}"]'
            )
        if self.here and self.kind == "local":
            raise ValueError("here has no effect with kind 'local', whose copies have this host's devices: remove it")
        if self.here and self.changed("alone_after"):
            raise ValueError("alone_after has no effect with here: this host does its share in any case; remove one")
        return self

    @property
    def alone(self) -> bool:
        """Whether this host itself may come to sample and score."""
        return self.here or self.alone_after is not None
