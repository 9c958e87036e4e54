"""Losses by the names that recipes use: those of paced/config/catalog.py and of installed packages."""

import functools

from paced.config.catalog import LOSSES as RECORDS
from paced.config.catalog import resolved
from paced.config.extensions import find, function
from paced.losses.divergences import Loss

# The built-in ones.
LOSSES: dict[str, Loss] = {name: resolved(record.function) for name, record in RECORDS.items()}


def named(name: str, **parameters: float | None) -> Loss:
    """The loss of this name, with those of an arm's parameters that it reads and that are set.

    Raises:
        ConfigError: there is none, or its package cannot be imported.
    """
    keywords = find("loss", name).parameters
    given = {keywords[field]: value for field, value in parameters.items() if field in keywords and value is not None}
    loss: Loss = function("loss", name)
    return functools.partial(loss, **given) if given else loss
