"""The student with its loss, what each of its tokens counts in a step, and a check before the first step.

Losses are summed over tokens and divided once by one denominator for the optimizer step, so splitting a step
differently gives the same gradient (method section 7).
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from paced.config import Precision
from paced.distill.objectives import Objective, TrainingSample
from paced.errors import ConfigError, EngineError
from paced.losses import Divergence, fused_loss
from paced.models import DTYPES, layers, projection, response_hidden


class Student(nn.Module):
    """The student and its loss in one module, so that sharded parameters are whole while either is computed."""

    def __init__(self, model: PreTrainedModel, size: int, precision: Precision, temperature: float = 1.0):
        super().__init__()
        self.model, self.size, self.dtype, self.temperature = model, size, DTYPES[precision], temperature

    def forward(
        self, samples: Sequence[TrainingSample], shares: Tensor, divergence: Divergence
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of the divergence over response tokens, and its value at each (paced.losses.fused_loss)."""
        device = shares.device.type
        # Without its cache: each weight is used once, and a copy of each would live until the forward pass ends.
        with torch.autocast(device, self.dtype, enabled=self.dtype != torch.float32, cache_enabled=False):
            hidden = response_hidden(self.model, [s.prompt for s in samples], [s.response for s in samples])
        with torch.autocast(device, enabled=False):  # autocast keeps the residual stream in fp32
            head = projection(self.model, self.size, self.temperature)
            return fused_loss(hidden.to(self.dtype), head, shares, divergence)


def recompute_activations(model: PreTrainedModel) -> None:
    """Keep only the input of each layer for the backward pass and compute the rest again: memory for time.

    The library's own way needs training mode, in which dropout and noise are on and targets would be missed.

    Raises:
        ConfigError: the model has no layers that are known to repeat.
    """
    found = layers(model)
    if not found:
        raise ConfigError(
            f"training.gradient_checkpointing: the layers of {model.name_or_path} are not known: set it to false"
        )
    for layer in found:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def coefficients(samples: Sequence[TrainingSample], denominator: float, reduction: str) -> list[float]:
    """What each response token counts: w / denominator (token), or w / (length * denominator) (sequence). [N]."""
    return [
        s.weight / denominator / (len(s.response) if reduction == "sequence" else 1)
        for s in samples
        for _ in s.response
    ]


def denominator(samples: Sequence[TrainingSample], reduction: str) -> float:
    """One number for the whole optimizer step: the sequences in it, or the sum of w over its tokens."""
    return float(len(samples)) if reduction == "sequence" else sum(s.weight * len(s.response) for s in samples)


def canary(student: Student, objective: Objective, samples: Sequence[TrainingSample], device: torch.device) -> None:
    """Before the first step: other teacher distributions must give another loss, else nothing would be learnt.

    Raises:
        EngineError: they give the same loss to the last bit.
    """
    shares = torch.ones(sum(len(s.response) for s in samples), device=device)
    with torch.no_grad():
        losses = [student(samples, shares, objective.divergence(samples, shift))[0].item() for shift in (0, 1)]
    if losses[0] == losses[1]:
        raise EngineError(
            f"the loss of the first batch ({losses[0]}) does not depend on the teacher's distributions: nothing would "
            "be learnt; check the stored targets with 'paced cache verify'"
        )


def check_recomputed(
    student: Student, samples: Sequence[TrainingSample], values: Tensor, divergence: Divergence
) -> None:
    """Before the first step: a pass that keeps what its gradient needs must give what a pass without gradients gives.

    Args:
        values: of the divergence at each position, found with gradients. [N]

    Raises:
        EngineError: they differ, as where dropout or noise is on in training only.
    """
    with torch.no_grad():
        plain = student(samples, torch.zeros_like(values), divergence)[1]
    if not torch.allclose(values.float(), plain.float(), rtol=1e-3, atol=1e-5):
        raise EngineError(
            f"the loss of the first batch is {float(values.mean()):.6g} a token with gradients and "
            f"{float(plain.mean()):.6g} without: set training.gradient_checkpointing to false"
        )
