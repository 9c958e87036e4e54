"""What a field says: chat in any published form, parts of messages, bytes, missing numbers; else refused."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_problems import lines, prepare

from paced.config import Data
from paced.data.fields import dig
from paced.data.layouts import Problem, read
from paced.errors import DataError

PARTS = [{"type": "text", "text": "Why is"}, {"type": "text", "text": "it so?"}]
IMAGE = [*PARTS, {"type": "image_url", "image_url": {"url": "x"}}]
TURNS = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Why is\nit so?"},
    {"from": "gpt", "value": "2"},
]


def first(path: Path, **data: Any) -> Problem:
    return next(read(Data(**{"source": "table", "path": str(path)} | data), path))


@pytest.mark.parametrize(
    "asked",
    [
        PARTS,
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PARTS}],
        [{"role": "user", "content": "Why is\nit so?"}],
        TURNS,
        json.dumps(TURNS),
        json.dumps([{"content": "Why is\nit so?", "role": "user"}]),
        [{"type": "text", "text": "Why is"}, "it so?"],
        [{"type": "input_text", "text": "Why is"}, {"type": "input_text", "text": "it so?"}],
    ],
)
def test_questions_in_every_form_of_a_message(tmp_path: Path, asked: Any) -> None:
    path = lines(tmp_path / "x.jsonl", [{"question": asked, "answer": "1"}])
    assert first(path).question == "Why is\nit so?"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("question", IMAGE, "field 'question' has a part of type image_url, and only text is read: leave it out"),
        ("question", [{"role": "user", "content": IMAGE}], "has a part of type image_url"),
        ("question", str(TURNS), "field 'question' holds chat messages as Python text: write them as JSON"),
        ("question", {"text": "q", "lang": "en"}, "field 'question' holds fields of its own (text, lang): name one"),
        ("answer", float("inf"), "field 'answer' holds inf, which is no number: correct or remove it"),
        ("answer", float("-inf"), "field 'answer' holds -inf, which is no number"),
        ("answer", [[1, 2], [3, 4]], "field 'answer' holds lists in a list: write it as text"),
        ("solution", {"steps": []}, "field 'solution' holds fields of its own (steps)"),
        ("id", [{"a": 1}], "field 'id' holds fields of its own (a)"),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path, field: str, value: Any, says: str) -> None:
    good = {"question": "q", "answer": "1"}
    path = lines(tmp_path / "x.jsonl", [good, good | {field: value}])
    with pytest.raises(DataError) as error:
        list(read(Data(source="table", path=str(path)), path))
    assert str(error.value).startswith(f"{path}:2: ")
    assert says in str(error.value)


def test_missing_numbers_are_empty(tmp_path: Path) -> None:
    """NaN is how tables say that there is nothing; the row is left out, and listed."""
    table = pa.table({"question": ["a", "b", "c"], "answer": [1.5, float("nan"), None]})
    pq.write_table(table, tmp_path / "x.parquet")
    problems, rejected, _ = prepare(tmp_path, tmp_path / "x.parquet", source="table")
    assert [p["gold"] for p in problems] == ["1.5"]
    assert [(r["where"][-5:], r["kind"]) for r in rejected] == [("row 1", "empty"), ("row 2", "empty")]
    decimals = pa.table({"question": ["a"], "answer": [Decimal("0.50")]})
    pq.write_table(decimals, tmp_path / "y.parquet")
    assert first(tmp_path / "y.parquet").gold == "0.50"


def test_binary_columns(tmp_path: Path) -> None:
    binary = pa.table({"question": ["wie groß?".encode(), b"\xff\xfe"], "answer": [b"1", b"2"]})
    pq.write_table(binary, tmp_path / "x.parquet")
    assert first(tmp_path / "x.parquet")[1:3] == ("wie groß?", "1")
    with pytest.raises(DataError, match=r"x.parquet:row 1: field 'question' holds bytes that are no UTF-8 text"):
        list(read(Data(source="table", path="x"), tmp_path / "x.parquet"))


def test_paths() -> None:
    row = {"a": {"b": '{"c": {"d": 1}}'}, "prompt.text": "flat", "e": "text", "f": {"g.h": 2}}
    assert dig(row, "a.b.c.d") == 1
    assert dig(row, "prompt.text") == "flat"
    assert dig(row, "f.g.h") == 2
    for path in ("a.b.x", "e.x", "a.x", "prompt"):
        with pytest.raises(KeyError):
            dig(row, path)
    with pytest.raises(KeyError):
        dig({"a": '{"b": '}, "a.b")


def test_a_level_in_words_stops_nobody(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", [{"question": "q", "answer": "1", "level": "Easy"}])
    assert first(path).level is None
    with pytest.raises(DataError, match=r"x.jsonl:1: level must be a whole number .* got 'Easy'"):
        first(path, columns={"level": "level"})


def test_a_csv_of_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,question,answer,level,solution\n,q,1,,\n7,r,2,Level 3,because\n")
    found = list(read(Data(source="table", path="x"), tmp_path / "x.csv"))
    assert [(p.key, p.gold, p.level, p.solution) for p in found] == [
        ("q", "1", None, None), ("id:7", "2", 3, "because"),
    ]  # fmt: skip
