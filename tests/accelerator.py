"""A pretended accelerator: tensors that say they lie on a device ``gpu``, whose numbers are computed on the CPU.

An operation that is given tensors of both devices fails as it does with CUDA, so code that forgets to move one is
found on a machine without a GPU. What CUDA allows is allowed: a number (a tensor without dimensions) beside tensors of
the device, indices on the CPU, copies from one device to the other.
"""

import functools
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPIES = {aten.copy_.default, aten._to_copy.default}


class Device:
    """What torch asks a module of a device."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        pass


class OnDevice(Tensor):
    """A tensor of the pretended device; ``held`` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device("gpu", 0), requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self) -> str:
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def held(value: Any) -> Any:
    """What the CPU is given in a value's place."""
    if isinstance(value, torch.device):
        return torch.device("cpu") if value.type == "gpu" else value
    return value.held if isinstance(value, OnDevice) else value


def lying(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, Tensor) and not isinstance(value, OnDevice) else value


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation by the CPU's means, refused if its tensors lie on both devices."""
    values, _ = tree_flatten((args, kwargs))
    found = [x for x in values if isinstance(x, Tensor)]
    here = any(isinstance(x, OnDevice) for x in found)
    asked = next((x for x in values if isinstance(x, torch.device)), None)
    if here and func not in COPIES and (strays := [x for x in found if not isinstance(x, OnDevice) and x.dim()]):
        indices = {id(x) for x in args[1] if x is not None} if func in INDEXED else set[int]()
        if [x for x in strays if id(x) not in indices]:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found gpu and cpu")
    out = func(*tree_map(held, args), **tree_map(held, kwargs))
    stays = asked.type == "gpu" if asked else here
    if func is aten.copy_.default:
        return args[0]
    if not stays:
        return out
    return return_and_correct_aliasing(func, args, kwargs, tree_map(lying, out)) if here else tree_map(lying, out)


class Placing(TorchDispatchMode):
    """Makes what is asked for on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def run(specs: Path) -> None:
    """Run stages as on a device, and print for each its label and what went wrong, "" if nothing did; before them a
    sum of tensors of both devices.

    Args:
        specs: JSON, label -> spec; run again although its artifact is there.
    """
    _setup_privateuseone_for_python_backend("gpu", Device())
    torch.inference_mode = torch.no_grad  # pyright: ignore: tensors of this kind are not allowed in that mode
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_swap_module_params_on_conversion(True)  # else tied weights would come apart
    library = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
    library.fallback(torch.library.fallthrough_kernel)  # precision is as the models have it
    generator, device = torch.Generator, torch.device("gpu", 0)
    from paced.diagnosis import diagnose
    from paced.distill import checkpoints, train
    from paced.evaluation import evaluate  # noqa: F401
    from paced.sampling import rollouts  # noqa: F401
    from paced.stage import Spec, execute

    def save(tensors: dict[str, Tensor], path: Path) -> None:  # the library reads a tensor's memory
        save_file({name: held(tensor) for name, tensor in tensors.items()}, path)

    torch.Generator = lambda device=None: generator()  # pyright: ignore: the pretended device has none of its own
    for module in (diagnose, checkpoints, train):
        module.save_file = save
    for name, module in list(sys.modules.items()):
        if name.startswith("paced.") and hasattr(module, "device_of"):
            module.device_of = lambda runtime: device
    train.Accelerator = lambda **settings: SimpleNamespace(device=device)  # pyright: ignore
    programs: dict[str, Callable[[], object]] = {"a sum of both": lambda: torch.ones(2, device=device) + torch.ones(2)}
    for label, spec in json.loads(specs.read_text()).items():
        programs[label] = functools.partial(execute, Spec.model_validate(spec), lambda event: None)
    for label, program in programs.items():
        wrong = ""
        try:
            with Placing():
                program()
        except Exception:
            wrong = traceback.format_exc()
        print(json.dumps([label, wrong]), flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
