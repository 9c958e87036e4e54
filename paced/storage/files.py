"""Files that are there whole or not at all, and on the disk before anything says that they are.

A record is a JSON object with its own sha256 under ``digest``: whoever reads one, knows that no byte of it has changed.
"""

import contextlib
import functools
import json
import os
import secrets
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paced.errors import CacheError, EngineError, disk_is_full, explained
from paced.storage.checks import WAY_OUT, settle
from paced.storage.identity import file_digest, text_digest

DIGEST = "digest"  # a record's own
ROOM = 256 * 1024  # bytes below which a disk is full: a page of a database, a manifest


@contextlib.contextmanager
def told_if_full(path: Path) -> Generator[None]:
    """Turn the error of a full disk into one that says what to do.

    Raises:
        EngineError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if disk_is_full(error):
            raise explained(error, path) from None
        raise


def no_room(folder: Path) -> EngineError | None:
    """The error of a disk that has no room for bytes or for files, whatever it has led to, if that is so."""
    place = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    found = os.statvfs(place)
    if found.f_bavail * found.f_frsize > ROOM and (found.f_favail > 8 or not found.f_files):
        return None
    return EngineError(
        f"the disk of {folder} is full: free some space or inodes (paced cache gc), then run the same command again; "
        "what was committed is kept"
    )


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; the names of new ones are on the disk."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


@functools.cache
def mode() -> int:
    """Of a new file, by the umask that this process was started with."""
    os.umask(mask := os.umask(0o077))
    return 0o666 & ~mask


def secure(path: Path) -> None:
    """Give a file that a library has written the mode of all others, and have it on the disk."""
    path.chmod(mode())
    sync(path)


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path beside ``path``; on success it takes ``path``'s place at once, on failure it goes.

    Raises:
        EngineError: the disk is full.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")  # pods on one volume share process ids
    try:
        with told_if_full(path):
            make_folder(path.parent)
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_list(path: Path, values: Iterable[Any]) -> None:
    """The bytes of ``write_json`` of a list, written value by value."""
    with replacing(path) as temporary, temporary.open("w") as file:
        file.write("[")
        end = "]"
        for number, value in enumerate(values):
            lines = json.dumps(value, indent=1, ensure_ascii=False).replace("\n", "\n ")
            file.write(f"{',' if number else ''}\n {lines}")
            end = "\n]"
        file.write(end + "\n")


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its digest, once all that was read so far is known to be undamaged.

    Raises:
        CacheError, DataError: something read was damaged, or changed meanwhile.
    """
    settle()
    write_json(path, sealed(value))


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its digest."""
    plain = json.loads(json.dumps(value))  # the digest is of what a reader will see
    return {**plain, DIGEST: seal(plain)}


def seal(plain: Mapping[str, Any]) -> str:
    """The digest of a record's values, among which, other than in an identity, infinity and NaN may be."""
    return text_digest(json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def read_record(path: Path, schema: int | None = None) -> dict[str, Any]:
    """A record without its digest; one that an older version has written has none to compare.

    Args:
        schema: the version that it must have, if it has one.

    Raises:
        FileNotFoundError: there is none.
        CacheError: it is unreadable, not what was written, or of another schema version.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise CacheError(f"{path} is unreadable ({error}): {WAY_OUT}") from None
    return record_of(text, path, schema)


def record_of(text: str | bytes, place: Path | str, schema: int | None = None) -> dict[str, Any]:
    """What ``read_record`` gives, of a record that was read already.

    Raises:
        CacheError: see ``read_record``.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{place} is unreadable ({error}): {WAY_OUT}") from None
    if not isinstance(raw, dict):
        raise CacheError(f"{place} is damaged (no JSON object): {WAY_OUT}")
    if schema is not None and raw.get("schema") != schema:
        raise CacheError(
            f"{place} has schema version {raw.get('schema')}, this version of paced reads {schema}: install the "
            f"version that wrote it, or delete {os.path.dirname(place)} and run again"
        )
    if not sound(raw):
        raise CacheError(f"{place} is damaged (its sha256 differs from the recorded one): {WAY_OUT}")
    raw.pop(DIGEST, None)
    return raw


def vouch(note: Path, *files: Path) -> None:
    """Write a record that says which bytes some files beside or below it have, once those are on the disk."""
    for file in files:
        secure(file)
    write_record(note, {"files": {str(file.relative_to(note.parent)): file_digest(file) for file in files}})


def vouched(note: Path) -> bool:
    """Whether there is such a record, and the files are what it says."""
    try:
        files: dict[str, str] = read_record(note)["files"]
        return all(file_digest(note.parent / name) == sha256 for name, sha256 in files.items())
    except (OSError, CacheError, KeyError):
        return False


def sound(raw: Mapping[str, Any]) -> bool:
    """Whether a record is what was written; one without a digest is of an older version, unless the digest stands
    there under another name, which then is what was damaged.
    """

    def fits(name: str) -> bool:
        return raw[name] == seal({k: v for k, v in raw.items() if k != name})

    if DIGEST in raw:
        return fits(DIGEST)
    return not any(fits(name) for name, value in raw.items() if str(value).startswith("sha256:"))


def is_record(path: Path) -> bool:
    """Whether a JSON object has a digest of its own, which all have that this version writes."""
    return DIGEST in json.loads(path.read_text())


def entry_of(line: bytes) -> dict[str, Any]:
    """What a line of a journal says."""
    with contextlib.suppress(ValueError, RecursionError):
        entry = json.loads(line)
        if isinstance(entry, dict) and "kind" in entry and sound(entry):
            return entry
    return {"kind": "damaged"}


def lost_lines(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    """Numbers of the damaged lines of which no later one says that they are lost."""
    told = {e["line"] for e in entries if e["kind"] == "lost"}
    return [number for number, e in enumerate(entries) if e["kind"] == "damaged" and number not in told]
