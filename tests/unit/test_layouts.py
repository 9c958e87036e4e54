"""Published layouts: each field where its authors put it, known errors put right or listed, containers."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import ROOT, need
from test_problems import lines, prepare

from paced.config import Data
from paced.data.containers import BATCH
from paced.data.fields import level_of
from paced.data.layouts import Problem, plain_number, read, unwrapped
from paced.data.prompts import choice_prompt, continuations
from paced.data.rows import identity, local, rows
from paced.errors import DataError
from paced.verify.references import last_boxed

DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def found(folder: Path, row: dict[str, Any], source: Any = "math", **data: Any) -> Problem:
    path = lines(folder / "x.jsonl", [row])
    [problem] = read(Data(source=source, path=str(path), **data), path)
    return problem


@pytest.mark.parametrize(
    ("row", "question", "gold", "level", "solution"),
    [
        # MATH: no answer field; the last \boxed of the solution counts.
        (
            {"problem": "p", "level": "Level 5", "type": "A", "solution": r"\boxed{1}, so \boxed{\frac{1}{2}}."},
            "p", r"\frac{1}{2}", 5, r"\boxed{1}, so \boxed{\frac{1}{2}}.",
        ),
        ({"problem": "p", "level": "Level ?", "solution": r"\boxed 7$."}, "p", "7", None, r"\boxed 7$."),
        # MATH-500 and AIME: an answer field of its own; competitions write 073 for 73 and AMC 27.0 for 27.
        ({"problem": "p", "answer": "x", "solution": r"\boxed{y}", "level": 2}, "p", "x", 2, r"\boxed{y}"),
        ({"id": 1, "problem": "p", "question": "p", "answer": "073"}, "p", "73", None, None),
        ({"problem": "p", "answer": 27.0}, "p", "27", None, None),
        # OlympiadBench: a list with $ signs; what several questions share stands before them.
        (
            {"question": "q", "context": "c", "final_answer": ["$69$,$84$"], "solution": ["a", "b"], "unit": None},
            "c\nq", "69,84", None, "a\n\nb",
        ),
        # Its units stand behind a single gold.
        *[
            (
                {"question": "q", "final_answer": [g], "solution": [], "unit": u, "is_multiple_answer": several},
                "q", gold, None, None,
            )
            for g, u, several, gold in [
                ("45", "minute", False, r"45\text{ minute}"),
                ("$166$", "$cm^2$", False, r"166\text{ cm}^2"),
                ("4.2", "%", False, r"4.2\%"),
                ("$a=90$,$b=90$", r"^{\circ}", True, "a=90,b=90"),
            ]
        ],
        # verl: chat messages, of which the user's count; wrappers go.
        ({"prompt": user("q"), "reward_model": {"ground_truth": "34", "style": "rule"}}, "q", "34", None, None),
        ({"prompt": user(DAPO.format("q\n r")), "reward_model": {"ground_truth": "-3"}}, "q\n r", "-3", None, None),
        (
            {
                "prompt": user(r"q Let's think step by step and output the final answer within \boxed{}."),
                "reward_model": {"ground_truth": r"\frac{3}{7}"},
            },
            "q", r"\frac{3}{7}", None, None,
        ),
        (
            {
                "level": "Level 1", "prompt": user("other"),
                "reward_model": {"ground_truth": {"question": "q", "solution": r"\boxed{2, 3}", "target": "2,3,{}"}},
            },
            "q", "2, 3", 1, r"\boxed{2, 3}",
        ),
    ],
)  # fmt: skip
def test_maths(
    tmp_path: Path, row: dict[str, Any], question: str, gold: str, level: int | None, solution: str | None
) -> None:
    p = found(tmp_path, row)
    assert (p.question, p.gold, p.level, p.solution, p.fault) == (question, gold, level, solution, "")


def test_an_empty_target_is_put_right_and_an_empty_box_is_a_fault(tmp_path: Path) -> None:
    def row(solution: str) -> dict[str, Any]:
        return {"reward_model": {"ground_truth": {"question": "q", "solution": solution, "target": ""}}}

    p = found(tmp_path, row(r"It is \boxed{\mbox{four}}."))
    assert p.gold == r"\mbox{four}"
    assert p.repair.startswith("field 'reward_model.ground_truth.target' is empty")
    assert "is empty" in found(tmp_path, row(r"It is \boxed{}.")).fault
    assert found(tmp_path, row("It is four.")).fault == "the solution holds no \\boxed answer"


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"\boxed{1} or \boxed{\frac{a}{b}}", r"\frac{a}{b}"), (r"\boxed 5", "5"), (r"$\boxed9$", "9"), ("none", None),
        (r"\boxed{open", None), (r"\boxed{}", ""), (r"\boxed", ""), (r"\boxed{\text{a {b}} c}", r"\text{a {b}} c"),
    ],
)  # fmt: skip
def test_last_boxed(text: str, boxed: str | None) -> None:
    assert last_boxed(text) == boxed


def test_small_parts() -> None:
    assert [plain_number(g) for g in ("025", "000", "-07", "27.0", "0.5", "10", "1.0e3", "0x")] == [
        "25", "0", "-7", "27", "0.5", "10", "1.0e3", "0x",
    ]  # fmt: skip
    assert [level_of(v, "here") for v in (None, 3, 3.0, "Level 5", "level 2", "4", "Level ?", float("nan"))] == [
        None, 3, 3, 5, 2, 4, None, None,
    ]  # fmt: skip
    for bad in ("hard1", True, 2.5, "Level 1.5"):
        with pytest.raises(DataError, match="here: level must be a whole number"):
            level_of(bad, "here")
    for words in ("Easy", "Level", "very hard"):  # of no known order; told where the recipe names the field
        assert level_of(words, "here") is None
        with pytest.raises(DataError, match="here: level must be a whole number"):
            level_of(words, "here", named=True)
    half = DAPO.format("q").removesuffix('"Answer:".')  # only the whole wrapper is one
    assert unwrapped(half) == half


def test_columns(tmp_path: Path) -> None:
    row = {"q": {"text": "why?"}, "a": [{"b": 1}], "gold": {"value": 7}, "grade": "Level 3", "uid": "u1", "level": 1}
    columns = {"question": "q.text", "answer": "gold.value", "level": "grade", "id": "uid"}
    p = found(tmp_path, row, "table", columns=columns)
    assert (p.question, p.gold, p.level, p.key) == ("why?", "7", 3, "id:u1")
    assert found(tmp_path, row, "table", columns={"question": "q.text", "answer": "gold.value"}).level == 1
    for changed, says in (
        ({"answer": "gold.val"}, "field 'gold.val' is missing"),
        ({"level": "degree"}, "field 'degree' is missing"),  # named, so it must be there
        ({"answer": "gold"}, "holds fields of its own"),
    ):
        with pytest.raises(DataError, match=r"x.jsonl:1: field '") as error:
            found(tmp_path, row, "table", columns=columns | changed)
        assert says in str(error.value)


def test_a_row_of_no_known_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x.jsonl:1: no known layout has its fields \(body\).*source 'table'"):
        found(tmp_path, {"body": "x"})


# Containers.

TABLE = [{"question": f"{i}?", "answer": str(i), "more": {"deep": [i]}} for i in range(BATCH + 5)]


def test_parquet_reads_as_jsonl_does(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(TABLE), tmp_path / "x.parquet")
    assert [r for _, r in rows(tmp_path / "x.parquet")] == [r for _, r in rows(lines(tmp_path / "x.jsonl", TABLE))]
    assert [w for w, _ in rows(tmp_path / "x.parquet")][-1] == f"{tmp_path}/x.parquet:row {BATCH + 4}"
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"bad.parquet is not a readable Parquet file") as error:
        list(rows(tmp_path / "bad.parquet"))
    assert "\n" not in str(error.value)


# What a table reader that guesses types makes of these: missing values, numbers, a row lost at a quote.
MMLU = [
    ["Which of these, if any,\nis \"right\"?", "NA", "None", "001", "1,000", "B"],
    ["  spaced  ", "a", "b", "c", "d", "A"],
    ["  spaced  ", "a", "b", "c", "d", "A"],
]  # fmt: skip
DEV = [[f"dev {i}?", "w", "x", "y", "z", "ABCDA"[i]] for i in range(5)]


def mmlu(folder: Path) -> Path:
    for split, questions in (("dev", DEV), ("test", MMLU)):
        path = folder / "data" / split / f"abstract_algebra_{split}.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(questions)
    other = folder / "data" / "auxiliary_train" / "race.csv"  # comes with it, and is no part of it
    other.parent.mkdir()
    other.write_text("Who?,a,b,c,d,A\n")
    return folder / "data"


def test_mmlu_in_every_container(tmp_path: Path) -> None:
    folder = mmlu(tmp_path)
    with zipfile.ZipFile(tmp_path / "mmlu.zip", "w") as archive:
        for file in sorted(folder.rglob("*.csv")):
            archive.write(file, file.relative_to(tmp_path))
    hub = [
        {"question": q, "subject": "abstract_algebra", "choices": choices, "answer": "ABCD".index(letter)}
        for q, *choices, letter in MMLU
    ]
    pq.write_table(pa.Table.from_pylist(hub), tmp_path / "hub.parquet")
    stem = lines(tmp_path / "stem.jsonl", [{"type" if k == "subject" else k: v for k, v in r.items()} for r in hub])
    tables = []
    for path in (folder, tmp_path / "mmlu.zip", tmp_path / "hub.parquet", stem):
        problems, rejected, _ = prepare(tmp_path / f"home of {path.name}", path, split="mmlu", source="mmlu")
        assert rejected == []
        tables.append(problems)
    assert tables[0] == tables[1] == tables[2] == tables[3]
    assert len({p["problem_id"] for p in tables[0]}) == 3  # a benchmark keeps its repeats
    strange = next(p for p in tables[0] if p["question"].startswith("Which"))
    assert (strange["gold"], strange["subject"], strange["choices"]) == (
        "B",
        "abstract_algebra",
        [" A", " B", " C", " D"],
    )
    assert json.loads(strange["prompt"]) == (
        "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
        'Which of these, if any,\nis "right"?\nA. NA\nB. None\nC. 001\nD. 1,000\nAnswer:'
    )
    assert identity(folder) != identity(mmlu(tmp_path / "again").parent / "data" / "test")
    with pytest.raises(DataError, match=r"holds no problem of subjects astronomy"):
        prepare(tmp_path, folder, split="mmlu", source="mmlu", subjects=["astronomy"])


def test_few_shot_prompts(tmp_path: Path) -> None:
    folder = mmlu(tmp_path)
    problems, _, _ = prepare(tmp_path, folder, split="mmlu", source="mmlu", shots=2)
    assert {p["question"] for p in problems} == {r[0].strip() for r in MMLU}  # examples are no questions
    first = "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    shots = "".join(f"dev {i}?\nA. w\nB. x\nC. y\nD. z\nAnswer: {'AB'[i]}\n\n" for i in range(2))
    assert all(json.loads(p["prompt"]).startswith(first + shots) for p in problems)
    hub = lines(tmp_path / "x.jsonl", [{"question": "q", "subject": "s", "choices": ["a", "b"], "answer": 1}])
    with pytest.raises(DataError, match=r"data.shots asks for 1 examples of the dev split, there are 0 of subject s"):
        prepare(tmp_path, hub, split="mmlu", source="mmlu", shots=1)


def test_choices_as_texts_and_in_a_chat() -> None:
    p = Problem("", "q", "B", None, None, "q", "us_history", ("one", "two"))
    assert choice_prompt(p, [p], "texts", chat=False) == (
        "The following are questions (with answers) about us history.\n\n"
        "Question: q\nAnswer: two\n\nQuestion: q\nAnswer:"
    )
    assert choice_prompt(p, [], "letters", chat=True) == [
        {
            "role": "system",
            "content": "The following are multiple choice questions (with answers) about us history.\n\n",
        },
        {"role": "user", "content": "q\nA. one\nB. two\nAnswer:"},
    ]
    assert continuations(p, "texts", chat=False) == [" one", " two"]
    assert continuations(p, "letters", chat=True) == ["A", "B"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"choices": ["a", "b"], "answer": 2}, "answer '2' is none of the choices"),
        ({"choices": ["a", "b"], "answer": "C"}, "answer 'C' is none of the choices"),
        ({"choices": ["a", "b"], "answer": None}, "answer '' is none of the choices"),
    ],
)
def test_choices_that_cannot_be_used(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    assert found(tmp_path, {"question": "q", "subject": "s", **row}, "mmlu").fault == says


def test_broken_archives(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match="not a readable zip file"):
        list(rows(tmp_path / "x.zip"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a_test.csv").write_text('q,a,b,c,d,A\n"open,a')
    with pytest.raises(DataError, match=r"a_test.csv:2: not valid CSV"):
        list(rows(tmp_path / "d"))
    (tmp_path / "d" / "a_test.csv").write_text("q,a,b,A\nonly,three,cells\n")
    with pytest.raises(DataError, match=r"a_test.csv:2: 3 cells"):
        list(rows(tmp_path / "d"))
    (tmp_path / "d" / "a_test.csv").write_text("only,three,cells\n")
    with pytest.raises(DataError, match=r"a_test.csv:1: no row stands below the header"):
        list(rows(tmp_path / "d"))


# The hub.


def test_hub_names(tmp_path: Path) -> None:
    for bad in ("hub:owner/name", "hub::test", "hub:a:b:c:d"):
        with pytest.raises(DataError, match="write hub:OWNER/NAME:SPLIT"):
            local(bad, tmp_path)
    with pytest.raises(DataError, match=r"'https://host/d\.jsonl' is an address, which is not read: download"):
        local("https://host/d.jsonl", tmp_path)
    fetched = tmp_path / "hub" / "owner--name--main--test.parquet"
    fetched.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(TABLE[:3]), fetched)  # fetched once, it is the data from then on
    assert local("hub:owner/name:main:test", tmp_path) == fetched


@pytest.mark.slow
def test_without_a_network_the_hub_fails_in_one_line(tmp_path: Path) -> None:
    need(importlib.util.find_spec("datasets") is not None, "pip install datasets")
    script = (
        "import sys; from pathlib import Path; from paced.data.rows import local; local(sys.argv[1], Path(sys.argv[2]))"
    )
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    name = "hub:no-such-owner/no-such-name:test"
    done = subprocess.run(
        [sys.executable, "-c", script, name, str(tmp_path)], env=os.environ | nowhere, capture_output=True, text=True
    )
    says = done.stderr.splitlines()[-1]
    assert says.startswith(f"paced.errors.DataError: {name} cannot be fetched from the Hugging Face hub"), done.stderr
    assert "check the name and the network, or download the file" in says
    assert not list(tmp_path.rglob("*.parquet"))
