"""How an artifact takes its place: made beside it, put there at once, and in a shared store before it is there.

Of two that finish the same stage at once, on hosts that share a folder but no lock, or a store and no folder, the first
counts and the other takes over what it left: none ever writes where another's files are.
"""

import contextlib
import errno
import functools
import secrets
import shutil
import socket
from pathlib import Path

from paced.errors import EngineError
from paced.storage.artifacts import MANIFEST, SCHEMA, Ref, content, discard, is_finished, read_manifest, reference
from paced.storage.checks import check_file
from paced.storage.files import record_of, replacing, sync
from paced.storage.identity import short, text_digest
from paced.storage.shared import SharedStore, shared
from paced.storage.store import give_parts


@functools.cache
def kernel() -> str:
    """Names the running system, within which file locks are sure to hold, whatever shares its folders."""
    try:
        running = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        running = socket.gethostname()
    return short(text_digest(running), 8)


def unfinished(folder: Path) -> Path:
    """Where an artifact is made whose place is ``folder``: beside it, by one process of each running system."""
    return folder.with_name(f".{folder.name}.{kernel()}.tmp")


def put_in_place(made: Ref, folder: Path) -> Ref:
    """Give an artifact its place at once; where another one of its identity is there already, take over that one.

    In a shared store the place is that of the manifest, and the artifact lies there before it lies here.

    Returns:
        the one that is there.

    Raises:
        CacheError: the other one is damaged.
        EngineError: the shared store does not answer, or refuses; what was made is kept here.
    """
    if store := shared():
        try:
            winner = _publish(store, made.folder, folder)
        except EngineError:
            _take_place(made.folder, folder)  # is given to the store when it is asked for again
            raise
        if winner != (made.folder / MANIFEST).read_bytes():
            shutil.rmtree(made.folder, ignore_errors=True)
            _adopt(winner, folder)
            return reference(folder)
    return made.model_copy(update={"path": str(folder)}) if _take_place(made.folder, folder) else reference(folder)


def _take_place(made: Path, folder: Path) -> bool:
    """Rename a folder to an artifact's place; where there is one already, it goes and that one stays."""
    while True:
        try:
            made.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if (folder / MANIFEST).exists():
                shutil.rmtree(made, ignore_errors=True)
                return False
            _remove_half(folder)
        else:
            sync(folder.parent)
            return True


def _remove_half(folder: Path) -> None:
    """Remove what is no artifact from the place of one, but not what another process puts there meanwhile."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside)
    if (aside / MANIFEST).exists():
        with contextlib.suppress(OSError):  # a third one is there by now
            aside.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _publish(store: SharedStore, made: Path, folder: Path) -> bytes:
    """Have an artifact in a shared store, unless another one of its identity is there; returns whose manifest is."""
    own, name = (made / MANIFEST).read_bytes(), store.name(folder, MANIFEST)
    there = store.read(folder, MANIFEST)
    if there is None:
        files = read_manifest(made).files
        inside = content(files)
        known = store.names(folder, inside)
        new = [file for file in files if known.get(file.name) != file.bytes]
        store.put_all((store.name(folder, f"{inside}/{file.name}"), made / file.name) for file in new)
        store.objects.create(name, own)
        there = store.objects.get(name)  # whatever the store said: its reply may have been lost, or be no use
    record_of(there, f"{store.url}/{name}", SCHEMA)
    return there


def _adopt(manifest: bytes, folder: Path) -> None:
    """Have an artifact of a shared store in its place, its files to be fetched when they are read."""
    made = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
    with replacing(made / MANIFEST) as temporary:
        temporary.write_bytes(manifest)
    if (folder / MANIFEST).exists():
        discard(folder)
    _take_place(made, folder)


def exchange(folder: Path) -> None:
    """Have in an artifact's place what a shared store has, and in the store what is here and nowhere else.

    Where they differ, as after two hosts finished it apart, the store's counts.

    Raises:
        CacheError: what is here, or the store's manifest, is damaged.
    """
    store = shared()
    if store is None:
        return
    here = (folder / MANIFEST).read_bytes() if is_finished(folder) else None
    there = store.read(folder, MANIFEST)
    if there is None:
        if here is None:
            return
        for file in read_manifest(folder).files:
            check_file(folder / file.name, file.fastest)  # damage is not given to others
        _give_collections(store, folder.parents[2])
        there = _publish(store, folder, folder)
    record_of(there, f"{store.url}/{store.name(folder, MANIFEST)}", SCHEMA)
    if there != here:
        _adopt(there, folder)


@functools.cache
def _give_collections(store: SharedStore, home: Path) -> None:
    """Put the parts that artifacts select rows of into a shared store: a home was begun without one."""
    for folder in sorted((home / "store").glob("*/*")):
        if folder.is_dir():
            give_parts(store, folder, store.names(folder))
