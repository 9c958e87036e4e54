"""What counts as new in a watched place: by its bytes, once it rests, until a decision was made on it."""

import json
import threading
import time
from pathlib import Path

import fsspec
import pytest

from paced.config import Data, Retraining
from paced.data.layouts import read
from paced.data.watched import Incoming, Ledger, Taken, Watched, take
from paced.errors import CacheError, ConfigError, DataError


def task(a: int, b: int) -> str:
    """A line of a file: a problem of its own for each pair of numbers."""
    return json.dumps({"question": f"{a}+{b}="}) + "\n"


ROWS = {1: task(75, 6), 2: task(50, 92)}
TINY = Data(source="tiny", path="file")


def look(watch: Path | str, home: Path, data: Data = TINY, **settings: object) -> Taken:
    """What is taken of the new files alone, unless ``pool_days`` is given."""
    retraining = Retraining.model_validate({"watch": str(watch), "settle": 0, "pool_days": 0} | settings)
    return take(retraining, data, Ledger(home / "l.json"), home)


def decided(home: Path, taken: Taken, outcome: str) -> None:
    Ledger(home / "l.json").add(taken.files, outcome, taken.problems)


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
    (watch / "a.jsonl").write_text(ROWS[1])
    Ledger(tmp_path / "l.json").add(look(watch, tmp_path).files, "kept")
    (watch / "a.jsonl").rename(watch / "b.jsonl")
    (watch / "c.jsonl").write_text(ROWS[1])
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
        (watch / f"{number}.jsonl").write_text(task(number, 3))
    assert len(names(look(watch, tmp_path))) == 30
    assert len(asked) <= 2 * 30


def test_equal_files_are_taken_once(watch: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (watch / f"{name}.jsonl").write_text(ROWS[1])
    taken = look(watch, tmp_path)
    assert names(taken) == ["a.jsonl"]
    assert len(list(taken.folder.iterdir())) == 1


def test_a_half_written_file_is_left(watch: Path, tmp_path: Path) -> None:
    (watch / "whole.jsonl").write_text(ROWS[1])
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.02):
            with (watch / "growing.jsonl").open("a") as file:
                file.write(ROWS[2])

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
    assert [f.read_text() for f in taken.folder.iterdir()] == [ROWS[1]]
    Ledger(tmp_path / "l.json").add(taken.files, "kept")
    assert names(look(watch, tmp_path, settle=0.1)) == ["growing.jsonl"]


def test_an_object_store(tmp_path: Path) -> None:
    """Any file system of fsspec: the one in memory stands for a bucket."""
    bucket = fsspec.filesystem("memory")
    bucket.pipe("/bucket/new/part.jsonl", ROWS[1].encode())
    taken = look("memory://bucket/new", tmp_path)
    assert [f.name for f in taken.files] == ["memory://bucket/new/part.jsonl"]
    assert [f.read_bytes() for f in taken.folder.iterdir()] == [ROWS[1].encode()]
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


def test_the_same_rows_in_another_order_are_not_new(watch: Path, tmp_path: Path) -> None:
    rows = [task(number, 7) for number in range(10, 20)]
    (watch / "a.jsonl").write_text("".join(rows[:6]))
    (watch / "b.jsonl").write_text("".join(rows[6:]))
    first = look(watch, tmp_path)
    assert (first.new_files, first.new_problems) == (2, 10)
    decided(tmp_path, first, "promoted")
    (watch / "again.jsonl").write_text("".join(reversed(rows)))  # both files in one, in another order
    again = look(watch, tmp_path)
    assert (names(again), again.known, again.new_problems) == ([], 3, 0)
    with (watch / "again.jsonl").open("a") as file:
        file.write(task(99, 7) + task(98, 7))
    assert names(look(watch, tmp_path)) == ["again.jsonl"]
    assert look(watch, tmp_path).new_problems == 2


def test_the_same_table_in_another_format_is_not_new(watch: Path, tmp_path: Path) -> None:
    data = Data(source="table", path="file")
    (watch / "a.jsonl").write_text('{"question": "How many?", "answer": "12"}\n{"question": "Who?", "answer": "3"}\n')
    decided(tmp_path, look(watch, tmp_path, data), "promoted")
    (watch / "b.csv").write_text("question,answer\nWho?,3\nHow many?,12\n")
    assert (names(taken := look(watch, tmp_path, data, files="*.csv")), taken.known) == ([], 1)


def test_without_a_promotion_files_are_taken_again_with_the_next(watch: Path, tmp_path: Path) -> None:
    (watch / "a.jsonl").write_text(task(11, 5))
    (watch / "b.jsonl").write_text(task(12, 5))
    decided(tmp_path, look(watch, tmp_path), "kept")
    assert names(look(watch, tmp_path, pool_days=7)) == []  # nothing new: nothing is trained
    (watch / "a.jsonl").unlink()  # its copy is there
    for copy in (tmp_path / "data").glob("*/*-b.jsonl"):
        copy.unlink()  # the file itself is there
    (watch / "c.jsonl").write_text(task(13, 5) + task(11, 5))
    taken = look(watch, tmp_path, pool_days=7)
    assert (names(taken), taken.new_files, taken.new_problems) == (["a.jsonl", "b.jsonl", "c.jsonl"], 1, 1)
    assert {p.question for p in read(TINY, taken.folder)} == {"11+5=", "12+5=", "13+5="}
    assert names(look(watch, tmp_path)) == ["c.jsonl"]  # outside the window
    decided(tmp_path, taken, "promoted")
    (watch / "d.jsonl").write_text(task(14, 5))
    assert names(look(watch, tmp_path, pool_days=7)) == ["d.jsonl"]


def test_files_of_a_challenger_that_a_person_promoted_leave_the_pool(watch: Path, tmp_path: Path) -> None:
    (watch / "a.jsonl").write_text(task(11, 5))
    taken = look(watch, tmp_path)
    Ledger(tmp_path / "l.json").add(taken.files, "passed", taken.problems, taken.identity)
    (watch / "b.jsonl").write_text(task(12, 5))
    assert names(look(watch, tmp_path, pool_days=7)) == ["a.jsonl", "b.jsonl"]
    Ledger(tmp_path / "l.json").promoted(taken.identity)
    assert names(look(watch, tmp_path, pool_days=7)) == ["b.jsonl"]


def test_a_file_of_the_pool_that_is_gone(watch: Path, tmp_path: Path) -> None:
    (watch / "a.jsonl").write_text(task(11, 5))
    decided(tmp_path, look(watch, tmp_path), "kept")
    for file in (watch / "a.jsonl", *(tmp_path / "data").glob("*/*")):
        file.unlink()
    (watch / "b.jsonl").write_text(task(12, 5))
    taken = look(watch, tmp_path, pool_days=7)
    assert (names(taken), [Path(name).name for name in taken.gone]) == (["b.jsonl"], ["a.jsonl"])


def test_a_broken_file_is_named_as_it_is_called(watch: Path, tmp_path: Path) -> None:
    (watch / "a.jsonl").write_text(task(11, 5) + "{\n")
    with pytest.raises(DataError, match=rf"^(data file )?{watch}/a.jsonl"):
        look(watch, tmp_path)


def test_a_ledger_of_an_older_release(watch: Path, tmp_path: Path) -> None:
    """It lists no problems, so only equal files are known; a kept one from long ago is in no pool."""
    (watch / "a.jsonl").write_text(task(11, 5))
    [file] = look(watch, tmp_path).files
    entry = file.model_dump() | {"outcome": "kept", "time": "2025-01-05T02:14:07+00:00"}
    (tmp_path / "l.json").write_text(json.dumps({"schema": 1, "files": [entry]}))
    (watch / "b.jsonl").write_text(task(12, 5) + task(11, 5))
    taken = look(watch, tmp_path, pool_days=7)
    assert (names(taken), taken.known, taken.new_problems) == (["b.jsonl"], 1, 2)
