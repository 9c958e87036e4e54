"""``paced cache verify``: every stored byte is compared with what was recorded of it."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from paced.errors import CacheError
from paced.storage.artifacts import Manifest, discard, identity_of, read_manifest
from paced.storage.checks import WAY_OUT
from paced.storage.files import entry_of, is_record, lost_lines, read_record
from paced.storage.housekeeping import artifacts, collections, notes_of, strays
from paced.storage.identity import digest, file_digest, short
from paced.storage.inventory import parts_of
from paced.storage.runs import read_recipe
from paced.storage.shared import shared
from paced.storage.store import ABOUT, open_part


class Verification:
    """What comparing every stored file with its recorded sha256 has found.

    Where hosts share a store, a home may lack files that the store has: they are fetched when they are read.

    Attributes:
        checked: how many files were compared.
        lines: one for each that is damaged, and for each that does not belong where it lies.
    """

    def __init__(self, home: Path, delete: bool):
        self.home, self._delete, self._store = home, delete, shared()
        self.checked, self.lines = 0, list[str]()
        self._parts, self._identities = set[str](), set[str]()  # of undamaged parts; of damaged artifacts
        self._trusting: dict[Path, Manifest] = {}  # undamaged artifacts of versions that did not compare what they read

    def run(self) -> None:
        if self._store:
            self._parts |= parts_of(self._store)
        for folder in collections(self.home):
            self._collection(folder)
        for folder in artifacts(self.home):
            if fault := self._fault(folder):
                self._damaged(fault, folder)
        for folder in self._poisoned():
            self._damaged(f"{folder}: made from what is damaged by a version that did not compare it", folder)
        for path in records(self.home):
            self._record(path)
        for path in sorted(self.home.glob("runs/*/journal/*.jsonl")):
            self._journal(path)
        self.lines += [f"{path}: does not belong here; 'paced cache gc' removes it" for path in strays(self.home)]

    def _away(self, path: Path) -> bool:
        return self._store is not None and not path.exists()

    def _damaged(self, line: str, *paths: Path) -> None:
        self.lines.append(line)
        for path in paths if self._delete else ():
            discard(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _collection(self, folder: Path) -> None:
        for note in notes_of(folder):
            part = note.with_suffix(".parquet")
            if self._away(part):
                continue
            self.checked += 1
            try:
                open_part(part)[0].close()
                self._parts.add(part.stem)
            except CacheError as error:
                self._damaged(str(error), note, part)
        try:
            good = short(digest(read_record(folder / ABOUT))) == folder.name
        except FileNotFoundError:  # what the parts are of stands in each of them, too: nothing depends on this file
            good = True
        except CacheError:
            good = False
        if not good:
            self._damaged(f"{folder / ABOUT} is damaged: the next part that is stored writes it anew", folder / ABOUT)

    def _fault(self, folder: Path) -> str:
        """What is wrong with an artifact, if anything is."""
        try:
            manifest = read_manifest(folder)
            if manifest.identity != identity_of(manifest) or short(manifest.identity) != folder.name:
                raise CacheError(f"{folder / 'manifest.json'} is damaged (not what its identity is made of): {WAY_OUT}")
        except CacheError as error:
            self._identities |= identities(folder)
            return str(error)
        here = [file for file in manifest.files if not self._away(folder / file.name)]
        self.checked += len(here)
        bad = [file.name for file in here if not is_whole(folder / file.name, file.sha256)]
        if bad:
            self._identities.add(manifest.identity)
            return f"{folder / bad[0]}: missing or other bytes than recorded" + (
                f", and {len(bad) - 1} more files" if bad[1:] else ""
            )
        if not is_record(folder / "manifest.json"):
            self._trusting[folder] = manifest
        lost = selected_parts(folder) - self._parts
        return f"{folder}: selects {len(lost)} parts that are gone" if lost else ""

    def _poisoned(self) -> Iterator[Path]:
        """Artifacts made from damaged ones, perhaps after that: by versions that gave a manifest no digest.

        All others compared what they read while they read it (paced/storage/checks.py), so they are what they were.
        """
        while found := [f for f, m in self._trusting.items() if self._identities & {*m.inputs.values()}]:
            for folder in found:
                self._identities.add(self._trusting.pop(folder).identity)
                yield folder

    def _record(self, path: Path) -> None:
        self.checked += 1
        try:
            read_recipe(path.parent) if path.suffix == ".yaml" else read_record(path)
        except CacheError as error:
            if path.name == "ledger.json":  # which only its owner can decide on
                self.lines.append(f"{path} is damaged: delete it, and every watched file counts as new again")
            else:
                self._damaged(str(error), *([] if path.suffix == ".yaml" else [path]))

    def _journal(self, path: Path) -> None:
        self.checked += 1
        lines = [entry_of(line) for line in path.read_bytes().split(b"\n")[:-1]]
        if lost := lost_lines(lines):
            self.lines.append(f"{path}: {len(lost)} damaged lines: run its recipe again, which notes them anew")


def verify(home: Path, delete: bool) -> tuple[int, list[str]]:
    """Compare every stored file with its recorded sha256.

    Args:
        delete: remove damaged parts, records and artifacts, artifacts that select rows of a removed part, and those
            that may have been made from damaged ones.

    Returns:
        how many files were checked, and one line for each damaged one.
    """
    found = Verification(home, delete)
    found.run()
    return found.checked, found.lines


def is_whole(path: Path, sha256: str) -> bool:
    try:
        return file_digest(path) == sha256
    except OSError:
        return False


def identities(folder: Path) -> set[str]:
    """What an artifact may be known by whose manifest cannot be trusted: the folder's name begins with it."""
    return {
        value
        for other in artifacts(folder.parents[2])
        if other != folder
        for value in inputs_of(other)
        if short(value) == folder.name
    }


def inputs_of(folder: Path) -> list[str]:
    try:
        return list(read_manifest(folder).inputs.values())
    except CacheError:
        return []


def records(home: Path) -> list[Path]:
    """Files beside store and artifacts that say which bytes they should have."""
    patterns = ("run.json", "summary.json", "mlflow.json", "recipe.yaml", "executed/*.json")
    return sorted({*home.glob("retrain/*/ledger.json"), *(f for p in patterns for f in home.glob(f"runs/*/{p}"))})


def selected_parts(folder: Path) -> set[str]:
    """Names of the store's parts that an artifact selects rows of."""
    parts = set[str]()
    for name in ("rollouts.parquet", "answers.parquet"):
        if (folder / name).exists():
            parts |= set(pd.read_parquet(folder / name, columns=["part"])["part"])
    return parts
