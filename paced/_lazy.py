"""Names of a module that are imported when they are first used (PEP 562)."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazily(
    module: dict[str, Any], offered: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A module's ``__getattr__`` and ``__dir__``.

    Args:
        module: its globals, which a name joins when it is first used.
        offered: which module has which of the names.
    """
    homes = {name: home for home, names in offered.items() for name in names}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")
        module[name] = getattr(import_module(homes[name]), name)
        return module[name]

    return find, lambda: sorted({*module, *homes})
