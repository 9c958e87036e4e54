"""Artifacts: directories of immutable files plus ``manifest.json``, written last.

No manifest, no artifact. The manifest lists each file's sha256 and is a record (paced/storage/files.py); it is written
when all of them are on the disk. Here is the one place where a stage, a report, an export or a registry takes a file of
an artifact or a model's folder, and it compares their bytes.
"""

import datetime
import importlib.metadata
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import paced
from paced.config.base import JsonObject
from paced.errors import CacheError, DataError
from paced.storage.checks import WAY_OUT, check_file, check_meanwhile, check_source
from paced.storage.files import make_folder, read_record, secure, sync, write_record
from paced.storage.identity import digest, file_digest, is_model_file, model_files, model_identity, short, stamp
from paced.storage.shared import shared

SCHEMA = 1
MANIFEST = "manifest.json"
PACKAGES = ("torch", "transformers", "accelerate", "numpy", "pandas", "pyarrow")


class Ref(BaseModel):
    """A pointer to an artifact or to a model folder: small enough to be a Prefect result.

    ``identity`` says what it is, ``digest`` which bytes it is: the sha256 of the manifest, or of a model folder that no
    stage made a digest over the xxh3 of its files, by which whoever reads them soon compares them.
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
    """One file of an artifact; of weights, which are large and read often, there is a second, faster digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    bytes: int
    sha256: str
    rows: int | None = None
    xxh3: str | None = Field(default=None, exclude_if=lambda digest: digest is None)

    @property
    def fastest(self) -> str:
        """The digest that tells damage soonest."""
        return self.xxh3 or self.sha256


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


def describe(path: Path, name: str | None = None, rows: int | None = None) -> File:
    """The manifest entry of a file, which is on the disk from now on."""
    secure(path)
    xxh3 = file_digest(path, "xxh3") if path.suffix == ".safetensors" else None
    return File(name=name or path.name, bytes=path.stat().st_size, sha256=file_digest(path), rows=rows, xxh3=xxh3)


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
    """Write the manifest, which turns ``folder`` into an artifact, when the names of its files are on the disk.

    Raises:
        CacheError, DataError: something it was made from was damaged, or changed meanwhile.
    """
    make_folder(folder)
    # Down to the home: who wrote files in the folder may have made it, too.
    for place in {(folder / file.name).parent for file in files} | {folder, *folder.parents[:3]}:
        sync(place)
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
    write_record(folder / MANIFEST, manifest.model_dump(by_alias=True))
    return Ref(kind=kind, path=str(folder), identity=identity, digest=file_digest(folder / MANIFEST))


def is_finished(folder: Path) -> bool:
    """Whether a folder is an artifact in its place."""
    return not folder.name.startswith(".") and (folder / MANIFEST).exists()


def content(files: Sequence[File]) -> str:
    """The folder that a shared store keeps an artifact's files in."""
    return short(digest({file.name: file.sha256 for file in files}))


def _here(folder: Path, files: Sequence[File], file: File) -> Path:
    """The path of an artifact's file, fetched from a shared store if it is not here."""
    path, store = folder / file.name, shared()
    if store is None:
        return path
    return store.local(path, store.name(folder, f"{content(files)}/{file.name}"), file.bytes, file.sha256)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact.

    Raises:
        CacheError: there is none, it is unreadable, or it is of another schema version.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate(read_record(path, SCHEMA))
    except FileNotFoundError:
        raise CacheError(f"{folder} is not an artifact: manifest.json is missing") from None
    except ValidationError as error:
        count = error.error_count()
        raise CacheError(f"{path} is damaged ({count} bad fields): {WAY_OUT}") from None


def open_file(ref: Ref, name: str) -> Path:
    """The path of one file of an artifact, its digest checked.

    Raises:
        CacheError: it is missing or damaged, or the artifact is another one.
    """
    files = _manifest_of(ref).files
    for file in files:
        if file.name == name:
            path = _here(ref.folder, files, file)
            check_file(path, file.fastest)
            return path
    raise CacheError(f"artifact {ref.path} ({ref.kind}) holds no file {name}")


def check_member(path: Path) -> None:
    """Compare a file with its manifest, if it lies in an artifact and is listed there.

    Raises:
        CacheError: it is damaged.
    """
    if (path.parent / MANIFEST).exists():
        for file in read_manifest(path.parent).files:
            if file.name == path.name:
                check_file(path, file.fastest)


def model_folder(ref: Ref) -> Path:
    """The folder of a model, a stage's or a user's, whose bytes are compared while they are read (checks.settle).

    Raises:
        CacheError: a file of a trained model is missing, cut short or not the stage's.
        DataError: a user's folder is missing or is no model's.
    """
    if ref.kind != "train":
        algorithm, expected = ("xxh3", ref.digest) if ref.digest else ("sha256", ref.identity)
        check_source(ref.folder, model_files(ref.folder), lambda: model_identity(ref.folder, algorithm), expected)
        return ref.folder
    folder = ref.folder / "model"
    every = _manifest_of(ref).files
    files = {_here(ref.folder, every, f): f for f in every if f.name.startswith("model/")}
    for path, file in files.items():
        check_size(path, file.bytes)
    if more := sorted(set(model_files(folder)) - files.keys()):
        raise CacheError(f"{more[0]} was not made by the stage that made all else of {folder}: delete it, run again")
    check_meanwhile((path, file.fastest) for path, file in files.items())
    return folder


def kept_model(folder: Path) -> Ref:
    """A reference to a model folder that no stage made: its identity is that of its files.

    Raises:
        DataError: the folder is missing or holds no safetensors, or it is being written.
    """
    before = [stamp(file) for file in model_files(folder)]
    ref = Ref(kind="model", path=str(folder), identity=model_identity(folder), digest=model_identity(folder, "xxh3"))
    if before != [stamp(file) for file in model_files(folder)]:
        raise DataError(f"model folder {folder} changes while it is read: wait until it is written, and run again")
    return ref


def weights_identity(ref: Ref) -> str:
    """What ``model_identity`` gives for a model's folder, without reading it: whoever reads it compares."""
    if ref.kind != "train":
        return ref.identity
    files = {f.name.removeprefix("model/"): f.sha256 for f in _manifest_of(ref).files if f.name.startswith("model/")}
    return digest({name: sha256 for name, sha256 in files.items() if is_model_file(name)})


def check_size(path: Path, size: int) -> None:
    """What can be seen of a file without reading it.

    Raises:
        CacheError: it is gone or cut short.
    """
    if not path.is_file() or path.stat().st_size != size:
        raise CacheError(f"{path} is missing or cut short: {WAY_OUT}")


def _manifest_of(ref: Ref) -> Manifest:
    manifest = read_manifest(ref.folder)
    if manifest.identity != ref.identity:
        raise CacheError(f"{ref.path} holds identity {manifest.identity}, expected {ref.identity}: {WAY_OUT}")
    return manifest


def reference(folder: Path) -> Ref:
    """A reference to the finished artifact in ``folder``: all of its files are there, and undamaged but for weights,
    which are large and compared when they are read. Weights may be in the shared store alone.

    Raises:
        CacheError: it is not a finished artifact, or a file is gone or damaged.
    """
    manifest, store = read_manifest(folder), shared()
    away = store.names(folder, content(manifest.files)) if store and _lacks_weights(folder, manifest) else {}
    for file in manifest.files:
        if is_weights(file) and away.get(file.name) == file.bytes and not (folder / file.name).exists():
            continue
        path = folder / file.name if is_weights(file) else _here(folder, manifest.files, file)
        check_size(path, file.bytes)
        if not is_weights(file):
            check_file(path, file.sha256)
    return Ref(kind=manifest.kind, path=str(folder), identity=manifest.identity, digest=file_digest(folder / MANIFEST))


def is_weights(file: File) -> bool:
    return file.name.endswith(".safetensors")


def _lacks_weights(folder: Path, manifest: Manifest) -> bool:
    return any(is_weights(file) and not (folder / file.name).exists() for file in manifest.files)


def discard(folder: Path) -> None:
    """Remove an artifact, manifest first, so that an interrupted removal leaves no artifact."""
    (folder / MANIFEST).unlink(missing_ok=True)
    if folder.is_dir():
        sync(folder)
    shutil.rmtree(folder, ignore_errors=True)


def stage_identity(stage: str, algorithm: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """sha256 over the stage, its algorithm's version, its configuration and its inputs' identities."""
    return digest(
        {
            "stage": stage,
            "algorithm": algorithm,
            "config": dict(config),
            "inputs": dict(inputs),
        }
    )


def identity_of(manifest: Manifest) -> str:
    """What the identity of an artifact is made of, put together again."""
    return stage_identity(manifest.kind, manifest.algorithm, manifest.config, manifest.inputs)
