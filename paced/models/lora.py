"""LoRA: low-rank adapters on the linear layers of a frozen model (arXiv 2106.09685), through peft.

A layer W [out, in] computes W x + (alpha / rank) B A x, with A [rank, in] random and B [out, rank] zero at first.
Embeddings, output projection and norms stay as they are. A student is stored whole, B A added to W, so that everything
after training reads a plain model.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from paced.models.sharding import full_tensor

INSIDE, NAME = ".base_layer.", "default"  # peft's names of a layer that it wraps, and of the one adapter


def adapt(model: PreTrainedModel, rank: int, alpha: float, dtype: torch.dtype, state: Path | None) -> None:
    """Freeze the model in ``dtype`` and give its linear layers adapters, which stay in fp32.

    Args:
        model: its weights in fp32, not sharded yet.
        state: what an earlier stage of the same arm has left. Its adapters go on; the weights have them in them
            already, so they are taken out. Done in fp32, so that weights of bf16 come back to the bit.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")  # type: ignore[arg-type]
    inject_adapter_in_model(config, model, NAME)
    if state:
        with safe_open(state, "pt") as stored, torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(stored.get_tensor(f"weight.{name}"))
            for name, parameter in model.named_parameters():
                if (own := added(model, name)) is not None:
                    parameter -= own
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def plain(name: str) -> str:
    """What a model without adapters calls one of its parameters; nothing of an adapter's."""
    return "" if f".{NAME}." in name else name.replace(INSIDE, ".")


@torch.no_grad()
def added(model: PreTrainedModel, name: str) -> Tensor | None:
    """(alpha / rank) B A of the layer that a parameter is the weight of, [out, in]; every process must ask for it."""
    if not name.endswith(f"{INSIDE}weight"):
        return None
    layer: Any = model.get_submodule(name.removesuffix(f"{INSIDE}weight"))
    a, b = (full_tensor(part[NAME].weight) for part in (layer.lora_A, layer.lora_B))
    return b @ a * layer.scaling[NAME]
