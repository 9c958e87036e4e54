"""What data files are kept in: every container gives the same rows, by parts; messages name the file and what to do."""

import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import TINY
from test_problems import lines

from paced.config import Data
from paced.config.reading import load_recipe
from paced.config.retraining import Retraining
from paced.data.layouts import read
from paced.data.rows import identity, rows
from paced.errors import ConfigError, DataError
from paced_deployments.commands.named import check_data

TABLE = [
    {"question": f"What is {i}, or\n\"that\"?", "answer": f"NA {i}", "level": str(i % 5), "solution": "é, 01"}
    for i in range(2100)
]  # fmt: skip


def stored(folder: Path, name: str) -> Path:
    """TABLE in the container that a file of this name is."""
    path, suffix = folder / name, Path(name.removesuffix(".gz").removesuffix(".zst")).suffix
    if suffix in (".csv", ".tsv"):
        with (folder / "plain").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(TABLE[0]), delimiter="," if suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(TABLE)
    elif suffix == ".json":
        (folder / "plain").write_text(json.dumps(TABLE, indent=2))
    elif suffix == ".jsonl":
        lines(folder / "plain", TABLE)
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(TABLE), folder / "plain")
    else:
        table = pa.Table.from_pylist(TABLE)
        new = pa.ipc.new_stream if name.startswith("stream") else pa.ipc.new_file
        with new(folder / "plain", table.schema) as writer:
            writer.write_table(table, max_chunksize=700)
    plain = (folder / "plain").read_bytes()
    (folder / "plain").unlink()
    if name.endswith(".gz"):
        half = len(plain) // 2  # two members, as `cat a.gz b.gz` makes them
        path.write_bytes(gzip.compress(plain[:half]) + gzip.compress(plain[half:]))
    elif name.endswith(".zst"):
        half = len(plain) // 2
        codec = pa.Codec("zstd")
        path.write_bytes(b"".join(codec.compress(p, asbytes=True) for p in (plain[:half], plain[half:])))
    else:
        path.write_bytes(plain)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.json", "x.json.gz", "x.csv", "x.tsv", "x.csv.gz", "x.parquet",
        "x.arrow", "stream.arrow", "called.data", "x.tsv.zst",
    ],
)  # fmt: skip
def test_every_container_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = stored(tmp_path, "x.parquet").rename(tmp_path / name) if name == "called.data" else stored(tmp_path, name)
    found = list(rows(path))
    assert [row for _, row in found] == TABLE
    assert all(where.startswith(f"{path}:") for where, _ in found)
    assert list(read(Data(source="table", path=str(path)), path))[7].gold == "NA 7"


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('\ufeff\n[\n {"question": "a",\n  "answer": 1},\n {"question": "b"}]\n', "utf-8")
    assert [where.rpartition(":")[2] for where, _ in rows(tmp_path / "x.json")] == ["3", "5"]
    (tmp_path / "x.csv").write_text('\ufeffquestion,answer\n"a\nb",1\n\nc,2\n', "utf-8")
    assert [w.rpartition(":")[2] for w, _ in rows(tmp_path / "x.csv")] == ["3", "5"]
    (tmp_path / "o.json").write_text('{"question": "a",\n "answer": 1}\n{"question": "b", "answer": 2}')
    assert [w.rpartition(":")[2] for w, _ in rows(tmp_path / "o.json")] == ["1", "3"]
    (tmp_path / "empty.json").write_text("[]")
    assert list(rows(tmp_path / "empty.json")) == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", b'[{"a": 1}\n {"a": 2}]', "x.json:2: not valid JSON (no comma between two objects)"),
        ("x.json", b'[{"a": 1},\n 3]', "x.json:2: not a JSON object: the file must hold a list of objects"),
        ("x.json", b'[{"a": 1},\n {"a": ', "x.json:2: not valid JSON"),
        ("x.json", b'[{"a": 1}] x', "x.json:1: something stands behind the end of the list"),
        ("x.jsonl", b"question,answer\na,1\n", "x.jsonl:1: not valid JSON"),
        ("x.jsonl", b"question,answer\na,1\n", "if the file is no JSON, give it its suffix (.csv"),
        ("x.csv", b"question,answer\na,b,1\n", "x.csv:2: 3 cells below a header of 2 (question, answer): quote cells"),
        ("x.csv", b"question,question\na,1\n", "x.csv:1: the header names 'question' twice"),
        ("x.csv", "question\nwie groß\n".encode("latin-1"), "x.csv is not UTF-8 text"),
        ("x.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99, mtime=0)[:-9], "x.jsonl.gz is damaged where it is compressed"),
        (
            "x.parquet",
            gzip.compress(b"PAR1", mtime=0),
            "x.parquet is compressed as a whole, so no part of it can be read alone",
        ),
        ("x.arrow", b"nothing of the kind", "x.arrow is not a readable Arrow file"),
        ("x.arrow", b"ARROW1\0\0 and no more", "x.arrow is not a readable Arrow file"),
        ("x.jsonl", b"PK\x03\x04 and no more", "x.jsonl is not a readable zip file"),
        ("x.jsonl.zst", b"\x28\xb5\x2f\xfd and no more", "x.jsonl.zst is damaged where it is compressed"),
    ],
)  # fmt: skip
def test_messages_say_what_the_file_is(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        list(rows(tmp_path / name))
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert "UTF-8" not in says or "UTF-8" in str(error.value)


@pytest.mark.parametrize("name", ["x.json", "x.jsonl.gz", "x.csv", "x.arrow"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    few, many = [], []
    for peaks, repeats in ((few, 20), (many, 200)):
        table = [{"question": f"{i} " + "q" * 1000, "answer": str(i)} for i in range(100 * repeats)]
        path = tmp_path / f"{repeats}{name}"
        if name.endswith(".csv"):
            path.write_text("question,answer\n" + "".join(f"{r['question']},{r['answer']}\n" for r in table))
        elif name.endswith(".arrow"):
            with pa.ipc.new_stream(path, pa.Table.from_pylist(table[:1]).schema) as writer:
                writer.write_table(pa.Table.from_pylist(table), max_chunksize=1000)
        elif name.endswith(".json"):
            path.write_text(json.dumps(table))
        else:
            path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in table).encode(), 1))
        del table
        tracemalloc.start()
        assert sum(1 for _ in rows(path)) == 100 * repeats
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert many[0] < 1.3 * few[0] + 1e6
    assert many[0] < 12e6  # of 20 MB


# Folders and patterns.


def some(path: Path, count: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return lines(path, [{"question": f"{path.name} {i}?", "answer": str(i)} for i in range(count)])


def questions(path: Path) -> list[str]:
    return [row["question"].split()[0] for _, row in rows(path)]


@pytest.mark.parametrize(
    ("training", "test"),
    [
        ("train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"),
        ("data/train.jsonl", "data/validation.jsonl"),
        ("train/part.jsonl", "test/part.jsonl"),
        ("math_train.jsonl", "math_dev.jsonl"),
    ],
)
def test_of_several_splits_one_is_asked_for(tmp_path: Path, training: str, test: str) -> None:
    some(tmp_path / training)
    assert len(questions(tmp_path)) == 1
    some(tmp_path / test)
    for ask in (questions, identity):
        with pytest.raises(DataError) as error:
            ask(tmp_path)
        message = str(error.value)
        assert f"{tmp_path} holds several splits (" in message
        assert training in message and test in message and "name the files of one" in message
    one = str(tmp_path / training).replace("00000", "*")
    assert questions(Path(one)) == [Path(training).name]
    assert questions((tmp_path / training).parent if "/" in training[6:] else tmp_path / training)


def test_patterns(tmp_path: Path) -> None:
    for name in ("train-1.jsonl", "train-2.jsonl", "test-1.jsonl"):
        some(tmp_path / name)
    pattern = tmp_path / "train-*.jsonl"
    assert questions(pattern) == ["train-1.jsonl", "train-2.jsonl"]
    before = identity(pattern)
    some(tmp_path / "test-2.jsonl")
    assert identity(pattern) == before
    some(tmp_path / "train-2.jsonl", 2)
    assert identity(pattern) != before
    with pytest.raises(DataError, match="No such file"):
        questions(tmp_path / "valid-*")
    some(tmp_path / "odd[1].jsonl")
    assert questions(tmp_path / "odd[1].jsonl") == ["odd[1].jsonl"]  # its own name, and no pattern


def test_a_recipe_may_name_a_pattern(tmp_path: Path) -> None:
    some(tmp_path / "train-1.jsonl")
    check_data(load_recipe(TINY, (f"data={{source: table, path: {tmp_path}/train-*.jsonl}}",)))
    with pytest.raises(ConfigError, match=r"data.path: file .*valid-\* does not exist"):
        check_data(load_recipe(TINY, (f"data={{source: table, path: {tmp_path}/valid-*}}",)))


def test_what_stands_beside_the_data_is_none(tmp_path: Path) -> None:
    """A folder of ``datasets``, and one as a Mac leaves it."""
    for name in ("dataset_info.json", "state.json"):
        (tmp_path / name).write_text('{"features": {}}')
    with pa.ipc.new_stream(tmp_path / "data-00000-of-00001.arrow", pa.Table.from_pylist(TABLE).schema) as writer:
        writer.write_table(pa.Table.from_pylist(TABLE))
    assert [row for _, row in rows(tmp_path)] == TABLE
    some(tmp_path / "other" / "x.jsonl")
    (tmp_path / "other" / "._x.jsonl").write_bytes(b"\0\5\26\7")
    assert len(list(rows(tmp_path / "other"))) == 1


@pytest.mark.parametrize("name", ["new/*.csv", "*.jsonl.zst", "day-*.json", "*.arrow"])
def test_a_watched_folder_may_hold_any_of_them(name: str) -> None:
    assert Retraining(watch="in", files=name).files == name
