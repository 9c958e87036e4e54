"""A home's copies of what a shared store holds: the least recently used go when there is room for no more."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paced import config
from paced.errors import CacheError
from paced.storage.artifacts import content, is_weights, read_manifest
from paced.storage.files import make_folder
from paced.storage.housekeeping import artifacts, collections
from paced.storage.shared import SharedStore

IN_USE = 3600.0  # seconds since it was last opened in which a copy stays: another process may be reading it


class LocalCopy(NamedTuple):
    """A file that a shared store may hold, too, as ``name`` among those of a folder (``SharedStore.names``)."""

    used: float  # seconds since 1970
    bytes: int
    path: Path
    folder: Path
    inside: str
    name: str


def copies(home: Path) -> Iterator[LocalCopy]:
    """Parts of collections, and weights: what is large, and is fetched again when it is read."""
    for folder in collections(home):
        for path in folder.glob("*.parquet"):
            yield from _there(folder, "", path.name)
    for folder in artifacts(home):
        try:
            files = read_manifest(folder).files
        except CacheError:  # is told where it is read
            continue
        for file in filter(is_weights, files):
            yield from _there(folder, content(files), file.name)


def _there(folder: Path, inside: str, name: str) -> Iterator[LocalCopy]:
    path = folder / name
    if path.is_file():
        found = path.stat()
        yield LocalCopy(found.st_atime, found.st_size, path, folder, inside, name)


def make_room(home: Path, store: SharedStore, limit: int | None = None) -> list[Path]:
    """Remove copies, the one that was not used for longest first, until ``limit`` bytes of them are left; returns them.

    One stays that was used within the hour, or that the store does not have under its name and with its bytes.

    Args:
        limit: by default what PACED_COPIES_GB says.
    """
    make_folder(home)
    if limit is None:
        limit = config.copies(shutil.disk_usage(home).total)
    found, gone = sorted(copies(home)), list[Path]()
    total, recent = sum(copy.bytes for copy in found), time.time() - IN_USE
    known: dict[tuple[Path, str], dict[str, int]] = {}
    for copy in found:
        if total <= limit or copy.used > recent:
            break
        place = copy.folder, copy.inside
        if place not in known:
            known[place] = store.names(*place)
        if known[place].get(copy.name) == copy.bytes:
            copy.path.unlink(missing_ok=True)
            gone.append(copy.path)
            total -= copy.bytes
    return gone
