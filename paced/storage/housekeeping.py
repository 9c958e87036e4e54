"""What lies under ``PACED_HOME``: list it, remove what nothing refers to."""

import fcntl
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from paced.errors import CacheError
from paced.storage.artifacts import discard, is_finished, read_manifest
from paced.storage.checks import WAY_OUT
from paced.storage.files import read_record
from paced.storage.identity import short
from paced.storage.runs import BEGUN
from paced.storage.store import ABOUT, read_note

MADE_OF = ("identity", "data", "answers")  # tags of a registered version that name artifacts


def artifacts(home: Path) -> Iterator[Path]:
    """Folders of finished artifacts."""
    yield from (f for f in sorted((home / "artifacts").glob("*/*")) if is_finished(f))


def collections(home: Path) -> Iterator[Path]:
    """Folders of the sample-keyed store."""
    yield from (folder for folder in sorted((home / "store").glob("*/*")) if folder.is_dir())


def notes_of(collection: Path) -> list[Path]:
    """The notes of a collection's parts."""
    return sorted(p for p in collection.glob("*.json") if p.name != ABOUT)


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file())


def listing(home: Path) -> str:
    """A table of stored collections and artifacts: kind, rows or counts, size, folder."""
    lines: list[str] = []
    for folder in collections(home):
        notes = notes_of(folder)
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
        return read_note(note).rows
    except CacheError:
        return None


def folder_line(folder: Path, damaged: int) -> str:
    """A folder, and how many of its notes and manifests cannot be read."""
    return f"{folder}" + (f"  {damaged} damaged: run 'paced cache verify --delete'" if damaged else "")


def strays(home: Path) -> Iterator[Path]:
    """Files where only folders belong, and folders where only locks do."""
    yield from sorted(
        p
        for pattern in ("artifacts/*", "artifacts/*/*", "store/*", "store/*/*")
        for p in home.glob(pattern)
        if not p.is_dir()
    )
    yield from sorted(p for p in home.glob("locks/*") if p.is_dir())


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
    try:
        notes = [stage for f in runs.glob("*/run.json") for stage in read_record(f)["stages"]]
        notes += [read_record(f) for f in runs.glob("*/executed/*.json")]
        # By stage and identity: the home may have been moved, or be reached by another path.
        wanted = {Path(note["path"]).parts[-2:] for note in notes}
    except (KeyError, TypeError):
        raise CacheError(f"a record in {runs} says not what it should: {WAY_OUT}") from None
    made_of = {short(t[name]) for t in tags for name in MADE_OF if name in t}
    folders = [f for f in artifacts(home) if f.parts[-2:] not in wanted and f.name not in made_of]
    half = [f for f in sorted((home / "artifacts").glob("*/*")) if f.is_dir() and not is_finished(f)]
    left = sorted(retraining_leftovers(home, {short(t["model"]) for t in tags if "model" in t}))
    left += [*idle_work(home), *store_leftovers(home), *strays(home)]
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
    """Whether a run has ended well, and was not begun again since."""
    record = run / "run.json"
    return record.exists() and not (run / BEGUN).exists() and read_record(record).get("status") == "completed"


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
        decided = {f["sha256"][:12] for f in read_record(ledger)["files"]} if ledger.exists() else set[str]()
        for copies in (folder / "data").glob("*"):
            open_ = any(f.name.partition("-")[0] not in decided for f in copies.iterdir())
            if not open_ and not any(str(copies.relative_to(home)) in text for text in recipes):
                yield copies
        yield from (f for f in (folder / "weights").glob("*") if f.name not in models)
        yield from folder.glob("arriving")


def held(lock: Path) -> bool:
    """Whether a process holds a file lock."""
    if not lock.is_file():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
