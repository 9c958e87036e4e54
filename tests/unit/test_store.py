"""The sample store: nothing is computed twice, nothing is lost, nothing damaged or foreign is used."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paced.errors import CacheError
from paced.storage.files import read_record
from paced.storage.identity import digest
from paced.storage.store import Collection, Writer, sample_key

SCHEMA = pa.schema(
    {"sample_key": pa.string(), "value": pa.int32(), "ids": pa.list_(pa.int32()), "halves": pa.list_(pa.float16())}
)
ABOUT = {"model": "sha256:1", "seed": 0}


def collection(root: Path, about: dict[str, Any] = ABOUT, tokens: str = "sha256:tokens") -> Collection:
    return Collection(root, "samples", about, SCHEMA, tokens)


def row(key: str, value: int = 0) -> dict[str, Any]:
    return {"sample_key": key, "value": value, "ids": [value, 7], "halves": [-0.5, -float("inf")]}


def test_rows_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    store = collection(tmp_path)
    first, second = store.write([row("a", 1), row("b", 2)]), store.write([row("c", 3), row("d", 4)])
    assert store.refresh() == {"a": first, "b": first, "c": second, "d": second} == collection(tmp_path).refresh()
    wanted = ["d", "a", "b", "a", "c"]
    other = collection(tmp_path)
    index = other.refresh()
    found = list(other.rows([(k, index[k]) for k in wanted], ["value", "ids", "halves"]))
    assert found == [row(k, " abcd".index(k)) for k in wanted]
    with pytest.raises(CacheError, match="lacks sample d"):
        list(store.rows([("d", first)], ["value"]))
    table = store.part(first)
    about = digest(ABOUT).encode()
    assert table.schema.metadata == {b"paced.tokens": b"sha256:tokens", b"paced.schema": b"1", b"paced.about": about}
    assert read_record(store.folder / "collection.json") == ABOUT


def test_a_part_is_read_once_for_rows_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = collection(tmp_path)
    parts = {n: store.write([row(f"{n}-{i}", 10 * n + i) for i in range(8)]) for n in range(4)}
    read: list[str] = []
    opened = Collection._open  # type: ignore[attr-defined]
    monkeypatch.setattr(Collection, "_open", lambda self, name: read.append(name) or opened(self, name))
    drawn = [(n, i) for i in (5, 0, 5, 7) for n in (2, 0, 3)]
    found = store.rows([(f"{n}-{i}", parts[n]) for n, i in drawn], ["value"])
    assert [r["value"] for r in found] == [10 * n + i for n, i in drawn]
    assert sorted(read) == sorted(parts[n] for n in (0, 2, 3))


def test_other_parameters_are_another_collection(tmp_path: Path) -> None:
    collection(tmp_path).write([row("a")])
    assert collection(tmp_path, {**ABOUT, "seed": 1}).refresh() == {}
    assert Collection(tmp_path, "targets", ABOUT, SCHEMA, "sha256:tokens").refresh() == {}
    keys = {sample_key(**ABOUT, prompt=p, index=i) for p in ([1, 2], [1], [12]) for i in (0, 1)}
    assert len(keys) == 6
    assert sample_key(a=1, b=2) == sample_key(b=2, a=1)


def test_refresh_sees_what_another_process_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = collection(tmp_path), collection(tmp_path)
    assert mine.refresh() == {}
    a = theirs.write([row("a")])
    assert mine.refresh() == {"a": a}
    b = theirs.write([row("b"), row("a")])  # the same key again: what was found first stays
    read: list[str] = []
    opened = Collection._open  # type: ignore[attr-defined]
    monkeypatch.setattr(Collection, "_open", lambda self, name: read.append(name) or opened(self, name))
    assert mine.refresh() == {"a": a, "b": b}
    assert read == [b]


def test_a_large_folder_is_not_listed_for_each_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing costs what writing does: else ten times the problems would be a hundred times the names gone through."""
    mine, theirs = collection(tmp_path), collection(tmp_path)
    names: list[int] = []
    listdir = os.listdir
    counted = lambda path: names.append(len(found := listdir(path))) or found  # noqa: E731
    monkeypatch.setattr("paced.storage.store.os.listdir", counted)
    for n in range(300):
        mine.write([row(f"{n}")])
        mine.refresh()
    assert sum(names) < 300 * 150  # 128 names a part; 300 with a listing a part
    theirs.write([row("other")])
    for n in range(300, 305):
        mine.write([row(f"{n}")])
        mine.refresh()
    assert "other" in mine.refresh()


WRITE = """
import sys
import threading
from pathlib import Path
import tests.unit.test_store as t
store = t.collection(Path(sys.argv[1]))
sys.stdin.readline()
for n in range(20):
    store.write([t.row(f"{n}-{i}", n) for i in range(3)])
    store.write([t.row(f"{n}-{i}", n + int(sys.argv[2])) for i in range(3, 6)])  # as if sampled with other last bits
"""


def test_two_processes_that_write_the_same_keys_lose_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, env=environment, text=True) for n in (1, 2)]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0]
    store = collection(tmp_path)
    index = store.refresh()
    assert len(index) == 120
    for found in store.rows(sorted(index.items()), ["value"]):
        n, _, i = found["sample_key"].partition("-")
        assert found["value"] - int(n) in ((0,) if int(i) < 3 else (1, 2))
    assert not list(store.folder.glob(".*"))


def test_an_interleaved_writer_leaves_both_parts_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import paced.storage.store

    noted = paced.storage.store.write_record

    def other_first(path: Path, value: Any) -> None:  # another process commits between our file and our note
        monkeypatch.setattr(paced.storage.store, "write_record", noted)
        collection(tmp_path).write([row("a", 2)])
        noted(path, value)

    store = collection(tmp_path)
    store.write([row("z")])
    monkeypatch.setattr(paced.storage.store, "write_record", other_first)
    mine = store.write([row("a", 1)])
    assert [r["value"] for r in collection(tmp_path).rows([("a", mine)], ["value"])] == [1]
    assert collection(tmp_path).refresh().keys() == {"a", "z"}


def test_a_part_without_its_note_is_not_there(tmp_path: Path) -> None:
    store = collection(tmp_path)
    name = store.write([row("a", 1)])
    (store.folder / f"{name}.json").unlink()  # killed between the two
    again = collection(tmp_path)
    assert again.refresh() == {}
    assert again.write([row("a", 1)]) == name
    assert collection(tmp_path).refresh() == {"a": name}
    (store.folder / f".{name}.parquet.99.tmp").write_bytes(b"PAR1half")  # killed while writing
    assert collection(tmp_path).refresh() == {"a": name}


def test_damaged_and_foreign_parts_are_refused(tmp_path: Path) -> None:
    store = collection(tmp_path)
    name = store.write([row("a", 1)])
    path, note = store.folder / f"{name}.parquet", store.folder / f"{name}.json"
    whole, said = path.read_bytes(), note.read_text()

    def refused(says: str, tokens: str = "sha256:tokens") -> None:
        for attempt in (
            lambda s: s.refresh(),
            lambda s: s.part(name),
            lambda s: list(s.rows([("a", name)], ["value"])),
        ):
            with pytest.raises(CacheError, match=says) as error:
                attempt(collection(tmp_path, tokens=tokens))
            assert str(store.folder) in str(error.value)
            assert "\n" not in str(error.value)

    path.write_bytes(whole[:60] + b"x" + whole[61:])
    refused("damaged.*paced cache verify --delete")
    path.write_bytes(whole[:100])
    refused("damaged")
    path.unlink()
    refused("missing.*paced cache verify --delete")
    path.write_bytes(whole)
    refused("another tokenizer.*sha256:tokens", tokens="sha256:others")
    newer = said.replace('"schema": 1', '"schema": 9')
    for text, says in (
        (newer, "schema version 9.*reads 1.*run again"),
        ("", "unreadable"),
        ("[1]", "damaged"),
        (said.replace('"rows": 1', '"rows": 2'), "damaged"),
        (said.replace("sha256:tokens", "sha256:others"), "damaged"),
    ):
        note.write_text(text)
        refused(says)
    note.write_text(said)
    assert collection(tmp_path).refresh() == {"a": name}


def test_parts_are_plain_parquet_with_the_same_bytes_for_the_same_rows(tmp_path: Path) -> None:
    rows = [row(str(i), i) for i in range(50)]
    names = [collection(tmp_path / folder).write(rows) for folder in ("x", "y")]
    assert names[0] == names[1]
    paths = [next((tmp_path / folder).rglob(f"{names[0]}.parquet")) for folder in ("x", "y")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert pq.read_table(paths[0]).to_pylist() == rows


def test_a_writer_commits_what_it_is_given_or_says_why_not(tmp_path: Path) -> None:
    """What went wrong with a part stops whoever writes the next one, or asks whether all are there."""
    store = collection(tmp_path)
    writer = Writer(store)
    for key in "abc":
        writer.write([row(key)])
    writer.wait()
    assert store.refresh().keys() == collection(tmp_path).refresh().keys() == set("abc")

    for folder in store.folder.iterdir():
        folder.unlink()
    store.folder.rmdir()
    store.folder.touch()
    writer.write([row("d")])
    with pytest.raises(FileExistsError):
        writer.write([row("e")])
    with pytest.raises(FileExistsError):
        writer.wait()
    writer.close()


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    """In the order asked for, as one part; what another process has committed meanwhile is not asked for again."""
    store, asked = collection(tmp_path), list[list[int]]()

    def compute(values: list[int]) -> list[dict[str, Any]]:
        asked.append(values)
        return [row("abcdef"[value], value) for value in values]

    def wanted(keys: str) -> dict[str, int]:
        return {key: "abcdef".index(key) for key in keys}

    assert store.ensure(wanted("cab"), compute) == 3
    collection(tmp_path).write([row("e", 4)])
    store.refresh()
    assert store.ensure(wanted("aefd"), compute) == 2
    assert store.ensure(wanted("abcdef"), compute) == 0
    assert asked == [[2, 0, 1], [5, 3]]
    assert len(list(store.folder.glob("*.parquet"))) == 3
    index = collection(tmp_path).refresh()
    assert list(store.rows([(key, index[key]) for key in "fab"], ["value"])) == [
        {"sample_key": key, "value": value} for key, value in wanted("fab").items()
    ]


def test_what_a_writer_was_given_is_not_computed_again(tmp_path: Path) -> None:
    """Also before it is committed."""
    store = collection(tmp_path)
    writer, gate = Writer(store), threading.Event()
    write = store.write
    store.write = lambda rows: (gate.wait(10), write(rows))[1]  # type: ignore[method-assign]
    compute = lambda keys: [row(key) for key in keys]  # noqa: E731
    assert store.ensure({"a": "a", "b": "b"}, compute, writer) == 2
    assert store.refresh() == {}
    assert store.ensure({"a": "a", "b": "b"}, compute, writer) == 0
    gate.set()
    writer.wait()
    assert store.refresh().keys() == {"a", "b"}
    writer.close()
