"""Kind ``local``: processes of this host, one a GPU, or one a group of GPUs that share a model."""

from collections.abc import Sequence

from paced import config
from paced.config import Device, Engine, Recipe
from paced.errors import ConfigError
from paced_tasks.fleets.base import Copies, Kind, Order
from paced_tasks.fleets.processes import Launch, Processes
from paced_tasks.lease import gpus


def groups(device: Device, engine: Engine) -> list[Sequence[str]]:
    """The GPUs of this host in groups, one a copy; none where a stage uses none."""
    names = [] if device == "cpu" else gpus()
    size = engine.tensor_parallel * engine.data_parallel
    return [names[i : i + size] for i in range(0, len(names) - size + 1, size)]


def make(order: Order) -> Copies:
    spec = order.member.spec
    found = groups(spec.runtime.device, spec.engine)
    copies = range(min(order.copies, len(found)) if found else order.copies)
    devices = [{"CUDA_VISIBLE_DEVICES": ",".join(found[i])} if found else {} for i in copies]
    return Processes([Launch(order.line(i), devices[i]) for i in copies], order.logs)


def check(recipe: Recipe, fleet: config.Fleet) -> None:
    """That there are GPUs for as many copies, by the engine that needs fewest.

    Raises:
        ConfigError: with both numbers.
    """
    most = max(len(groups(recipe.runtime.device, m.engine)) for m in (recipe.student, recipe.teacher_model))
    if most and fleet.copies > most:
        raise ConfigError(f"runtime.fleet.copies: {fleet.copies} local copies, but the GPUs of this host serve {most}")


LOCAL = Kind(make, check, own_devices=False)
