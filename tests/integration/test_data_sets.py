"""The original data sets: every file loads, its known errors are reported, contamination is found; ``paced data``."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, need, told

from benchmarks.containment import WRAPPERS, found
from paced.config import Data, Decontamination, Runtime
from paced.data.decontamination import Index
from paced.data.layouts import Problem, read
from paced.data.problems import problems_of
from paced.data.spec import prepare_spec
from paced.stage import execute
from paced.storage.artifacts import Ref

DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _there() -> None:
    need(DATA.is_dir(), f"the original data sets are not in {DATA}")


def load(name: str, source: Any = "math", **data: Any) -> list[Problem]:
    path = DATA / name
    return list(read(Data(source=source, path=str(path), **data), path))


# file, source, problems, levels, solutions, rows with a fault
FILES = [
    ("gsm8k_train.jsonl", "gsm8k", 7473, 0, 7473, 0),
    ("gsm8k_test.jsonl", "gsm8k", 1319, 0, 1319, 0),
    ("math_train.parquet", "math", 7500, 7498, 7500, 4),  # two of "Level ?", two of \boxed{}, two of two boxes for one
    ("math_test.jsonl", "math", 5000, 5000, 5000, 3),  # two boxes for one answer
    ("math500_test.jsonl", "math", 500, 500, 500, 0),
    ("aime24_test.jsonl", "math", 30, 0, 30, 0),
    ("aime25_test.jsonl", "math", 30, 0, 30, 0),
    ("aime25_short_test.jsonl", "math", 30, 0, 0, 0),
    ("amc23_test.jsonl", "math", 40, 0, 0, 0),
    ("minerva_math_test.jsonl", "math", 272, 0, 272, 0),
    ("olympiadbench_test.jsonl", "math", 675, 0, 675, 0),
    ("dapo_math_17k.parquet", "math", 17917, 0, 0, 0),
    ("dapo_original_schema_sample.jsonl", "math", 5, 0, 0, 0),
    ("dsr_sub_train.parquet", "math", 1209, 0, 0, 1),  # one answer is empty
    ("mmlu_csv.zip", "mmlu", 14042 + 285, 0, 0, 0),
    ("mmlu_test.parquet", "mmlu", 14042, 0, 0, 0),
    ("mmlu_stem_test.jsonl", "mmlu", 3018, 0, 0, 0),
]


@pytest.mark.parametrize(("name", "source", "problems", "levels", "solutions", "faults"), FILES, ids=lambda v: str(v))
def test_every_file_loads(name: str, source: str, problems: int, levels: int, solutions: int, faults: int) -> None:
    found = load(name, source)
    assert len(found) == problems
    assert sum(p.level is not None for p in found) == levels
    assert sum(p.solution is not None for p in found) == solutions
    assert sum(bool(p.fault) for p in found) == faults
    assert all(p.question and (p.gold or p.fault) for p in found)


def test_no_file_is_forgotten() -> None:
    assert {f[0] for f in FILES} == {p.name for p in DATA.iterdir() if p.suffix != ".md"}


def test_math_golds() -> None:
    train = load("math_train.parquet")
    assert [i for i, p in enumerate(train) if p.fault] == [4253, 5341, 5343, 7417]
    assert {i: p.gold for i, p in enumerate(train) if p.repair}.keys() == {6627, 7301}
    assert (train[6627].gold, "pmatrix" in train[7301].gold) == (r"\mbox{four}", True)
    test = {p.question: p.gold for p in load("math_test.jsonl")}
    assert all(test[p.question] == p.gold for p in load("math500_test.jsonl"))  # its answers are the last \boxed


def test_competition_golds_are_plain_numbers() -> None:
    raw = [json.loads(line)["answer"] for line in (DATA / "aime24_test.jsonl").open()]
    assert any(a.startswith("0") for a in raw)
    for name in ("aime24_test.jsonl", "aime25_test.jsonl", "amc23_test.jsonl"):
        assert all(p.gold == str(int(p.gold)) for p in load(name))
    a, b = load("aime25_test.jsonl"), load("aime25_short_test.jsonl")
    assert [(p.gold, q.gold) for p, q in zip(a, b, strict=True) if p.gold != q.gold] == [("336", r"336^\circ")]


def test_wrappers_are_stripped() -> None:
    stripped = {p.question: p.gold for p in load("dapo_math_17k.parquet")}
    assert all(stripped[p.question] == p.gold for p in load("dapo_original_schema_sample.jsonl"))
    assert not any("step by step and output" in p.question for p in load("dsr_sub_train.parquet"))
    assert not any("$" in p.gold for p in load("olympiadbench_test.jsonl"))


def test_mmlu_is_one_in_all_layouts() -> None:
    def keys(name: str) -> list[tuple[str, ...]]:
        return sorted((p.subject or "", p.question, *p.choices, p.gold) for p in load(name, "mmlu") if p.split != "dev")

    assert keys("mmlu_csv.zip") == keys("mmlu_test.parquet")
    everything = Counter(keys("mmlu_csv.zip"))
    assert len({k[0] for k in everything}) == 57
    assert not Counter(keys("mmlu_stem_test.jsonl")) - everything
    assert Counter(p.subject for p in load("mmlu_csv.zip", "mmlu") if p.split == "dev").most_common()[-1][1] == 5
    assert "None" in {c for p in load("mmlu_csv.zip", "mmlu") for c in p.choices}


def prepared(
    home: Path, name: str, split: str, exclude: dict[str, Ref], **data: Any
) -> tuple[Ref, dict[str, Any], Sequence[Any]]:
    settings = Data(source="math", path=str(DATA / name), **data)
    wish = Decontamination() if split == "train" else None
    ref = execute(prepare_spec(str(home), settings, 0, split, exclude, wish, Runtime()), lambda event: None)
    return ref, json.loads((ref.folder / "cleaning.json").read_text()), problems_of(ref)


def test_dapo_is_cleaned_and_kept_apart_from_the_benchmarks(tmp_path: Path) -> None:
    names = ("math_test", "math500_test", "aime24_test", "aime25_test")
    benchmarks = {n: prepared(tmp_path, f"{n}.jsonl", n, {})[0] for n in names}
    began = time.process_time()
    ref, report, rows = prepared(tmp_path, "dapo_math_17k.parquet", "train", benchmarks, drop_scripts=("han",))
    assert time.process_time() - began < 30
    assert (report["rows"], report["distinct"], len(report["conflicting"])) == (17917, 16919, 15)
    assert report["written_in"]["han"] == 3432
    found = report["decontamination"]["benchmarks"]
    assert {n: f["exact"] for n, f in found.items()} == dict(zip(names, (972, 4, 0, 0), strict=True))
    # What n-grams find besides: of MATH-500 at least the three that differ in punctuation alone; of AIME nothing.
    assert found["math500_test"]["overlap"] >= 3
    assert (found["aime24_test"]["overlap"], found["aime25_test"]["overlap"]) == (0, 0)
    assert found["math_test"]["problems"] == 5000  # whatever the verifier makes of its golds
    rejected = json.loads((ref.folder / "rejected.json").read_text())
    assert sum("word for word" in r["reason"] for r in rejected) == found["math_test"]["training_exact"] == 1003
    assert len(rows) + len(rejected) == 17917
    tests = {"".join(p.question.lower().split()) for n in names for p in load(f"{n}.jsonl")}
    assert not any("".join(r["question"].lower().split()) in tests for r in rows)
    assert len({"".join(r["question"].lower().split()) for r in rows}) == len(rows)


def test_math500_is_found_behind_every_wrapper() -> None:
    problems = [p.question for p in load("math500_test.jsonl")]
    rule = Decontamination()
    index = Index({"math500": problems}, rule.words, rule.share)
    for wrapper in WRAPPERS.values():
        assert len(found(index, [wrapper.format(question) for question in problems])) == 500
    assert not found(index, [p.question for p in load("gsm8k_train.jsonl", "gsm8k")])


def test_the_command(tmp_path: Path) -> None:
    home, file = tmp_path / "home", str(DATA / "dsr_sub_train.parquet")
    math500 = f"math:{DATA / 'math500_test.jsonl'}"
    done = told(home, "data", file, "--source", "math", "--against", math500, "--set", "max_characters=2000")
    assert done.status == 0, done.err
    words = [line.split() for line in done.out.splitlines() if line.strip()]
    assert next(w[1] for w in words if w[0] == "dsr_sub_train") == "1,209"
    assert [w[1:4] for w in words if w[0] == "math500_test"][1] == ["500", "0", "0"]  # in the second table
    assert "empty: 1, first dsr_sub_train.parquet:row" in done.out

    for arguments, says in (
        ((file,), "is no recipe: say how the file is laid out, with --source"),
        ((file, "--source", "gsm8k"), "field 'question' is missing"),
        (("nowhere.jsonl", "--source", "math"), "nowhere.jsonl cannot be read: No such file or directory"),
        ((file, "--source", "math", "--set", "shots=1"), "shots has no effect with source 'math'"),
        ((file, "--source", "math", "--against", "mth:x"), "source: "),
    ):
        failed = told(home, "data", *arguments)
        assert failed.status == 1
        assert failed.err.startswith("error: ")
        assert says in failed.err
        assert failed.err.count("\n") == 1


def test_the_command_on_a_recipe(tmp_path: Path) -> None:
    done = told(tmp_path / "home", "data", str(ROOT / "recipes" / "tiny.yaml"), "--set", "data.problems=50")
    assert done.status == 0, done.err
    assert [line.split()[:2] for line in done.out.splitlines()[1:4]] == [
        ["arithmetic", "576"], ["sorting", "192"], ["train", "50"],
    ]  # fmt: skip
