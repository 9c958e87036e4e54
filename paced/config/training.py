"""Optimizer, schedule and the second training stage. Imports no torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from paced.config.base import Decay, PositiveInt, Section, Share, left_out_at


class Training(Section):
    """AdamW and its schedule; both stages of an arm run under one learning-rate decay."""

    steps: PositiveInt = 60
    batch: PositiveInt = Field(default=32, description="Problems a step.")
    weight_as: Literal["factor", "probability"] = Field(
        default="factor",
        exclude_if=left_out_at("factor"),
        description="A problem's weight multiplies its loss, or it is drawn as often as its weight says.",
    )
    learning_rate: float = Field(default=1e-6, gt=0)
    warmup: int = Field(default=10, ge=0, description="Steps.")
    final_share: Share = Field(default=0.1, description="Learning rate at the last step, as a share of the peak.")
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0, description="Largest gradient norm.")
    reduction: Literal["sequence", "token"] = "sequence"
    micro_batch_tokens: PositiveInt = Field(default=4096, description="Padded tokens in one forward pass.")
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations twice instead of keeping them: a third slower, far less memory."
    )
    compile: bool = Field(
        default=False,
        description="Compile the student's layers (torch.compile): minutes at first, for faster steps on a GPU.",
    )
    lora_rank: int = Field(
        default=0, ge=0, description="Of LoRA adapters on all linear layers (stacked experts have none); 0: none."
    )
    lora_alpha: float | None = Field(
        default=None, gt=0, description="Adapters count alpha / lora_rank; twice the rank if not set."
    )

    @property
    def adapter_alpha(self) -> float:
        return 2.0 * self.lora_rank if self.lora_alpha is None else self.lora_alpha

    @model_validator(mode="after")
    def _adapters(self) -> Self:
        if self.lora_alpha is not None and not self.lora_rank:
            raise ValueError("lora_alpha has no effect without lora_rank: set the rank, or remove it")
        return self

    @model_validator(mode="after")
    def _warm(self) -> Self:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup ({self.warmup}) must be below steps ({self.steps})")
        return self


class Consolidation(Section):
    """Stage 2: reverse KL on the student's own samples, the student refreshed each round (method section 4).

    The temperature is that of the two distributions which the loss compares, not of sampling. Stage 1 has none: its
    targets are stored at temperature 1.
    """

    steps: PositiveInt = Field(default=24, description="Of training.steps, for schedule two_stage.")
    rounds: PositiveInt = 2
    temperature: float = Field(default=1.0, gt=0, description="Divides both models' logits in the loss.")
    reestimate: Literal["never", "stage", "round"] = Field(
        default="stage",
        exclude_if=left_out_at("stage"),
        description="When pass rates are estimated again: never, after stage 1, or also before each further round.",
    )
    rescore: PositiveInt | None = Field(
        default=None, description="Problems on which pass rates are estimated again; all if not set."
    )
