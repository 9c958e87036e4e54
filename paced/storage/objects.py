"""What several hosts share lies as objects, each put whole under a name, in a folder or in an object store.

Names are paths with ``/`` that come from content, so that a put that is repeated changes nothing. ``create``, a put
that only the first of several wins, is an economy: no result is wrong where a store does not keep that promise.
"""

import contextlib
import errno
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from paced.errors import TransientError
from paced.storage.files import make_folder, replacing, sync

T = TypeVar("T")

PATIENCE = 120.0  # seconds after which a store that fails is given up
FIRST, LONGEST = 0.1, 5.0  # seconds between two tries, at most; doubled from one to the next
PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY}  # errors of a mount that comes back
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}  # of a file system without hard links


class Unavailable(Exception):
    """A request failed, and the same one may succeed soon."""


class StoredObject(NamedTuple):
    """An object that a store lists; ``modified`` is seconds since 1970 by the store's clock."""

    name: str
    bytes: int
    modified: float


class Objects(Protocol):
    """A store of objects.

    Each verb raises ``Unavailable`` where waiting may help, an ``EngineError`` of one line where it refuses, and
    ``FileNotFoundError`` where there is no such object.
    """

    url: str

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """An object's bytes, or some of them."""
        ...

    def put(self, name: str, data: bytes | Path) -> None:
        """Have bytes, or those of a file, under a name, whatever was there; it is there whole or not at all."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """The same unless there is one already; returns whether this call has made it, as far as the store tells."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose names begin with ``prefix/``."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no error."""
        ...


class FolderObjects:
    """Objects as files below a folder that several hosts have mounted."""

    def __init__(self, root: Path):
        self.url, self._root = str(root), root

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        with passing(self.url), (self._root / name).open("rb") as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def put(self, name: str, data: bytes | Path) -> None:
        with passing(self.url), replacing(self._root / name) as temporary:
            if isinstance(data, bytes):
                temporary.write_bytes(data)
            else:
                shutil.copyfile(data, temporary)

    def create(self, name: str, data: bytes) -> bool:
        path = self._root / name
        own = path.with_name(f".{path.name}.{random.SystemRandom().getrandbits(64):x}.tmp")
        with passing(self.url):
            make_folder(path.parent)
            try:
                own.write_bytes(data)
                sync(own)
                os.link(own, path)
                sync(path.parent)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                if path.exists():
                    return False
                own.replace(path)
            finally:
                own.unlink(missing_ok=True)
        return True

    def list(self, prefix: str) -> Iterator[StoredObject]:
        with passing(self.url):
            for folder, _, names in os.walk(self._root / prefix):
                for name in names:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        found = path.stat()
                        if not name.startswith("."):  # being written
                            yield StoredObject(path.relative_to(self._root).as_posix(), found.st_size, found.st_mtime)

    def delete(self, names: Iterable[str]) -> None:
        with passing(self.url):
            for name in names:
                (self._root / name).unlink(missing_ok=True)


class passing:
    """Tells the errors of a mount that may come back from all others."""

    def __init__(self, url: str):
        self._url = url

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise Unavailable(f"{os.strerror(error.errno)}") from error


class Patient:
    """A store whose every request is tried again for a while: the one place where that is done.

    The waits are drawn from 0 to a bound that doubles ("full jitter"), so that hosts that failed together do not come
    back together.

    Args:
        patience: seconds from the first failure of a request to its last try.
    """

    def __init__(self, objects: Objects, patience: float = PATIENCE):
        self.url, self._objects, self._patience = objects.url, objects, patience

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self._tried(lambda: self._objects.get(name, start, length))

    def put(self, name: str, data: bytes | Path) -> None:
        self._tried(lambda: self._objects.put(name, data))

    def create(self, name: str, data: bytes) -> bool:
        return self._tried(lambda: self._objects.create(name, data))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return iter(self._tried(lambda: [*self._objects.list(prefix)]))

    def delete(self, names: Iterable[str]) -> None:
        every = [*names]
        self._tried(lambda: self._objects.delete(every))

    def _tried(self, request: Callable[[], T]) -> T:
        """Raises:
        TransientError: it failed as long as there was patience.
        """
        first, bound = None, FIRST
        while True:
            try:
                return request()
            except Unavailable as error:
                now = time.monotonic()
                first = now if first is None else first
                wait = random.uniform(0, bound)
                if now + wait - first > self._patience:
                    raise TransientError(
                        f"the store {self.url} does not answer ({error}): see that it runs and that this host reaches "
                        "it, then run the same command again; what was committed is kept"
                    ) from None
                time.sleep(wait)
                bound = min(LONGEST, 2 * bound)
