"""What a recipe needs before it is trained, done by any number of processes on hosts that share a store.

No flow of Prefect's: an engine that starts many processes, such as Slurm, starts many of this, each with a home of its
own, and may lose or repeat any of them at any time.
"""

from pathlib import Path

from paced.config import Recipe, home, store
from paced.config.label import Label
from paced.errors import ConfigError
from paced.stage import exclusive
from paced.storage.shared import probed, shared
from paced_flows.distill import add_arms
from paced_tasks.console import display
from paced_tasks.filling import Filling
from paced_tasks.run import Run, run_name


def fill(recipe: Recipe) -> list[Label]:
    """Have in the shared store what the recipe's stages give, as far as they go without training.

    Returns:
        labels of the training stages that could begin.

    Raises:
        ConfigError: hosts share no store, or another process does the same in this home.
    """
    if shared() is None:
        raise ConfigError(
            "PACED_STORE is not set: 'paced fill' divides what a recipe needs among hosts that share a store "
            "(docs/scale.md); 'paced run' does all of it in one home"
        )
    for line in probed():
        display.say(f"warning: {line}")
    filling = Filling(Run(name=run_name(recipe), home=str(home()), recipe=recipe))
    display.say(f"fills {store()} with what {filling.run.name} needs before it is trained")
    try:
        with exclusive(Path(filling.run.home) / "locks" / "fill", wait=False):
            add_arms(filling)
    except BlockingIOError:
        raise ConfigError(
            f"another 'paced fill' works in {filling.run.home}: set PACED_HOME to a folder of this process's own"
        ) from None
    return filling.untrained
