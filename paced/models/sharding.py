"""Several training processes, one a device: parameters, gradients and optimizer sharded over them (FSDP).

``runtime.accelerate`` names a configuration file of accelerate, which starts the processes; torch's ``fully_shard``
spreads the parameters, the same way on CPU and on GPUs. Gradients are summed over processes, not averaged: the
denominator of a step is global already (method section 7).
"""

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from paced.models import layers


def world_size() -> int:
    """How many training processes there are; 1 outside of a launch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def shard(module: nn.Module, model: PreTrainedModel, device: torch.device, gather_once: bool) -> None:
    """Spread the parameters of ``model`` inside ``module`` over all processes, layer by layer; alone, do nothing.

    Args:
        device: where they are computed with. They may lie on the host, and need not fit on one device.
        gather_once: for a frozen model: what is outside the layers stays gathered after a forward pass.
    """
    if world_size() == 1:
        return
    mesh = init_device_mesh(device.type, (world_size(),))
    for layer in layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh, reshard_after_forward=False if gather_once else None)
    for child in module.modules():
        if isinstance(child, FSDPModule):
            child.set_gradient_divide_factor(1.0)
            child.set_force_sum_reduction_for_comms(True)  # gloo knows no other


def loading_device(device: torch.device) -> torch.device:
    """Where a model is loaded that is trained or scored on ``device``: on the host, if it is then to be spread."""
    return device if world_size() == 1 else torch.device("cpu")


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, on every process; every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(value: Tensor, model: Tensor) -> Tensor:
    """A copy of a whole tensor laid out as ``model`` is: this process's shard of it, or all of it."""
    value = value.to(model.device, copy=True)
    if isinstance(model, DTensor):
        return distribute_tensor(value, model.device_mesh, model.placements)
    return value


def all_reduce_sum(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Sums over the processes, in float64 on the way."""
    if world_size() == 1:
        return dict(values)
    kind = torch.float32 if device.type == "mps" else torch.float64
    tensor = torch.tensor(list(values.values()), dtype=kind, device=device)
    torch.distributed.all_reduce(tensor)
    return dict(zip(values, tensor.tolist(), strict=True))


def barrier() -> None:
    """Wait for every process."""
    if world_size() > 1:
        torch.distributed.barrier()


