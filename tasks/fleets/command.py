"""Kind ``command``: a process each of a command of the user's own, such as ssh, srun or docker run."""

import shlex
import shutil

from paced import config
from paced.config import Recipe
from paced.config.fleet import COPY, INDEX
from paced.errors import ConfigError
from paced_tasks.fleets.base import Copies, Kind, Order
from paced_tasks.fleets.processes import Launch, Processes


def make(order: Order) -> Copies:
    return Processes([Launch(filled(order, index)) for index in range(order.copies)], order.logs)


def filled(order: Order, index: int) -> list[str]:
    """The template's words for a copy; a placeholder's text is one word of a shell, or several inside a longer one."""
    line = shlex.join(order.line(index))
    return [word.replace(INDEX, str(index)).replace(COPY, line) for word in order.settings.command]


def on_path(program: str) -> None:
    """That a program is there.

    Raises:
        ConfigError: it is not.
    """
    if shutil.which(program) is None:
        raise ConfigError(f"runtime.fleet.command: {program} is not on PATH: install it, or give its path")


def check(recipe: Recipe, fleet: config.Fleet) -> None:
    on_path(fleet.command[0])


COMMAND = Kind(make, check, own_devices=True)
