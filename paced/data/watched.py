"""New files of a watched folder or object store: found, copied once they rest, and remembered when dealt with.

A file is known by the sha256 of its bytes, so a copy or another name of it is not new; nor is one whose problems were
all in files before, in whatever order. The ledger is written when a decision was made on the files, not when they are
taken: what an interrupted retraining took is new to the next one. Another name or mark of a known file is noted at
once, so that the file is not read again. Files that brought no promotion stay in the pool for a while: they are taken
again with the next new ones.
"""

import contextlib
import datetime
import fnmatch
import functools
import glob
import hashlib
import shutil
import time
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.core import url_to_fs
from pydantic import BaseModel, ConfigDict

from paced.config import Data, Retraining
from paced.data.layouts import read
from paced.data.problems import problem_id
from paced.data.rows import identity
from paced.errors import CacheError, ConfigError, DataError, PacedError
from paced.storage.files import read_record, replacing, write_record
from paced.storage.identity import file_digest, short

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
    """What is new, and what is in the pool if anything is: a folder with copies of the ``files`` and the digest over
    them; how many of them are new, how many problems in those are, how many files were known; which were left because
    they changed or are empty, and which of the pool are gone. ``problems`` are the ids in each new file, by its sha256.
    """

    folder: Path
    identity: str
    files: tuple[Incoming, ...]
    known: int
    unsettled: tuple[str, ...]
    empty: tuple[str, ...]
    new_files: int = 0
    new_problems: int = 0
    gone: tuple[str, ...] = ()
    problems: Mapping[str, frozenset[str]] = {}


class Ledger:
    """The files on which a model's retraining has decided, in ``ledger.json``; their problems, in ``problems/``."""

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

    @functools.cached_property
    def problems(self) -> set[str]:
        """The problems of all files that were decided on; of those that an older release decided on none.

        Raises:
            CacheError: a list of them is damaged.
        """
        noted = map(read_record, sorted((self.path.parent / "problems").glob("*.json")))
        # They are noted before the file is: where a kill came between, nothing was decided.
        return {identifier for note in noted if self.has(note["sha256"]) for identifier in note["problems"]}

    def pool(self, days: float) -> list[Incoming]:
        """The files that were last decided on without a promotion, and first within the last ``days``, by name."""
        first: dict[str, str] = {}
        last: dict[str, dict[str, Any]] = {}
        for entry in self._files:
            if entry["outcome"] != "known":
                first.setdefault(entry["sha256"], entry["time"])
                last[entry["sha256"]] = entry
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
        waiting = (
            Incoming.model_validate({name: entry[name] for name in Incoming.model_fields})
            for sha256, entry in last.items()
            if entry["outcome"] != "promoted" and datetime.datetime.fromisoformat(first[sha256]) > since
        )
        return sorted(waiting, key=lambda f: f.name)

    def promoted(self, taken: str) -> None:
        """Note that a person has promoted what was trained on these files."""
        together = [entry for entry in self._files if entry.get("taken") == taken]
        files = {e["sha256"]: Incoming.model_validate({n: e[n] for n in Incoming.model_fields}) for e in together}
        if files:
            self.add(files.values(), "promoted", taken=taken)

    def add(
        self,
        files: Iterable[Incoming],
        outcome: str,
        problems: Mapping[str, frozenset[str]] | None = None,
        taken: str = "",
    ) -> None:
        """Note what was decided on these files; all of them or, when killed, none. Their problems are noted before.

        ``taken`` is the digest over files that were decided on together.
        """
        for sha256, identifiers in (problems or {}).items():
            write_record(
                self.path.parent / "problems" / f"{short(sha256)}.json",
                {"sha256": sha256, "problems": sorted(identifiers)},
            )
        self.__dict__.pop("problems", None)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        together = {"taken": taken} if taken else {}
        self._files += [f.model_dump() | {"outcome": outcome, "time": now} | together for f in files]
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

    def below(self, full: str) -> str:
        """The path below the root of what ``full`` names, '' if it lies elsewhere."""
        return full.removeprefix(self.full("")) if full.startswith(self.full("")) else ""


def take(settings: Retraining, data: Data, ledger: Ledger, folder: Path) -> Taken:
    """Copy what is new, and with it the pool, to ``folder/data/DIGEST``.

    A file that changes within ``settle`` seconds is left.

    Args:
        data: how the files are laid out.

    Raises:
        ConfigError: the watched place does not exist or cannot be read.
        DataError: a new file is broken; names it as it is called there, with the line.
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
    if new:
        time.sleep(settings.settle)
    for name in [name for name, file in new.items() if watched.mark(name) != file.mark]:
        unsettled.append(name)
        del new[name]
    wanted = {file.sha256: file for file in reversed(new.values())}  # of equal files the first
    copies = {sha256: arriving / file.copy_name for sha256, file in wanted.items()}
    problems = {sha256: problems_in(copies[sha256], data, file.name) for sha256, file in wanted.items()}
    for sha256 in [sha256 for sha256, found in problems.items() if found and found <= ledger.problems]:
        again.append(wanted.pop(sha256))
        del copies[sha256], problems[sha256]
    if again:
        ledger.add(again, "known")
    seen = {file.sha256 for file in again}
    known = len(names) - sum(file.sha256 not in seen for file in new.values()) - len(unsettled) - len(empty)
    nothing = Taken(folder, "", (), known, tuple(unsettled), tuple(empty))
    if not wanted:
        return nothing
    pool = {f: fetched(f, watched, folder) for f in ledger.pool(settings.pool_days) if f.sha256 not in wanted}
    here = {*copies.values(), *filter(None, pool.values())}
    for copy in arriving.iterdir():
        if copy not in here:
            copy.unlink()
    digest = identity(arriving)
    target = folder / "data" / short(digest)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    arriving.rename(target)
    files = sorted([*wanted.values(), *(file for file, copy in pool.items() if copy)], key=lambda f: f.name)
    return nothing._replace(
        folder=target,
        identity=digest,
        files=tuple(files),
        new_files=len(wanted),
        new_problems=len(frozenset[str]().union(*problems.values()) - ledger.problems),
        gone=tuple(file.name for file, copy in pool.items() if not copy),
        problems=problems,
    )


def problems_in(copy: Path, data: Data, name: str) -> frozenset[str]:
    """The ids of the problems in the copy of a file that can be used.

    Raises:
        DataError: it is broken; calls it ``name``.
    """
    try:
        return frozenset(problem_id(data, problem) for problem in read(data, copy) if not problem.fault)
    except DataError as error:
        raise DataError(str(error).replace(str(copy), name)) from None


def fetched(file: Incoming, watched: Watched, folder: Path) -> Path | None:
    """A copy in ``folder/arriving`` of a file that was taken before: of the copy of that time, or of the file itself
    where that is as it was.
    """
    target = folder / "arriving" / file.copy_name
    for copy in sorted((folder / "data").glob(f"*/{glob.escape(target.name)}")):
        if file_digest(copy) == f"sha256:{file.sha256}":
            shutil.copyfile(copy, target)
            return target
    name = watched.below(file.name)
    if name and watched.mark(name):
        watched.copy(name, target.parent)
    return target if target.exists() else None
