"""The engines by the name that a recipe gives them; Ray and Kubernetes have their place here."""

from paced.config import Recipe
from paced.errors import ConfigError
from paced.storage.shared import shared
from paced_tasks.fleets.base import Kind
from paced_tasks.fleets.command import COMMAND
from paced_tasks.fleets.local import LOCAL
from paced_tasks.fleets.slurm import SLURM

KINDS: dict[str, Kind] = {"local": LOCAL, "slurm": SLURM, "command": COMMAND}


def check(recipe: Recipe) -> None:
    """Refuse a fleet that cannot work, before anything is paid for.

    Raises:
        ConfigError: with what is missing.
    """
    fleet = recipe.runtime.fleet
    if fleet is None:
        return
    if shared() is None:
        raise ConfigError(
            "runtime.fleet: PACED_STORE is not set: its copies share a store, a folder or an address (docs/scale.md)"
        )
    KINDS[fleet.kind].check(recipe, fleet)
