"""Data sets: layouts, messages that name the line, what is skipped and listed, an order that a longer set keeps."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from paced.config import Data, Decontamination
from paced.data.layouts import read
from paced.data.problems import problems_of
from paced.data.rows import identity
from paced.errors import DataError
from paced.stage import Spec, execute
from paced.storage.artifacts import Ref
from paced.verify import Sample, Verifier

GSM8K = [
    {
        "question": "Natalia sold 48 clips, then half as many. How many?",
        "answer": "48/2 = <<48/2=24>>24 clips.\n#### 72",
    },
    {"question": "How much is it?", "answer": "1,000 + 50.\n#### 1,050"},
    {"question": "How cold is it?", "answer": "3 - 8 = -5\n#### -5"},
    {"question": " What is left?\n", "answer": "Nothing #### yet.\n#### 0"},
]

Prepared = tuple[list[dict[str, Any]], list[dict[str, str]], Ref]


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows), encoding="utf-8"
    )
    return path


def prepare(home: Path, path: Path | None, exclude: Ref | None = None, split: str = "train", **data: Any) -> Prepared:
    """The rows, the list of skipped problems and the artifact of stage 'prepare'."""
    data = {"source": "gsm8k", "seed": 0, **({"path": str(path)} if path else {})} | data
    inputs = {} if path is None else {"file": Ref(kind="file", path=str(path), identity=identity(path))}
    if exclude:
        inputs["exclude/test"] = exclude
    config = {
        "data": Data.model_validate(data).model_dump(mode="json"),
        "split": split,
        "decontamination": Decontamination().model_dump() if split == "train" else None,
    }
    ref = execute(Spec(stage="prepare", home=str(home), config=config, inputs=inputs))
    return problems_of(ref), json.loads((ref.folder / "rejected.json").read_text()), ref


def test_original_gsm8k(tmp_path: Path) -> None:
    rows, rejected, _ = prepare(tmp_path, lines(tmp_path / "x.jsonl", GSM8K), instruction="End with ####.")
    assert rejected == []
    found = {r["question"]: r for r in rows}
    assert [found[g["question"].strip()]["gold"] for g in GSM8K] == ["72", "1050", "-5", "0"]
    first = found[GSM8K[0]["question"]]
    assert first["solution"] == "48/2 = <<48/2=24>>24 clips."
    assert json.loads(first["prompt"]) == [{"role": "user", "content": GSM8K[0]["question"] + "\nEnd with ####."}]
    assert (first["source"], first["split"], first["level"]) == ("gsm8k", "train", None)
    assert found["What is left?"]["solution"] == "Nothing #### yet."
    assert len({r["problem_id"] for r in rows}) == 4


def test_a_table(tmp_path: Path) -> None:
    rows = [
        {"id": 7, "question": "a?", "answer": 3, "level": 2, "solution": "1+2"},
        {"id": None, "question": "b?", "answer": "4.5"},
        {"question": "c?", "answer": 27.0, "extra": []},
        {"id": None, "question": "d \u2028 ?", "answer": "025"},
    ]
    path = lines(tmp_path / "x.jsonl", [*rows, "", "   "])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # a byte order mark, as some editors write
    found, rejected, _ = prepare(tmp_path, path, source="table")
    assert rejected == []
    assert {r["question"]: (r["gold"], r["level"], r["solution"]) for r in found} == {
        "a?": ("3", 2, "1+2"), "b?": ("4.5", None, None), "c?": ("27.0", None, None), "d \u2028 ?": ("025", None, None),
    }  # fmt: skip


GOOD = {"question": "q?", "answer": "#### 1"}
CHOICE = {"question": "q?", "subject": "s", "choices": ["a", "b"], "answer": "A"}
USER = {"role": "user", "content": "q"}
LONE = '{"question": "q", "%s": "\\ud83d", %s}'  # half a surrogate pair


@pytest.mark.parametrize(
    ("source", "second", "says"),
    [
        ("gsm8k", '{"question": ', r"x.jsonl:2: not valid JSON"),
        ("gsm8k", "[1, 2]", r"x.jsonl:2: not a JSON object"),
        ("gsm8k", {"answer": "#### 1"}, r"x.jsonl:2: field 'question' is missing \(it has: answer\)"),
        ("gsm8k", {"question": "q", "answer": "it is 5"}, r"x.jsonl:2: answer holds no '#### number'"),
        ("gsm8k", {"question": "q", "answer": "it is 5 ####"}, r"x.jsonl:2: answer holds no '#### number'"),
        ("gsm8k", '{"question": "\\ud83d", "answer": "#### 1"}', r"x.jsonl:2: field 'question' holds half a surrogate"),
        ("table", {"question": "q"}, r"x.jsonl:2: field 'answer' is missing"),
        (
            "table",
            {"question": "q", "answer": 1, "level": "hard 2"},
            r"x.jsonl:2: level must be a whole number of at most 9 digits, got 'hard 2'",
        ),
        ("table", {"question": "q", "answer": 1, "level": 1 << 31}, r"x.jsonl:2: level .* got '2147483648'"),
        ("table", LONE % ("solution", '"answer": "1"'), r"x.jsonl:2: field 'solution' holds half a surrogate"),
        ("table", LONE % ("id", '"answer": "1"'), r"x.jsonl:2: field 'id' holds half a surrogate"),
        ("math", LONE % ("context", '"final_answer": "1"'), r"x.jsonl:2: field 'context' holds half a surrogate"),
        ("math", LONE % ("subfield", '"final_answer": "1"'), r"x.jsonl:2: field 'subfield' holds half a surrogate"),
        ("mmlu", LONE % ("c", '"choices": ["\\ud83d", "b"], "answer": "A"'), r"x.jsonl:2: field 'choices' holds half"),
        ("table", {"question": [USER, "Why?"], "answer": "1"}, r"x.jsonl:2: field 'question' .* one has no fields"),
    ],
)
def test_messages_name_the_line(tmp_path: Path, source: str, second: Any, says: str) -> None:
    first = {"math": {"question": "q", "final_answer": "1"}, "mmlu": CHOICE}.get(source, GOOD)
    with pytest.raises(DataError, match=says) as error:
        prepare(tmp_path, lines(tmp_path / "x.jsonl", [first, second]), source=source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "row", "column", "found"),
    [
        ("math", {"problem": "q?", "answer": "1", "subject": 7}, "subject", "7"),
        ("math", {"problem": "q?", "answer": "1", "subject": ["algebra", "sets"]}, "subject", "algebra, sets"),
        ("mmlu", CHOICE | {"subject": 7}, "subject", "7"),
        ("table", {"question": "q?", "answer": "1e9999999"}, "gold", "1e9999999"),
    ],
)
def test_fields_that_are_read_as_text(
    tmp_path: Path, source: str, row: dict[str, Any], column: str, found: str
) -> None:
    problems, *_ = prepare(tmp_path, lines(tmp_path / "x.jsonl", [row]), source=source, split="test")
    assert [p[column] for p in problems] == [found]


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.jsonl",
        [
            {"id": 1, "question": "a", "answer": 1},
            {"id": 2, "question": "b", "answer": 1},
            {"id": 1, "question": "c", "answer": 1},
        ],
    )
    with pytest.raises(DataError, match=r"x.jsonl:3: duplicate id '1', first used at .*x.jsonl:1"):
        prepare(tmp_path, path, source="table")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "cannot be read: No such file"),
        (lambda p: p.mkdir(), "cannot be read: Is a directory"),
        (lambda p: p.write_bytes('{"question": "wie groß?"}'.encode("latin-1")), "not UTF-8"),
        (lambda p: p.write_text("\n\n"), "holds no problem"),
        (
            lambda p: lines(p, [{"question": "a", "answer": "#### x"}, {"question": "b", "answer": "#### 1/2"}]),
            "no gold answer passes the verifier.*'x'",
        ),
    ],
)
def test_unusable_files(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    make(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match=says) as error:
        prepare(tmp_path, tmp_path / "x.jsonl")
    assert str(tmp_path / "x.jsonl") in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_skipped_is_counted_and_listed(tmp_path: Path) -> None:
    benchmark = prepare(
        tmp_path, lines(tmp_path / "test.jsonl", [{"question": "How  COLD is\tit?", "answer": "#### 1"}]), split="test"
    )[2]
    more = [
        {"question": "bad?", "answer": "#### many"},
        GSM8K[0],
        GSM8K[1] | {"answer": "#### 3"},
        {"question": "  ", "answer": "#### 1"},
        {"question": "q", "answer": ""},
    ]
    path = lines(tmp_path / "x.jsonl", [*GSM8K, *more])
    rows, rejected, ref = prepare(tmp_path, path, exclude=benchmark)
    assert {r["gold"] for r in rows} == {"72", "0"}  # the first of a repeated question stays
    reasons = {int(r["where"].rpartition(":")[2]): (r["kind"], r["reason"]) for r in rejected}
    assert reasons == {
        2: ("conflict", "conflicting golds: 1050, 3"),  # which of the two is right, nobody knows: both go
        3: ("benchmark", "stands in a benchmark: test, word for word"),
        5: ("gold", "verifier rejects gold 'many' (no number): correct it or remove the row"),
        6: ("duplicate", f"repeats {path}:1"),
        7: ("conflict", "conflicting golds: 1050, 3"),
        8: ("empty", "field 'question' is empty: fill it in or remove the line"),
        9: ("empty", "field 'answer' is empty: fill it in or remove the line"),
    }
    counts = json.loads((ref.folder / "manifest.json").read_text())["counts"]
    assert (counts["problems"], counts["rejected"], counts["rejected/conflict"]) == (2, 7, 2)
    report = json.loads((ref.folder / "cleaning.json").read_text())
    assert (report["rows"], report["usable"], report["distinct"]) == (9, 2, 5)
    assert report["conflicting"] == [{"golds": ["1050", "3"], "where": [f"{path}:2", f"{path}:7"]}]
    assert sum(report["rejected"].values()) == 7
    only = lines(tmp_path / "only.jsonl", [GSM8K[2]])
    with pytest.raises(DataError, match="every problem also stands in a benchmark"):
        prepare(tmp_path, only, exclude=benchmark)


def test_the_first_n_stay_when_n_or_the_file_grows(tmp_path: Path) -> None:
    rows = [{"question": f"How much is {i} + 1?", "answer": f"#### {i + 1}"} for i in range(110)]
    everything = [r["problem_id"] for r in prepare(tmp_path, lines(tmp_path / "all.jsonl", rows))[0]]
    for n in (1, 50, 55):
        assert [r["problem_id"] for r in prepare(tmp_path, tmp_path / "all.jsonl", problems=n)[0]] == everything[:n]
    shuffled = lines(tmp_path / "shuffled.jsonl", rows[::-1])
    assert [r["problem_id"] for r in prepare(tmp_path, shuffled)[0]] == everything
    smaller = [r["problem_id"] for r in prepare(tmp_path, lines(tmp_path / "less.jsonl", rows[:100]))[0]]
    assert [i for i in everything if i in set(smaller)] == smaller
    assert [r["problem_id"] for r in prepare(tmp_path, tmp_path / "all.jsonl", seed=1)[0]] != everything
    assert len(prepare(tmp_path, tmp_path / "all.jsonl", problems=500)[0]) == 110


def test_tiny(tmp_path: Path) -> None:
    benchmark = prepare(tmp_path, None, source="tiny", problems=60, mix={1: 1}, split="test")[2]
    held = {r["question"] for r in problems_of(benchmark)}
    rows, _, _ = prepare(tmp_path, None, exclude=benchmark, source="tiny", problems=60, mix={1: 1, 3: 1})
    grown, _, _ = prepare(tmp_path, None, exclude=benchmark, source="tiny", problems=66, mix={1: 1, 3: 1})
    assert grown[:60] == rows
    assert not held & {r["question"] for r in grown}
    assert {r["level"] for r in rows} == {1, 3}


ORDER = """
import sys
from pathlib import Path
import tests.unit.test_problems as t
print(t.prepare(Path(sys.argv[1]), Path(sys.argv[2]))[2].digest)
"""


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", [{"question": f"{i}?", "answer": f"#### {i}"} for i in range(30)])
    tables = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": seed}
        home = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", ORDER, str(home), str(path)], env=environment, check=True, capture_output=True
        )
        tables.add(next(home.rglob("problems.parquet")).read_bytes())
    assert len(tables) == 1


@pytest.mark.parametrize(("name", "count", "commas", "negative"), [("train", 7473, 79, 3), ("test", 1319, 14, 2)])
def test_the_real_gsm8k(name: str, count: int, commas: int, negative: int) -> None:
    path = Path(__file__).parents[3] / "shared" / "data" / f"gsm8k_{name}.jsonl"
    if not path.exists():
        pytest.skip(f"the original data set is not here: {path.name}")
    found = list(read(Data(source="gsm8k", path=str(path)), path))
    raw = [json.loads(line)["answer"].rpartition("####")[2].strip() for line in path.open(encoding="utf-8")]
    assert len(found) == len({p.question for p in found}) == count
    assert sum("," in r for r in raw) == commas
    assert sum(r.startswith("-") for r in raw) == negative
    for problem, text in zip(found, raw, strict=True):
        assert Decimal(problem.gold) == Decimal(re.sub("[,$]", "", text))
    with Verifier() as verifier:
        for golds in ([p.gold for p in found], raw):
            verdicts = verifier.grade_golds([Sample("gsm8k", "", gold) for gold in golds])
            assert {v.outcome for v in verdicts} == {"correct"}
