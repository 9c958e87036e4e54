"""What counts as new in a watched place: by its bytes, once it rests, until a decision was made on it."""

import threading
import time
from pathlib import Path

import fsspec
import pytest

from paced.config import Data, Retraining
from paced.data.layouts import read
from paced.data.watched import Incoming, Ledger, Taken, Watched, take
from paced.errors import CacheError, ConfigError


def look(watch: Path | str, home: Path, **settings: object) -> Taken:
    return take(Retraining.model_validate({"watch": str(watch), "settle": 0} | settings), Ledger(home / "l.json"), home)


def names(taken: Taken) -> list[str]:
    return [f.name.rpartition("/")[2] for f in taken.files]


@pytest.fixture
def watch(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    return tmp_path / "in"


def test_new_until_decided(watch: Path, tmp_path: Path) -> None:
    (watch / "a.jsonl").write_text('{"question": "75+6="}\n')
    (watch / "deep" / "b.jsonl").write_text('{"question": "geggfg>"}\n{"question": "no"}\n')
    for other in ("notes.txt", ".c.jsonl", "empty.jsonl"):
        (watch / other).write_text("" if other.startswith("empty") else "x")
    first = look(watch, tmp_path)
    assert (names(first), first.known) == (["a.jsonl", "b.jsonl"], 0)
    assert (first.unsettled, first.empty) == ((), ("empty.jsonl",))
    problems = list(read(Data(source="tiny", path="file"), first.folder))
    assert {(p.question, p.gold, bool(p.fault)) for p in problems} == {
        ("75+6=", "+6=81;#81", False), ("geggfg>", "#efgggg", False), ("no", "", True),
    }  # fmt: skip

    again = look(watch, tmp_path)  # an interrupted retraining noted nothing: the same files, the same data
    assert (again.identity, again.folder) == (first.identity, first.folder)
    Ledger(tmp_path / "l.json").add(again.files, "kept")
    assert (names(look(watch, tmp_path)), look(watch, tmp_path).known) == ([], 2)

    (watch / "a.jsonl").rename(watch / "renamed.jsonl")
    (watch / "copy.jsonl").write_bytes((watch / "renamed.jsonl").read_bytes())
    assert names(look(watch, tmp_path)) == []
    with (watch / "deep" / "b.jsonl").open("a") as file:
        file.write('{"question": "50+92="}\n')
    assert names(look(watch, tmp_path)) == ["b.jsonl"]
    assert names(look(watch, tmp_path, files="deep/*.jsonl")) == ["b.jsonl"]
    assert names(look(watch, tmp_path, files="*.parquet")) == []


def test_a_known_file_by_another_name_or_mark_is_read_once(watch: Path, tmp_path: Path) -> None:
    (watch / "a.jsonl").write_text("1\n")
    Ledger(tmp_path / "l.json").add(look(watch, tmp_path).files, "kept")
    (watch / "a.jsonl").rename(watch / "b.jsonl")
    (watch / "c.jsonl").write_text("1\n")
    for copied in (["b.jsonl", "c.jsonl"], []):
        with pytest.MonkeyPatch.context() as patch:
            read: list[str] = []
            copy = Watched.copy
            patch.setattr(Watched, "copy", lambda self, name, folder: read.append(name) or copy(self, name, folder))  # noqa: B023
            taken = look(watch, tmp_path)
        assert (names(taken), taken.known, read) == ([], 2, copied)


def test_many_files_are_compared_with_a_set(watch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    name = Incoming.copy_name
    monkeypatch.setattr(Incoming, "copy_name", property(lambda self: asked.append(self.name) or name.fget(self)))
    for number in range(30):
        (watch / f"{number}.jsonl").write_text(f"{number}\n")
    assert len(names(look(watch, tmp_path))) == 30
    assert len(asked) <= 2 * 30


def test_equal_files_are_taken_once(watch: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (watch / f"{name}.jsonl").write_text("same\n")
    taken = look(watch, tmp_path)
    assert names(taken) == ["a.jsonl"]
    assert len(list(taken.folder.iterdir())) == 1


def test_a_half_written_file_is_left(watch: Path, tmp_path: Path) -> None:
    (watch / "whole.jsonl").write_text("1\n")
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.02):
            with (watch / "growing.jsonl").open("a") as file:
                file.write("2\n")

    writer = threading.Thread(target=write)
    writer.start()
    while not (watch / "growing.jsonl").exists():
        time.sleep(0.01)
    try:
        taken = look(watch, tmp_path, settle=0.5)
    finally:
        done.set()
        writer.join()
    assert (names(taken), taken.unsettled) == (["whole.jsonl"], ("growing.jsonl",))
    assert [f.read_text() for f in taken.folder.iterdir()] == ["1\n"]
    Ledger(tmp_path / "l.json").add(taken.files, "kept")
    assert names(look(watch, tmp_path, settle=0.1)) == ["growing.jsonl"]


def test_an_object_store(tmp_path: Path) -> None:
    """Any file system of fsspec: the one in memory stands for a bucket."""
    bucket = fsspec.filesystem("memory")
    bucket.pipe("/bucket/new/part.jsonl", b"1\n")
    taken = look("memory://bucket/new", tmp_path)
    assert [f.name for f in taken.files] == ["memory://bucket/new/part.jsonl"]
    assert [f.read_bytes() for f in taken.folder.iterdir()] == [b"1\n"]
    Ledger(tmp_path / "l.json").add(taken.files, "promoted")
    assert names(look("memory://bucket/new", tmp_path)) == []


@pytest.mark.parametrize(
    ("place", "says"), [("nowhere", "nowhere does not exist"), ("nope://x", "Protocol not known"), ("s3://x", "s3")]
)
def test_a_place_that_cannot_be_watched(place: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says) as error:
        look(place, tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_ledger(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text('{"files": [{}]}')
    with pytest.raises(CacheError, match=r"l.json is unreadable .*: delete it"):
        Ledger(tmp_path / "l.json")
