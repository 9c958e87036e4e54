"""New files of a watched folder or object store: found, copied once they rest, and remembered when dealt with.

A file is known by the sha256 of its bytes, so a copy or another name of it is not new. The ledger is written when a
decision was made on the files, not when they are taken: what an interrupted retraining took is new to the next one.
Another name or mark of a known file is noted at once, so that the file is not read again.
"""

import contextlib
import datetime
import fnmatch
import functools
import hashlib
import shutil
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.core import url_to_fs
from pydantic import BaseModel, ConfigDict

from paced.config import Retraining
from paced.data.rows import identity
from paced.errors import CacheError, ConfigError, PacedError
from paced.storage.files import read_record, replacing, write_record
from paced.storage.identity import short

CHUNK = 1 << 20  # bytes


class Incoming(BaseModel):
    """A file that has been taken. ``mark`` changes when the watched file does; it spares reading a known file again."""

    model_config = ConfigDict(frozen=True)
    name: str
    mark: str
    sha256: str
    bytes: int

    @property
    def copy_name(self) -> str:
        """What its copy is called: as the file, for messages, and by its digest, so that no two collide."""
        return f"{self.sha256[:12]}-{self.name.rpartition('/')[2][-200:]}"


class Taken(NamedTuple):
    """What is new: a folder with copies of the files and the digest over them; how many files were known, and which
    were left because they changed or are empty.
    """

    folder: Path
    identity: str
    files: tuple[Incoming, ...]
    known: int
    unsettled: tuple[str, ...]
    empty: tuple[str, ...]


class Ledger:
    """The files on which a model's retraining has decided, in ``ledger.json``."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._files: list[dict[str, Any]] = read_record(path)["files"] if path.exists() else []
            self._index()
        except (OSError, CacheError, KeyError, TypeError) as error:
            raise CacheError(
                f"{path} is unreadable ({error}): delete it, and every watched file counts as new again"
            ) from None

    def _index(self) -> None:
        self._known = {f["sha256"] for f in self._files}
        self._marks = {(f["name"], f["mark"]) for f in self._files}

    def has_mark(self, name: str, mark: str) -> bool:
        return (name, mark) in self._marks

    def has(self, sha256: str) -> bool:
        return sha256 in self._known

    def add(self, files: Iterable[Incoming], outcome: str) -> None:
        """Note what was decided on these files; all of them or, when killed, none."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._files += [f.model_dump() | {"outcome": outcome, "time": now} for f in files]
        write_record(self.path, {"schema": 1, "files": self._files})
        self._index()


class Watched:
    """The files below a folder or prefix whose path matches a pattern, hidden ones left out.

    Raises:
        ConfigError: there is no such place, or it cannot be reached.
    """

    def __init__(self, watch: str, pattern: str):
        self._watch, self._pattern = watch, pattern
        with self._reaching():
            found: Any = url_to_fs(watch)
            self.system, root = found
            self._root = str(root).rstrip("/")

    @contextlib.contextmanager
    def _reaching(self) -> Generator[None]:
        try:
            yield
        except PacedError:
            raise
        except Exception as error:  # every file system fails in its own way
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"watch: {self._watch} cannot be read ({type(error).__name__}: {reason})") from None

    def names(self) -> list[str]:
        """Paths below the root, sorted."""
        with self._reaching():
            self.system.invalidate_cache()
            found = [str(name) for name in self.system.find(self._root)]
            if not found and not self.system.exists(self._root):
                raise ConfigError(f"watch: {self._watch} does not exist")
        below = (name.removeprefix(self._root).lstrip("/") for name in found)
        visible = (name for name in below if not any(part.startswith(".") for part in name.split("/")))
        return sorted(name for name in visible if fnmatch.fnmatchcase(name, self._pattern))

    def mark(self, name: str) -> str:
        """Changes when the file does; '' if it is gone."""
        try:
            self.system.invalidate_cache()
            return str(self.system.ukey(f"{self._root}/{name}"))
        except OSError:
            return ""

    def copy(self, name: str, folder: Path) -> Incoming | None:
        """Copy a file under a name of its digest and its own; None if it went away or changed meanwhile."""
        mark, sha256, size = self.mark(name), hashlib.sha256(), 0
        with self._reaching(), replacing(folder / "copy") as file:
            try:
                with self.system.open(f"{self._root}/{name}", "rb") as source, file.open("wb") as target:
                    for chunk in iter(functools.partial(source.read, CHUNK), b""):
                        sha256.update(chunk)
                        size += target.write(chunk)
            except FileNotFoundError:
                file.touch()
        if not mark or self.mark(name) != mark:
            return None
        found = Incoming(name=self.full(name), mark=mark, sha256=sha256.hexdigest(), bytes=size)
        (folder / "copy").rename(folder / found.copy_name)
        return found

    def full(self, name: str) -> str:
        """A path below the root with the root before it."""
        return f"{self._watch.rstrip('/')}/{name}"


def take(settings: Retraining, ledger: Ledger, folder: Path) -> Taken:
    """Copy what is new to ``folder/data/DIGEST``; a file that changes within ``settle`` seconds is left.

    Raises:
        ConfigError: the watched place does not exist or cannot be read.
    """
    watched = Watched(settings.watch, settings.files)
    arriving = folder / "arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    new: dict[str, Incoming] = {}
    again: list[Incoming] = []
    unsettled: list[str] = []
    empty: list[str] = []
    names = watched.names()
    for name in names:
        if ledger.has_mark(watched.full(name), watched.mark(name)):
            continue
        found = watched.copy(name, arriving)
        if found is None:
            unsettled.append(name)
        elif not found.bytes:
            empty.append(name)
        elif ledger.has(found.sha256):
            again.append(found)
        else:
            new[name] = found
    if again:
        ledger.add(again, "known")
    if new:
        time.sleep(settings.settle)
    for name in [name for name, file in new.items() if watched.mark(name) != file.mark]:
        unsettled.append(name)
        del new[name]
    wanted = {file.sha256: file for file in reversed(new.values())}  # of equal files the first
    known = len(names) - len(new) - len(unsettled) - len(empty)
    files = tuple(sorted(wanted.values(), key=lambda f: f.name))
    if not files:
        return Taken(folder, "", (), known, tuple(unsettled), tuple(empty))
    kept = {file.copy_name for file in files}
    for copy in arriving.iterdir():
        if copy.name not in kept:
            copy.unlink()
    digest = identity(arriving)
    target = folder / "data" / short(digest)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    arriving.rename(target)
    return Taken(target, digest, files, known, tuple(unsettled), tuple(empty))
