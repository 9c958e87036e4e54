"""Artifacts: directories of immutable files plus ``manifest.json``, written last.

No manifest, no artifact. Every file is written under a temporary name and renamed, so a reader never sees half a
file; the manifest lists each file's sha256, which is checked on first open.
"""

import contextlib
import datetime
import errno
import importlib.metadata
import json
import os
import secrets
import shutil
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import paced
from paced.config.base import JsonObject
from paced.errors import CacheError, EngineError
from paced.storage.identity import digest, file_digest

SCHEMA = 1
PACKAGES = ("torch", "transformers", "accelerate", "numpy", "pandas", "pyarrow")


class Ref(BaseModel):
    """A pointer to an artifact or to a model folder: small enough to be a Prefect result.

    ``identity`` says what it is, ``digest`` (sha256 of the manifest, empty for a model folder that no stage made)
    which bytes it is.
    """

    model_config = ConfigDict(frozen=True)
    kind: str
    path: str
    identity: str
    digest: str = ""

    @property
    def folder(self) -> Path:
        return Path(self.path)


class File(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True)
    name: str
    bytes: int
    sha256: str
    rows: int | None = None


class Manifest(BaseModel):
    """What an artifact is, what it was made from, and the digest of each of its files."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)
    schema_version: int = Field(default=SCHEMA, alias="schema")
    kind: str
    identity: str
    inputs: dict[str, str]
    config: JsonObject
    algorithm: int
    versions: dict[str, str]
    counts: dict[str, float]
    files: list[File]
    seconds: float
    created: str


def disk_is_full(error: BaseException) -> bool:
    """Whether an error comes from a full disk or quota; safetensors only says so in its text, SQLite in its own way."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        return True
    return getattr(error, "errno", None) in full or any(f"os error {number}" in str(error) for number in full)


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
            raise EngineError(
                f"the disk is full while writing {path}: free some space (paced cache gc), then run the same command "
                "again; what was committed is kept"
            ) from None
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path beside ``path``; on success it takes ``path``'s place at once, on failure it goes.

    Raises:
        EngineError: the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")  # pods on one volume share process ids
    try:
        with told_if_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
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


def describe(path: Path, name: str | None = None, rows: int | None = None) -> File:
    """The manifest entry of a file."""
    return File(name=name or path.name, bytes=path.stat().st_size, sha256=file_digest(path), rows=rows)


def versions() -> dict[str, str]:
    """Versions of this package and of those whose numerics or formats show in an artifact."""
    return {"paced": paced.__version__} | {name: importlib.metadata.version(name) for name in PACKAGES}


def commit(
    folder: Path,
    *,
    kind: str,
    identity: str,
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
    algorithm: int,
    counts: Mapping[str, float],
    files: list[File],
    seconds: float,
) -> Ref:
    """Write the manifest, which turns ``folder`` into an artifact."""
    manifest = Manifest(
        kind=kind,
        identity=identity,
        inputs=dict(inputs),
        config=dict(config),
        algorithm=algorithm,
        versions=versions(),
        counts=dict(counts),
        files=files,
        seconds=round(seconds, 3),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    write_json(folder / "manifest.json", manifest.model_dump(by_alias=True))
    return Ref(kind=kind, path=str(folder), identity=identity, digest=file_digest(folder / "manifest.json"))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact.

    Raises:
        CacheError: there is none, it is unreadable, or it is of another schema version.
    """
    path = folder / "manifest.json"
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        raise CacheError(f"{folder} is not an artifact: manifest.json is missing") from None
    except (OSError, ValueError) as error:
        raise CacheError(f"{path} is unreadable ({error}): delete its folder and run again") from None
    found = raw.get("schema") if isinstance(raw, dict) else None
    if found != SCHEMA:
        raise CacheError(
            f"{path} has schema version {found}, this version of paced reads {SCHEMA}: "
            "install the version that wrote it, or delete its folder and run again"
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        count = error.error_count()
        raise CacheError(f"{path} is damaged ({count} bad fields): delete its folder and run again") from None


_checked: set[tuple[str, str]] = set()


def check_file(path: Path, sha256: str) -> None:
    """Compare a file with its recorded digest, once a process.

    Raises:
        CacheError: the file is gone or its bytes are others.
    """
    if (str(path), sha256) in _checked:
        return
    way_out = "run 'paced cache verify --delete', then the same command again: only what was lost is computed anew"
    if not path.exists():
        raise CacheError(f"{path} is missing although its manifest lists it: {way_out}")
    if file_digest(path) != sha256:
        raise CacheError(f"{path} is damaged (its sha256 differs from the recorded one): {way_out}")
    _checked.add((str(path), sha256))


def open_file(ref: Ref, name: str) -> Path:
    """The path of one file of an artifact, its digest checked."""
    for file in read_manifest(ref.folder).files:
        if file.name == name:
            check_file(ref.folder / name, file.sha256)
            return ref.folder / name
    raise CacheError(f"artifact {ref.path} ({ref.kind}) holds no file {name}")


def reference(folder: Path) -> Ref:
    """A reference to the finished artifact in ``folder``; its files' presence and sizes are checked.

    Raises:
        CacheError: it is not a finished artifact, or a file is gone or cut short.
    """
    manifest = read_manifest(folder)
    for file in manifest.files:
        path = folder / file.name
        if not path.exists() or path.stat().st_size != file.bytes:
            raise CacheError(f"{path} is missing or cut short: run 'paced cache verify --delete', then run again")
    return Ref(
        kind=manifest.kind, path=str(folder), identity=manifest.identity, digest=file_digest(folder / "manifest.json")
    )


def discard(folder: Path) -> None:
    """Remove an artifact, manifest first, so that an interrupted removal leaves no artifact."""
    (folder / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def stage_identity(stage: str, algorithm: int, config: Mapping[str, Any], inputs: Mapping[str, Ref]) -> str:
    """sha256 over the stage, its algorithm's version, its configuration and its inputs' identities."""
    return digest(
        {
            "stage": stage,
            "algorithm": algorithm,
            "config": dict(config),
            "inputs": {name: ref.identity for name, ref in inputs.items()},
        }
    )
