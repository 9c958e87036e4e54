"""Recipes of earlier releases: what has another name since is read for one more release, with a warning.

A recipe says by ``recipe_version`` which names it uses; without one it is of version 1. Imports no torch.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from paced.config.base import JsonObject

VERSION = 2


class Renamed(NamedTuple):
    """A field of version 1 that is called otherwise, or a value of it; ``section`` is a path, * any item of a list."""

    section: str
    field: str
    value: object
    becomes: str


class Gone(NamedTuple):
    """A field of version 1 that has no successor; ``default`` is what a recipe that was written out holds in it."""

    section: str
    field: str
    default: object
    instead: str


RENAMED = (
    Renamed("data", "source", "jsonl", "table"),
    Renamed("evaluation.benchmarks.*.data", "source", "jsonl", "table"),
)
GONE = (
    Gone("answers", "mass", 0.999, "answers.floor"),
    Gone("answers", "max_entries", 64, "answers.floor"),
)


def upgraded(tree: Any) -> tuple[Any, list[str]]:
    """A recipe as plain values in the names of today, and a line for each other name that it uses.

    What is no mapping is left for others to refuse. A field that is gone is dropped where it holds what it did by
    default: written out, it said nothing. Otherwise it stays, and is refused as unknown.

    Raises:
        ValueError: it is of a later release.
    """
    version = tree.get("recipe_version", 1) if isinstance(tree, Mapping) else VERSION
    if isinstance(version, int) and version > VERSION:
        raise ValueError(
            f"recipe_version {version} is of a later release, this one reads up to {VERSION}: upgrade PACED"
        )
    if type(version) is not int or version != 1:
        return tree, []
    found, told = copy.deepcopy({**tree}), list[str]()
    for old in RENAMED:
        for place, section in sections(found, old.section):
            if section.get(old.field) == old.value:
                section[old.field] = old.becomes
                told.append(f"{place}.{old.field}: {old.value} is called {old.becomes} now")
    for gone in GONE:
        for place, section in sections(found, gone.section):
            if section.get(gone.field) == gone.default:
                del section[gone.field]
                told.append(f"{place}.{gone.field} has given way to {gone.instead}")
    return found | {"recipe_version": VERSION}, [f"{line}; the next release will refuse it" for line in told]


def sections(tree: Any, path: str, place: str = "") -> Iterator[tuple[str, JsonObject]]:
    """The mappings that a path means, each with where it stands."""
    name, _, rest = path.partition(".")
    if not name:
        if isinstance(tree, dict):
            yield place, tree
    elif isinstance(tree, list | tuple) and name == "*":
        for number, item in enumerate(tree):
            yield from sections(item, rest, f"{place}.{number}")
    elif isinstance(tree, dict) and name in tree:
        yield from sections(tree[name], rest, f"{place}.{name}".lstrip("."))
