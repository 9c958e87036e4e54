"""A power cut at any moment: what has a manifest or a note is whole, and the same stage ends with the same bits.

After a cut a disk surely holds what was synchronised and nothing else: a file has the bytes of its last fsync, a folder
the names of its own. So the disk after a cut in between two fsyncs is the one after the first of them, and a disk is
looked at after every fsync of a stage, whichever library wrote the bytes.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import Chain, contents

from paced.stage import execute
from paced.storage.files import vouched
from paced.storage.verification import verify

ALL = os.environ.get("PACED_CUTS") == "all"  # `make cuts`; else a fifth of the cuts of three stages
MORE = ("teacher", "train_reverse", "diagnose", "evaluate")
STAGES = ("prepare", "rollouts", "train_forward", *(MORE if ALL else ()))
LOOKED, RESUMED = (1, 6) if ALL else (5, 40)  # of so many cuts one is looked at, and gone on from


class Name(NamedTuple):
    """What a folder has under a name."""

    inode: int
    is_folder: bool


class Disk:
    """What a disk holds of a folder for sure, by the fsyncs of this process."""

    def __init__(self, root: Path):
        self._root = root.stat().st_ino
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, Name]] = {}
        self._open: list[int] = []  # so that no inode is given to another file

    def fsync(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self._open.append(os.dup(descriptor))
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(descriptor) as entries:
                self._names[found.st_ino] = {
                    e.name: Name(e.inode(), e.is_dir(follow_symlinks=False)) for e in entries
                }
        else:
            with open(f"/proc/self/fd/{descriptor}", "rb") as file:
                self._bytes[found.st_ino] = file.read()

    def after_a_cut(self, folder: Path) -> Path:
        """A folder with what would be there; a name whose bytes were never synchronised has an empty file."""
        shutil.rmtree(folder, ignore_errors=True)
        self._write(self._root, folder)
        return folder

    def _write(self, inode: int, folder: Path) -> None:
        folder.mkdir()
        for name, entry in self._names.get(inode, {}).items():
            if entry.is_folder:
                self._write(entry.inode, folder / name)
            else:
                (folder / name).write_bytes(self._bytes.get(entry.inode, b""))

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def disk(home: Path) -> Iterator[Disk]:
    disk = Disk(home)
    yield disk
    disk.close()


@pytest.mark.parametrize("stage", STAGES)
def test_what_has_a_manifest_is_whole(
    stage: str, chain: Chain, home: Path, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing that was told as committed is lost: the stage that is told as done is done after a cut."""
    spec = chain.specs[stage].model_copy(update={"home": str(home)})
    stored = stage.startswith(("train", "diagnose"))
    if stored:  # what earlier stages have left, which is on the disk
        shutil.copytree(chain.home / "store", home / "store")
    cut, cuts, finished = tmp_path / "cut", list[Path](), False

    def fsync(descriptor: int) -> None:
        nonlocal finished
        disk.fsync(descriptor)
        finished = spec.folder.joinpath("manifest.json").exists()
        if finished or len(cuts) % LOOKED == 0:
            disk.after_a_cut(cut)
            assert verify(cut, delete=False)[1] == []
        if len(cuts) % RESUMED == RESUMED // 2:
            shutil.copytree(cut, tmp_path / f"cut-{len(cuts)}")
        cuts.append(tmp_path / f"cut-{len(cuts)}")

    monkeypatch.setattr(os, "fsync", fsync)
    execute(spec, lambda event: None)
    monkeypatch.undo()
    assert finished and (cut / spec.folder.relative_to(home) / "manifest.json").exists()

    for left in cuts[RESUMED // 2 :: RESUMED]:
        if stored:
            shutil.copytree(chain.home / "store", left / "store", dirs_exist_ok=True)
        saved = [p for p in left.glob("work/*/checkpoint-*") if vouched(p / "checkpoint.json")]
        events: list[Any] = []
        ref = execute(spec.model_copy(update={"home": str(left)}), events.append)
        assert contents(ref.folder) == contents(chain.refs[stage].folder)
        done = any(event["event"] == "metric" for event in events)  # else its artifact was there
        assert (bool(saved) and done) == any(e.get("message", "").startswith("resuming at step") for e in events)
        assert verify(left, delete=False)[1] == []
