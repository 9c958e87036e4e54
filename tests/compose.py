"""deployments/compose/compose.yaml as docker compose reads it: variables filled in, aliases resolved."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent.parent / "deployments" / "compose"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


class MissingVariableError(Exception):
    """A variable that must be set is not, or is empty."""


def resolved(node: Any, values: Mapping[str, str]) -> Any:
    """The same with its variables replaced, as the Compose specification has it for ``:-`` and ``:?``."""
    if isinstance(node, dict):
        return {key: resolved(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [resolved(item, values) for item in node]
    if not isinstance(node, str):
        return node

    def fill(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if values.get(name):
            return values[name]
        if kind == "-":
            return text
        raise MissingVariableError(f"{name}: {text}")

    return VARIABLE.sub(fill, node)


def services(values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services by name.

    Raises:
        MissingVariableError: as ``docker compose`` would refuse to start.
    """
    return resolved(yaml.safe_load((FOLDER / "compose.yaml").read_text()), values)["services"]


def variables() -> set[str]:
    """Every variable that the file reads."""
    return {match[1] for match in VARIABLE.finditer((FOLDER / "compose.yaml").read_text())}
