"""Several training processes, one a device: parameters, gradients and optimizer sharded over them (FSDP).

``runtime.accelerate`` names a configuration file of accelerate, which starts the processes; torch's ``fully_shard``
spreads the parameters, the same way on CPU and on GPUs. Gradients are summed over processes, not averaged: the
denominator of a step is global already (method section 7).
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from paced.artifacts import write_json
from paced.errors import ERRORS, ConfigError, EngineError, Stopped
from paced.models import layers
from paced.stage import Job, Spec, emit, peak_memory


def processes() -> int:
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
    if processes() == 1:
        return
    mesh = init_device_mesh(device.type, (processes(),))
    for layer in layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh, reshard_after_forward=False if gather_once else None)
    for child in module.modules():
        if isinstance(child, FSDPModule):
            child.set_gradient_divide_factor(1.0)
            child.set_force_sum_reduction_for_comms(True)  # gloo knows no other


def loading(device: torch.device) -> torch.device:
    """Where a model is loaded that is trained or scored on ``device``: on the host, if it is then to be spread."""
    return device if processes() == 1 else torch.device("cpu")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on every process; every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, model: Tensor) -> Tensor:
    """A copy of a whole tensor laid out as ``model`` is: this process's shard of it, or all of it."""
    value = value.to(model.device, copy=True)
    if isinstance(model, DTensor):
        return distribute_tensor(value, model.device_mesh, model.placements)
    return value


def total(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Sums over the processes, in float64 on the way."""
    if processes() == 1:
        return dict(values)
    kind = torch.float32 if device.type == "mps" else torch.float64
    tensor = torch.tensor(list(values.values()), dtype=kind, device=device)
    torch.distributed.all_reduce(tensor)
    return dict(zip(values, tensor.tolist(), strict=True))


def meet() -> None:
    """Wait for every process."""
    if processes() > 1:
        torch.distributed.barrier()


def check_configuration(configuration: Path) -> None:
    """That an accelerate configuration can be read, and is of one host: a stage holds its lock for its own.

    Raises:
        ConfigError: with what to change.
    """
    try:
        machines = dict(yaml.safe_load(configuration.read_text())).get("num_machines", 1)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"runtime.accelerate: {configuration} is no accelerate configuration ({reason})") from None
    if machines != 1:
        raise ConfigError(
            f"runtime.accelerate: {configuration} has num_machines: {machines}; training takes the devices of one "
            "host: set it to 1, and num_processes to that host's devices"
        )


def launch(job: Job, configuration: Path) -> None:
    """Run the job's stage in the processes that an accelerate configuration describes; what they wrote is the job's.

    Raises:
        ConfigError: the configuration is none of one host.
        EngineError: a process failed without a word; otherwise the first error that one told of.
    """
    check_configuration(configuration)
    job.work.mkdir(parents=True, exist_ok=True)
    spec, done = job.work / "spec.json", job.work / "done.json"
    # Without the configuration, which would have a process that is alone launch once more.
    runtime = job.runtime.model_copy(update={"accelerate": None})
    spec.write_text(job.spec.model_copy(update={"runtime": runtime}).model_dump_json())
    done.unlink(missing_ok=True)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(configuration)]
    command += ["--module", "paced.sharding", str(spec)]
    first: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launched:
        assert launched.stdout
        try:
            for line in launched.stdout:
                try:
                    event = json.loads(line)
                    kind = event["event"]
                except (ValueError, TypeError, KeyError):  # what a library prints
                    print(line, end="", file=sys.stderr, flush=True)
                    continue
                if kind != "error":
                    job.tell(event)
                elif event["type"] != Stopped.__name__:  # as the others are when one has failed
                    first = first or event
        except BaseException:  # not when its output ends: it is about to say how it ended
            launched.terminate()
            raise
    if first:
        raise ERRORS.get(first["type"], EngineError)(first["message"])
    if launched.returncode or not done.exists():
        raise EngineError(
            f"a training process started with {configuration} ended with status {launched.returncode}; "
            "its output is in the stage's log"
        )
    result = json.loads(done.read_text())
    job.counts |= result["counts"]
    for name in result["files"]:
        job.add(name)


def work(path: Path) -> int:
    """One of the launched processes; only the first one speaks, unless another fails, and only the first one writes."""
    from paced.__main__ import guarded
    from paced.train import train

    def watch(parent: int) -> None:  # the launcher gives its processes sessions of their own
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
    # Else transformers would read the weights on the first process only and leave the others' as they come.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    first = rank() == 0

    def tell(event: dict[str, Any]) -> None:
        if first or event["event"] == "error":
            emit(event)

    def program() -> None:
        job = Job(Spec.model_validate_json(path.read_text()), tell)
        train(job)
        job.counts["peak_memory"] = peak_memory()
        if first:
            write_json(path.with_name("done.json"), {"counts": job.counts, "files": [f.name for f in job.files]})

    return guarded(program, tell)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
