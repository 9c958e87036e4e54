"""What installed packages add through entry points: losses, weightings, verifiers, data sources (docs/extensions.md).

An entry point names a record of paced/config/catalog.py. Names in a recipe are looked up among the installed packages'
entry points and in the tables; nothing is imported from a path that data names. Imports no torch.
"""

import functools
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from paced.config.catalog import GROUPS, SOURCES, TABLES, SourceRecord, resolved
from paced.errors import ConfigError

# Fields that name an extension, wherever they stand in a recipe or in the configuration of a stage.
FIELDS = {"loss": "loss", "scheme": "weighting", "source": "data source", "verifier": "verifier"}


class Extension(NamedTuple):
    """One entry point of an installed package; ``target`` is the record it names, as ``module:record``.

    ``folder`` is where the package's own description lies, its distribution's folder of packages.
    """

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    folder: str


@functools.cache
def installed() -> tuple[Extension, ...]:
    """All extensions, by kind and name; their modules are not imported."""
    found = [
        Extension(kind, point.name, dist.name, dist.version, point.value, str(dist.locate_file("")))
        for kind, (group, _) in GROUPS.items()
        for point in importlib.metadata.entry_points(group=group)
        if (dist := point.dist)
    ]
    return tuple(sorted(found))


def fault(extension: Extension) -> str:
    """Why an extension cannot be used, so far as is known without importing it; '' if nothing is."""
    kind, name = extension.kind, extension.name
    who = f"the {kind} {name!r} of package {extension.distribution} {extension.version}"
    if not name.isascii() or not name.isidentifier() or name != name.lower():
        return f"{who}: a name has only small letters, digits and _: rename or uninstall it"
    if name in TABLES[kind]:
        return f"{who} has the name of a built-in {kind}: rename or uninstall it"
    others = [e for e in installed() if (e.kind, e.name) == (kind, name) and e != extension]
    if others:
        return f"{who} has the name of one of package {others[0].distribution}: rename or uninstall one of the two"
    return ""


@functools.cache
def check() -> None:
    """That the names of all installed extensions are their own.

    Raises:
        ConfigError: the first one that is not.
    """
    for extension in installed():
        if reason := fault(extension):
            raise ConfigError(reason)


def names(kind: str) -> list[str]:
    """What can be named: the built-in ones, then the extensions."""
    return list(dict.fromkeys([*TABLES[kind], *(e.name for e in installed() if e.kind == kind)]))


@functools.cache
def load(extension: Extension) -> Any:
    """The record of an extension.

    Raises:
        ConfigError: its module cannot be imported, or names no record of its kind.
    """
    who = f"the {extension.kind} {extension.name!r} of package {extension.distribution} {extension.version}"
    try:
        record = resolved(extension.target)
    except ConfigError as error:
        raise ConfigError(f"{who}: {error}") from None
    expected = GROUPS[extension.kind][1]
    if not isinstance(record, expected):
        raise ConfigError(f"{who}: {extension.target} is no {expected.__name__}: mend or uninstall the package")
    return record


def problem(extension: Extension) -> str:
    """Why an extension cannot be used, its function imported; '' if it can."""
    if reason := fault(extension):
        return reason
    try:
        resolved(load(extension).function)
    except ConfigError as error:
        return str(error)
    return ""


def extension_of(kind: str, name: str) -> Extension | None:
    """The extension of this name; None of a built-in name.

    Raises:
        ConfigError: there is neither, or two extensions or an extension and a built-in share a name.
    """
    check()
    if name in TABLES[kind]:
        return None
    for extension in installed():
        if (extension.kind, extension.name) == (kind, name):
            return extension
    there = ", ".join(names(kind))
    raise ConfigError(f"there is no {kind} {name!r}; there are: {there} ('paced extensions' lists what packages add)")


def find(kind: str, name: str) -> Any:
    """The record of this name.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    extension = extension_of(kind, name)
    return TABLES[kind][name] if extension is None else load(extension)


def function(kind: str, name: str) -> Callable[..., Any]:
    """The function of this name.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    return resolved(find(kind, name).function)


def source(name: str) -> SourceRecord:
    """The record of a data source; a bare pair of response and gold, of no source, counts as mathematics."""
    return find("data source", name) if name else SOURCES["table"]


def used(settings: Any) -> Iterator[tuple[str, str]]:
    """Kind and name of everything that can be an extension and that settings name, at any depth."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key in FIELDS and isinstance(value, str):
                yield FIELDS[key], value
                if key == "source":
                    yield "verifier", source(value).verifier
            else:
                yield from used(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from used(value)


def stamps(settings: Mapping[str, Any]) -> dict[str, str]:
    """``kind/name`` of each extension that settings name -> distribution and version, to enter an identity."""
    found = {f"{kind}/{name}": extension_of(kind, name) for kind, name in used(settings)}
    return {key: f"{e.distribution} {e.version}" for key, e in sorted(found.items()) if e}


def import_all(settings: Mapping[str, Any]) -> None:
    """Import the functions of all extensions that settings name, so that one which cannot be is known early.

    Raises:
        ConfigError: the first that cannot.
    """
    for kind, name in sorted(set(used(settings))):
        if extension_of(kind, name):
            function(kind, name)


class Named:
    """Marks a text of a section as the name of a built-in or an extension; a form offers those that there are."""

    def __init__(self, kind: str):
        self._kind = kind

    def __get_pydantic_core_schema__(self, source_type: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source_type))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        return {**handler(schema), "enum": names(self._kind)}

    def _known(self, name: str) -> str:
        try:
            find(self._kind, name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return name
