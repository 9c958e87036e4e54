"""What lies under ``PACED_HOME``: list it, verify it, remove what nothing refers to."""

import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from paced.errors import CacheError
from paced.storage.artifacts import discard, read_manifest
from paced.storage.identity import file_digest, short

MADE_OF = ("identity", "data", "answers")  # tags of a registered version that name artifacts


def artifacts(home: Path) -> Iterator[Path]:
    """Folders of finished artifacts."""
    yield from (f.parent for f in sorted((home / "artifacts").glob("*/*/manifest.json")))


def collections(home: Path) -> Iterator[Path]:
    """Folders of the sample-keyed store."""
    yield from (f.parent for f in sorted((home / "store").glob("*/*/collection.json")))


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file())


def listing(home: Path) -> str:
    """A table of stored collections and artifacts: kind, rows or counts, size, folder."""
    lines: list[str] = []
    for folder in collections(home):
        notes = [p for p in folder.glob("*.json") if p.name != "collection.json"]
        rows = [n for p in notes if (n := noted_rows(p)) is not None]
        lines.append(
            f"{folder.parent.name:<10} {sum(rows):>9,} rows {len(notes):>5} parts {size(folder) / 1e6:>9.1f} MB  "
            + folder_line(folder, len(notes) - len(rows))
        )
    for folder in artifacts(home):
        try:
            seconds, damaged = f"{read_manifest(folder).seconds:.1f}", 0
        except CacheError:
            seconds, damaged = "?", 1
        lines.append(
            f"{folder.parent.name:<10} {seconds:>9} s {size(folder) / 1e6:>20.1f} MB  " + folder_line(folder, damaged)
        )
    return "\n".join([*lines, f"{'total':<10} {size(home) / 1e6:>32.1f} MB  {home}"])


def noted_rows(note: Path) -> int | None:
    """How many rows a part has by its note; nothing if the note is damaged."""
    try:
        return int(json.loads(note.read_text())["rows"])
    except (ValueError, KeyError, TypeError):
        return None


def folder_line(folder: Path, damaged: int) -> str:
    """A folder, and how many of its notes and manifests cannot be read."""
    return f"{folder}" + (f"  {damaged} damaged: run 'paced cache verify --delete'" if damaged else "")


def verify(home: Path, delete: bool) -> tuple[int, list[str]]:
    """Compare every stored file with its recorded sha256.

    Args:
        delete: remove damaged parts and artifacts, and artifacts that select rows of a removed part.

    Returns:
        how many files were checked, and one line for each damaged one.
    """
    checked, damaged, present = 0, list[str](), set[str]()
    for folder in collections(home):
        for note in sorted(folder.glob("*.json")):
            if note.name == "collection.json":
                continue
            checked += 1
            part = note.with_suffix(".parquet")
            try:
                good = part.exists() and file_digest(part) == json.loads(note.read_text())["sha256"]
            except (ValueError, KeyError, TypeError):
                good = False
            if good:
                present.add(part.stem)
            else:
                damaged.append(f"{part}: missing or other bytes than recorded")
                if delete:
                    note.unlink()
                    part.unlink(missing_ok=True)
    for folder in artifacts(home):
        try:
            manifest = read_manifest(folder)
        except CacheError as error:
            damaged.append(str(error))
            if delete:
                discard(folder)
            continue
        bad = [
            f.name for f in manifest.files if not (folder / f.name).exists() or file_digest(folder / f.name) != f.sha256
        ]
        checked += len(manifest.files)
        damaged += [f"{folder / name}: missing or other bytes than recorded" for name in bad]
        lost = set() if bad else selected_parts(folder) - present
        if lost and not delete:
            damaged.append(f"{folder}: selects {len(lost)} parts that are gone")
        if (bad or lost) and delete:
            if lost:
                damaged.append(f"{folder}: selected {len(lost)} parts that are gone")
            discard(folder)
    return checked, damaged


def selected_parts(folder: Path) -> set[str]:
    """Names of the store's parts that an artifact selects rows of."""
    parts = set[str]()
    for name in ("rollouts.parquet", "answers.parquet"):
        if (folder / name).exists():
            parts |= set(pd.read_parquet(folder / name, columns=["part"])["part"])
    return parts


def garbage(home: Path, delete: bool, registered: Iterable[Mapping[str, str]] = ()) -> tuple[list[Path], int]:
    """Artifacts, work folders, copies of retrainings and leftovers in the store that nothing refers to, and their
    bytes; removed if ``delete``.

    A run refers to the stages it has executed so far, finished or not; a registered version to those that its tags
    name, which made it. Rows of the sample store are kept: they are what makes the next run cheap. Remove a collection
    by deleting its folder.

    Args:
        registered: the tags of each version of every registered model.

    Raises:
        CacheError: a stage or a retraining is running, and what it writes would look like garbage.
    """
    if delete:
        for lock in [*(home / "locks").glob("*"), *(home / "retrain").glob("*/retrain.lock")]:
            if held(lock):
                raise CacheError(
                    f"a stage or a retraining is running in {home}: collect garbage when no run is going on"
                )
    runs, tags = home / "runs", list(registered)
    notes = [stage for f in runs.glob("*/run.json") for stage in json.loads(f.read_text())["stages"]]
    notes += [json.loads(f.read_text()) for f in runs.glob("*/executed/*.json")]
    # By stage and identity: the home may have been moved, or be reached by another path.
    wanted = {Path(note["path"]).parts[-2:] for note in notes}
    made_of = {short(t[name]) for t in tags for name in MADE_OF if name in t}
    folders = [f for f in artifacts(home) if f.parts[-2:] not in wanted and f.name not in made_of]
    half = [f for f in sorted((home / "artifacts").glob("*/*")) if not (f / "manifest.json").exists()]
    left = sorted(retraining_leftovers(home, {short(t["model"]) for t in tags if "model" in t}))
    left += [*idle_work(home), *store_leftovers(home)]
    bytes_ = sum(size(f) for f in folders + half + left)
    if delete:
        for folder in folders + half:
            discard(folder)
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folders + half + left, bytes_


def idle_work(home: Path) -> Iterator[Path]:
    """Work folders from which no stage goes on: whose artifact is there, and all others once every run under ``runs/``
    has completed since it was last begun. Which stage of a run a folder is of cannot be told: a newer version of paced
    may have given it another identity.
    """
    resumed = any(not completed(f.parent) for f in (home / "runs").glob("*/recipe.yaml"))
    done = {f.name for f in artifacts(home)}
    yield from (f for f in sorted((home / "work").glob("*")) if not resumed or f.name in done)


def completed(run: Path) -> bool:
    """Whether a run has ended well, and was not begun again since, which writes its recipe anew."""
    record = run / "run.json"
    if not record.exists() or json.loads(record.read_text())["status"] != "completed":
        return False
    return record.stat().st_mtime >= (run / "recipe.yaml").stat().st_mtime


def store_leftovers(home: Path) -> Iterator[Path]:
    """Files of parts that were not committed: half-written ones, and those without a note."""
    for file in sorted((home / "store").glob("*/*/*")):
        part = file.suffix == ".parquet" and not file.with_suffix(".json").exists()
        if part or (file.name.startswith(".") and file.suffix == ".tmp"):
            yield file


def retraining_leftovers(home: Path, models: set[str]) -> Iterator[Path]:
    """Copies under ``retrain/`` that are needed no more: of files that were decided on and whose run is gone, of
    weights that are no longer registered (``models``: digests, shortened), and of a take that was cut short.
    """
    recipes = [f.read_text() for f in (home / "runs").glob("*/recipe.yaml")]
    for folder in (home / "retrain").glob("*"):
        ledger = folder / "ledger.json"
        decided = {f["sha256"][:12] for f in json.loads(ledger.read_text())["files"]} if ledger.exists() else set[str]()
        for copies in (folder / "data").glob("*"):
            open_ = any(f.name.partition("-")[0] not in decided for f in copies.iterdir())
            if not open_ and not any(str(copies.relative_to(home)) in text for text in recipes):
                yield copies
        yield from (f for f in (folder / "weights").glob("*") if f.name not in models)
        yield from folder.glob("arriving")


def held(lock: Path) -> bool:
    """Whether a process holds a file lock."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
