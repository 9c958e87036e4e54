"""LoRA: low-rank adapters on the linear layers of a frozen model (arXiv 2106.09685), through peft.

A layer W [out, in] computes W x + (alpha / rank) B A x, with A [rank, in] random and B [out, rank] zero at first.
Embeddings, output projection, norms and experts that lie stacked in one tensor stay as they are. A student is stored
whole, B A added to W, so that everything after training reads a plain model.
"""

import functools
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from paced.errors import ConfigError
from paced.models.sharding import full_tensor

INSIDE, NAME = ".base_layer.", "default"  # peft's names of a layer that it wraps, and of the one adapter


def adapted_layers(model: PreTrainedModel) -> list[str]:
    """The layers that get adapters: all that multiply with one matrix and no more, but the output projection."""
    last = model.get_output_embeddings()
    return [name for name, m in model.named_modules() if m is not last and _multiplies(type(m))]


@functools.cache
def _multiplies(kind: type[nn.Module]) -> bool:
    """Whether a class of layers computes W x + b; some that are derived from those that do compute something else."""
    if kind in (nn.Linear, Conv1D):
        return True
    if not issubclass(kind, nn.Linear):
        return False
    try:
        layer, x = kind(5, 3), torch.arange(10.0).view(1, 2, 5)
        return torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    except Exception:  # made of other things than two sizes
        return False


def adapt(model: PreTrainedModel, rank: int, alpha: float, dtype: torch.dtype, state: Path | None) -> None:
    """Freeze the model in ``dtype`` and give its linear layers adapters, which stay in fp32.

    Args:
        model: its weights in fp32, not sharded yet.
        state: what an earlier stage of the same arm has left. Its adapters go on; the weights have them in them
            already, so they are taken out. Done in fp32, so that weights of bf16 come back to the bit.

    Raises:
        ConfigError: it has no linear layers.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = adapted_layers(model)
    if not names:
        raise ConfigError(f"training.lora_rank: the model {model.name_or_path} has no linear layers: set it to 0")
    # In a module of its own: of a model whose architecture peft knows, it would choose other layers than those named.
    outer = nn.ModuleDict({"model": model})
    modules = [f"model.{name}" for name in names]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules), outer, NAME)  # type: ignore[arg-type]
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
    """(alpha / rank) B A of the layer that a parameter is the weight of, laid out as it is; every process must ask."""
    if not name.endswith(f"{INSIDE}weight"):
        return None
    layer: Any = model.get_submodule(name.removesuffix(f"{INSIDE}weight"))
    a, b = (full_tensor(part[NAME].weight) for part in (layer.lora_A, layer.lora_B))
    product = b @ a * layer.scaling[NAME]
    return product.T if layer.fan_in_fan_out else product
