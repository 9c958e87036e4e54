"""What lies in the store that several hosts share: listed, compared with what was recorded, rid of what is of no use.

Which artifacts are of use is not known here: the runs that refer to them are in the homes of hosts. So only what never
became a part or an artifact is removed.
"""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from paced.errors import CacheError
from paced.storage.artifacts import MANIFEST, SCHEMA, Manifest, content, identity_of
from paced.storage.checks import WAY_OUT
from paced.storage.claims import CLAIMS
from paced.storage.files import record_of
from paced.storage.identity import short
from paced.storage.objects import StoredObject
from paced.storage.shared import FLEETS, SharedStore
from paced.storage.store import ABOUT, PartNote

DAY = 86_400.0  # seconds after which what is not committed is no longer being written

T = TypeVar("T", bound=BaseModel)


class Inventory(NamedTuple):
    """Objects by the folder that they belong to: of a collection, or of an artifact."""

    collections: dict[str, list[StoredObject]]
    artifacts: dict[str, list[StoredObject]]


def inventory(store: SharedStore) -> Inventory:
    """All that the store holds, from one listing."""
    found = Inventory(defaultdict(list), defaultdict(list))
    for top, of in (("store", found.collections), ("artifacts", found.artifacts)):
        for item in store.objects.list(top):
            of["/".join(item.name.split("/")[:3])].append(item)
    return found


def parts_of(store: SharedStore) -> set[str]:
    """Names of all parts."""
    names = (item.name.rpartition("/")[2] for item in store.objects.list("store"))
    return {name.removesuffix(".json") for name in names if name.endswith(".json") and name != ABOUT}


def shared_listing(store: SharedStore) -> str:
    """A table of collections and artifacts: kind, parts, size, name in the store."""
    found, lines, total = inventory(store), list[str](), 0
    for folder, items in sorted(found.collections.items()) + sorted(found.artifacts.items()):
        size, kind = sum(item.bytes for item in items), folder.split("/")[1]
        parts = f"{sum(i.name.endswith('.parquet') for i in items):>5} parts" if folder in found.collections else ""
        lines.append(f"{kind:<10} {parts:>21} {size / 1e6:>10.1f} MB  {folder}")
        total += size
    return "\n".join([*lines, f"{'total':<10} {total / 1e6:>32.1f} MB  {store.url}"])


class StoreCheck:
    """What comparing every object with its recorded sha256 has found; see ``verification.Verification``."""

    def __init__(self, store: SharedStore, delete: bool):
        self.store, self._delete = store, delete
        self.checked, self.lines = 0, list[str]()

    def run(self) -> None:
        found = inventory(self.store)
        for items in found.collections.values():
            for item in items:
                if item.name.endswith(".json") and not item.name.endswith(f"/{ABOUT}"):
                    part = item.name.removesuffix(".json") + ".parquet"
                    self._compare(self._part, item.name, [item.name, part])
        for folder, items in found.artifacts.items():
            manifest = f"{folder}/{MANIFEST}"
            names = [item.name for item in items if item.name != manifest]
            if len(names) < len(items):
                self._compare(self._artifact, manifest, [manifest, *names])

    def _compare(self, check: Callable[[str], None], name: str, names: list[str]) -> None:
        try:
            check(name)
        except CacheError as error:
            self.lines.append(str(error))
            if self._delete:
                self.store.objects.delete(names)

    def _part(self, name: str) -> None:
        note = self._record(name, PartNote)
        self._whole(name.removesuffix(".json") + ".parquet", note.bytes, note.sha256)

    def _artifact(self, name: str) -> None:
        manifest, folder = self._record(name, Manifest), name.removesuffix(f"/{MANIFEST}")
        if manifest.identity != identity_of(manifest) or short(manifest.identity) != folder.rpartition("/")[2]:
            raise CacheError(f"{self.store.url}/{name} is damaged (not what its identity is made of): {WAY_OUT}")
        for file in manifest.files:
            self._whole(f"{folder}/{content(manifest.files)}/{file.name}", file.bytes, file.sha256)

    def _record(self, name: str, kind: type[T]) -> T:
        self.checked += 1
        place = f"{self.store.url}/{name}"
        try:
            return kind.model_validate(record_of(self.store.objects.get(name), place, SCHEMA))
        except (FileNotFoundError, ValidationError):
            raise CacheError(f"{place} is missing or damaged: {WAY_OUT}") from None

    def _whole(self, name: str, bytes_: int, sha256: str) -> None:
        self.checked += 1
        found, place = hashlib.sha256(), f"{self.store.url}/{name}"
        try:
            for piece in self.store.pieces(name, bytes_):
                found.update(piece)
        except FileNotFoundError:
            raise CacheError(f"{place} is missing: {WAY_OUT}") from None
        if f"sha256:{found.hexdigest()}" != sha256:
            raise CacheError(f"{place} is damaged (its digest differs from the recorded one): {WAY_OUT}")


def shared_verify(store: SharedStore, delete: bool) -> tuple[int, list[str]]:
    """Compare every object with its recorded sha256; what is deleted is put again by a host that has it, or made anew.

    Returns:
        how many objects were compared, and one line for each damaged part and artifact.
    """
    found = StoreCheck(store, delete)
    found.run()
    return found.checked, found.lines


def shared_garbage(store: SharedStore, delete: bool) -> list[StoredObject]:
    """Objects that were put and never became a part or an artifact; removed if ``delete``."""
    limit = now(store) - DAY
    left = [item for item in leftovers(store) if item.modified < limit]
    if delete:
        store.objects.delete([item.name for item in left])
    return left


def leftovers(store: SharedStore) -> Iterator[StoredObject]:
    """Such objects, be they still on their way to become one."""
    found = inventory(store)
    for items in found.collections.values():
        names = {item.name for item in items}
        yield from (i for i in items if i.name.endswith(".parquet") and f"{i.name[:-8]}.json" not in names)
    for folder, items in found.artifacts.items():
        inside = {item.name.split("/")[3] for item in items} - {MANIFEST}
        if len(inside) == 1 and any(item.name == f"{folder}/{MANIFEST}" for item in items):
            continue
        try:
            raw = record_of(store.objects.get(f"{folder}/{MANIFEST}"), f"{store.url}/{folder}/{MANIFEST}", SCHEMA)
            inside -= {content(Manifest.model_validate(raw).files)}
        except FileNotFoundError:
            pass
        yield from (item for item in items if item.name.split("/")[3] in inside)
    for top in ("probe", CLAIMS, FLEETS):
        yield from store.objects.list(top)


def now(store: SharedStore) -> float:
    """The time by the store's clock, by which it dates its objects."""
    name = f"probe/{secrets.token_hex(16)}"
    store.objects.put(name, b"")
    [found] = [item for item in store.objects.list("probe") if item.name == name]
    store.objects.delete([name])
    return found.modified
