"""What a run that nobody typed on this host may use of it: one that a form, a schedule or Prefect's API has started.

Whoever types ``paced run`` is a user of the host and may do what that user may. Whoever fills in a form need not be: so
the host's owner says in ``allowed.yaml`` of the home which folders, servers and programs such a run may name. Which
fields name one is marked where they are declared (``Reach`` in paced/config/base.py). Imports no torch.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

import paced
from paced.config.base import Reach, Section, is_address
from paced.errors import ConfigError

FILE = "allowed.yaml"


class Allowed(Section):
    """The host's own list; the home and the package's own models are always among its folders."""

    folders: tuple[str, ...] = Field(default=(), description="Models, data and configuration files lie below these.")
    servers: tuple[str, ...] = Field(
        default=(), description="Beginnings of addresses, such as http://gpu1:8000/ or s3://bucket/incoming/."
    )
    programs: tuple[str, ...] = Field(
        default=(), description="Programs, with their paths, that retraining.notify and engine.python may name."
    )
    trust_remote_code: bool = Field(default=False, description="Whether code that comes with a model may run.")

    def folder(self, path: str, home: Path) -> bool:
        """Whether a file or folder lies in one of the folders, wherever links lead."""
        known = [home, Path(paced.__file__).parent, *map(Path, self.folders)]
        return any(Path(path).resolve().is_relative_to(folder.resolve()) for folder in known)

    def program(self, name: str) -> bool:
        """Whether a program is one of the list, found as the shell finds it."""
        return (shutil.which(name) or name) in self.programs

    def server(self, address: str) -> bool:
        """Whether an address begins as one of the list does, at the end of a part of it."""
        return any((address + "/").startswith(server.rstrip("/") + "/") for server in self.servers)


def allowed(home: Path) -> Allowed:
    """What the host's owner allows; nothing beyond the home where there is no file.

    Raises:
        ConfigError: the file is none.
    """
    path = home / FILE
    try:
        return Allowed.model_validate(yaml.safe_load(path.read_text()) or {})
    except FileNotFoundError:
        return Allowed()
    except (OSError, ValueError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be used: {' '.join(str(error).split())[:300]}") from None


def begin(home: Path, folder: Path) -> None:
    """Write the list of a new home: the folder in which it is begun."""
    path = home / FILE
    if not path.exists():
        lines = [
            "# What runs from forms and schedules may use of this host; docs/operations.md, 'What a form may do'.",
            yaml.safe_dump({"folders": [str(folder)], "servers": [], "programs": [], "trust_remote_code": False}),
        ]
        path.write_text("\n".join(lines))


def check(home: Path, **sections: Section) -> None:
    """Refuse what a run from a form or a schedule may not use.

    Args:
        sections: by the name under which the form shows them.

    Raises:
        ConfigError: with the path of the field, and what the host's owner can do.
    """
    owned = allowed(home)
    for path, reach, value in (use for name, section in sections.items() for use in uses(section, name)):
        for kind, permitted in _rules(owned, home, reach, value):
            if not permitted:
                raise ConfigError(
                    f"{path}: {value} is not allowed to a run from a form or a schedule: the owner of this host can "
                    f"add it to {kind} in {home / FILE}"
                )


def _rules(owned: Allowed, home: Path, reach: Reach, value: Any) -> Iterator[tuple[str, bool]]:
    """The list that decides about a value, and whether it holds it."""
    match reach:
        case Reach.CODE:
            yield "trust_remote_code", owned.trust_remote_code or not value
        case Reach.PROGRAM:
            yield "programs", owned.program(value if isinstance(value, str) else value[0])
        case Reach.PLACE if is_address(value):
            yield "servers", owned.server(value)
        case Reach.PLACE:
            yield "folders", value.startswith("hub:") or owned.folder(value, home)


def uses(section: Section, name: str) -> Iterator[tuple[str, Reach, Any]]:
    """Every field of a section and of those in it that reaches out of the recipe, if it is set: path, how, value."""
    for field, about in type(section).model_fields.items():
        value, path = getattr(section, field), f"{name}.{field}"
        if value and (reach := next((m for m in about.metadata if isinstance(m, Reach)), None)):
            yield path, reach, value
        for i, item in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(item, Section):
                yield from uses(item, f"{path}.{i}" if isinstance(value, tuple) else path)
