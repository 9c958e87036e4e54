"""The store that several hosts share, ``PACED_STORE``; the home of each host holds its copies.

Without one, the home is the store, and nothing here does anything. Objects lie under the names that files have below a
home, so either can be moved: ``store/KIND/COLLECTION/PART.parquet`` and its note, ``artifacts/STAGE/ID/manifest.json``,
and the files of that artifact under ``artifacts/STAGE/ID/CONTENT/``, CONTENT being a digest of them: two hosts that
finish a stage with other bits write beside each other, and the manifest says whose count.
"""

import functools
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from paced import config
from paced.config.base import is_address
from paced.errors import CacheError, ConfigError, EngineError
from paced.storage.cloud import CloudObjects
from paced.storage.files import replacing
from paced.storage.identity import file_digest
from paced.storage.objects import PATIENCE, FolderObjects, Objects, Patient

PIECE = 64 * 2**20  # bytes of an object that are in memory while it is fetched
AT_ONCE = 8  # objects on their way
FLEETS = "fleets"  # the folder of a store in which fleets leave signs of life
PROBED_FOR = 10.0  # seconds after which a store that does not answer is given up before a run begins


class SharedStore:
    """Objects by the place of their files in a home.

    A ``folder`` is that of a collection or of an artifact, in whatever home: the last three parts of its path name it.
    """

    def __init__(self, objects: Objects):
        self.url, self.objects = objects.url, objects

    def name(self, folder: Path, file: str = "") -> str:
        return "/".join([*folder.parts[-3:], file] if file else folder.parts[-3:])

    def names(self, folder: Path, content: str = "") -> dict[str, int]:
        """What the store has of a folder, or of a folder in it: names of files, relative to that, and their bytes."""
        prefix = self.name(folder, content) + "/"
        return {found.name.removeprefix(prefix): found.bytes for found in self.objects.list(prefix.rstrip("/"))}

    def read(self, folder: Path, file: str) -> bytes | None:
        """A small object; nothing if there is none."""
        try:
            return self.objects.get(self.name(folder, file))
        except FileNotFoundError:
            return None

    def local(self, path: Path, name: str, bytes_: int, sha256: str) -> Path:
        """Have an object at a path of this host, its digest compared; one that is there is there whole.

        Raises:
            CacheError: the store has none, or has other bytes.
        """
        if path.exists():
            used(path)
            return path
        try:
            with replacing(path) as temporary:
                with temporary.open("wb") as file:
                    for piece in self.pieces(name, bytes_):
                        file.write(piece)
                if file_digest(temporary) != sha256:
                    raise CacheError(
                        f"{self.url}/{name} is damaged (its digest differs from the recorded one): "
                        "run 'paced cache verify --delete', then the same command again"
                    )
        except FileNotFoundError:
            raise CacheError(f"neither {path} nor {self.url}/{name} is there: run the same command again") from None
        return path

    def pieces(self, name: str, bytes_: int) -> Iterator[bytes]:
        """An object of so many bytes, few of them at a time."""
        for start in range(0, bytes_, PIECE):
            yield self.objects.get(name, start, min(PIECE, bytes_ - start))

    def put_all(self, files: Iterable[tuple[str, Path]]) -> None:
        """Put files under names, several at once; returns when all are there."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for put in [pool.submit(self.objects.put, name, path) for name, path in files]:
                put.result()

    def probe(self) -> list[str]:
        """Try what a store promises.

        Returns:
            a line for each promise that it does not keep, with what follows.

        Raises:
            EngineError: it cannot be reached, refuses, or gives back other bytes than it was given.
        """
        name, asked = f"probe/{secrets.token_hex(16)}", secrets.token_bytes(16)
        lines: list[str] = []
        self.objects.put(name, asked)
        if name not in {found.name for found in self.objects.list("probe")}:
            lines.append(
                f"the store {self.url} does not list at once what it was given: hosts may compute some rows twice; no "
                "result changes"
            )
        if self.objects.create(name, b""):
            lines.append(
                f"the store {self.url} overwrites where it is told not to (If-None-Match: *): do not start one recipe "
                "on two hosts at once, for each may keep its own results where their bits differ; all else is safe"
            )
        elif self.objects.get(name) != asked:
            raise EngineError(f"the store {self.url} gives back other bytes than it was given: use another one")
        try:
            self.objects.delete([name])
        except EngineError:  # whoever may not delete can do all else
            lines.append(f"the store {self.url} lets these credentials delete nothing: 'paced cache' cannot mend it")
        return lines


def used(path: Path) -> None:
    """Note that a copy is of use; the time of change, by which a digest is known, stays."""
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def shared() -> SharedStore | None:
    """The store of this process's environment; None where each home is a store of its own.

    Raises:
        ConfigError: PACED_STORE names none that can be used.
    """
    url = config.store()
    return _shared(url) if url and url != str(config.home()) else None


@functools.cache
def _shared(url: str) -> SharedStore:
    return SharedStore(objects_at(url))


def objects_at(url: str, patience: float = PATIENCE) -> Patient:
    """The store at an address or in a folder.

    Raises:
        ConfigError: the address is of no kind that is known, or the package that reaches it is missing.
    """
    if is_address(url):
        return Patient(CloudObjects(url), patience)
    if not Path(url).is_dir():  # made here, it would hide that a file system is not mounted
        raise ConfigError(f"PACED_STORE={url} is no folder: make it, or mount what it is on")
    return Patient(FolderObjects(Path(url)), patience)


def probed() -> list[str]:
    """What ``SharedStore.probe`` says of the store of this environment, soon, if there is one."""
    url = config.store()
    return SharedStore(objects_at(url, PROBED_FOR)).probe() if shared() else []
