"""Every data set of docs/data.md's table: a small file of its published schema loads, and its golds can be graded."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import ROOT
from test_problems import lines, prepare

from paced.config import Data
from paced.data.layouts import read
from paced.errors import DataError
from paced.verify import Sample, Verifier

Q, W = "What is $1+1$?", "What is $3\\cdot 3$?"
THOUGHT = "<think>\nAdd.\n</think>\n\nIt is $\\boxed{{{}}}$."


def boxed(answer: str) -> str:
    return rf"It is $\boxed{{{answer}}}$."


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def verl(question: str, gold: Any, **more: Any) -> dict[str, Any]:
    row = {"data_source": "x", "prompt": user(question), "ability": "math"}
    return row | {"reward_model": {"ground_truth": gold, "style": "rule"}, "extra_info": {"index": "1"}} | more


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "user", "value": question}, {"from": "assistant", "value": answer}]


# A row as its authors publish it, of a question and its answer; read by source "math" where nothing else is said.
MATHEMATICS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "GSM8K": lambda q, a: {"question": q, "answer": f"One.\n#### {a}"},
    "MATH": lambda q, a: {"problem": q, "level": "Level 1", "type": "Algebra", "solution": boxed(a)},
    "MATH of verl": lambda q, a: verl(
        "x", {"question": q, "solution": boxed(a), "target": a}, level="Level 1", type="Algebra"
    ),
    "MATH-500": lambda q, a: {
        "problem": q, "solution": boxed(a), "answer": a, "subject": "Algebra", "level": 1, "unique_id": "t/1",
    },
    "AIME": lambda q, a: {"id": 0, "problem": q, "solution": "", "answer": f"00{a}", "url": "u", "question": q},
    "AIME of Maxwell-Jia": lambda q, a: {"ID": "2024-I-1", "Problem": q, "Solution": "s", "Answer": int(a)},
    "AMC": lambda q, a: {"id": 0, "problem": q, "answer": float(a), "url": "u", "question": q},
    "Minerva": lambda q, a: {"problem": q, "type": "Physics", "solution": boxed(a), "idx": 0},
    "OlympiadBench": lambda q, a: {
        "id": 1, "subfield": "Algebra", "context": None, "question": q, "solution": ["s"], "final_answer": [f"${a}$"],
        "is_multiple_answer": False, "unit": None, "answer_type": "Numerical", "error": None,
    },
    "DeepMath": lambda q, a: {
        "question": q, "final_answer": a, "difficulty": 4.5, "topic": "Algebra", "r1_solution_1": "s",
    },
    "DAPO-Math-17k": lambda q, a: verl(q, a),
    "DeepScaleR": lambda q, a: {"problem": q, "answer": a, "solution": ""},
    "Eurus-2-RL": lambda q, a: verl(q, a, prompt=[{"role": "system", "content": "Be clever."}, *user(q)]),
    "Skywork-OR1": lambda q, a: verl(q, json.dumps([a])),
    "guru": lambda q, a: verl(q, a, qwen2_5_7b_pass_rate=0.5, apply_chat_template=True),
    "Nemotron-CrossThink": lambda q, a: verl(
        q, a, reward_model=json.dumps({"ground_truth": a, "style": "rule"}), meta_data={"question": q}
    ),
    "INTELLECT-2": lambda q, a: {
        "problem_id": "i1", "task_type": "verifiable_math", "prompt": q, "metadata": "{}",
        "solve_rate_qwen_r1_distill_7b": 0.5, "verification_info": json.dumps({"ground_truth": a}),
    },
    "SYNTHETIC-1": lambda q, a: {
        "problem_id": "v1", "source": "numina", "task_type": "verifiable_math", "in_source_id": None, "prompt": q,
        "gold_standard_solution": boxed(a), "verification_info": json.dumps({"ground_truth": a}), "metadata": "{}",
    },
    "Nemotron-Post-Training": lambda q, a: {
        "uuid": "u", "license": "cc-by-4.0", "generator": "r1", "version": "v1", "category": "math", "reasoning": "on",
        "messages": [*user(q), {"role": "assistant", "content": THOUGHT.format(a)}],
        "metadata": json.dumps({"expected_answer": a, "problem_source": "aops_c6"}),
    },
    "OpenMathReasoning": lambda q, a: {
        "problem": q, "expected_answer": a, "problem_type": "has_answer_extracted",
        "generated_solution": THOUGHT.format(a),
    },
    "AceReason-Math": lambda q, a: {"problem": q, "answer": a},
    "OpenThoughts": lambda q, a: {"system": "s", "conversations": turns(q, THOUGHT.format(a))},
    "OpenThoughts, metadata": lambda q, a: {
        "problem": q, "deepseek_reasoning": "r", "deepseek_solution": "s", "ground_truth_solution": boxed(a),
        "domain": "math", "source": "numina_math", "test_cases": None, "starter_code": None,
    },
    "NuminaMath-1.5": lambda q, a: {
        "problem": q, "solution": boxed(a), "answer": a, "problem_type": "Algebra", "source": "olympiads",
        "question_type": "math-word-problem", "problem_is_valid": "Yes", "solution_is_valid": "Yes", "synthetic": False,
    },
    "NuminaMath-CoT": lambda q, a: {"source": "amc", "problem": q, "solution": boxed(a), "messages": user(q)},
    "OpenR1-Math": lambda q, a: {
        "problem": q, "solution": "s", "answer": a, "problem_type": "Algebra", "generations": ["g"],
    },
    "Big-Math": lambda q, a: {
        "problem": q, "answer": a, "source": "x", "domain": ["d"], "llama8b_solve_rate": 0.5,
    },
    "Omni-MATH": lambda q, a: {
        "domain": ["d"], "difficulty": 4.5, "problem": q, "solution": "s", "answer": a, "source": "x",
    },
}  # fmt: skip


def published(name: str) -> list[dict[str, Any]]:
    return [MATHEMATICS[name](q, a) for q, a in ((Q, "2"), (W, "9"))]


def in_both(folder: Path, rows: list[dict[str, Any]]) -> list[Path]:
    """The rows as a hub's Parquet file and as JSON lines."""
    pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
    return [folder / "x.parquet", lines(folder / "x.jsonl", rows)]


@pytest.mark.parametrize("name", MATHEMATICS)
def test_mathematics(name: str, tmp_path: Path) -> None:
    source = "gsm8k" if name == "GSM8K" else "math"
    for path in in_both(tmp_path, published(name)):
        found = list(read(Data(source=source, path=str(path)), path))
        assert [(p.question, p.gold, p.fault) for p in found] == [(Q, "2", ""), (W, "9", "")]


def test_all_their_golds_can_be_graded() -> None:
    """One verifier for all: what a model answers right is right, what it answers wrong is wrong."""
    samples = [Sample("math", rf"\boxed{{{a}}}", g, q, "stop") for q, g in ((Q, "2"), (W, "9")) for a in (2, 9)]
    with Verifier() as verifier:
        assert [v.outcome for v in verifier.grade(samples)] == ["correct", "wrong", "wrong", "correct"]


def test_rows_of_other_kinds_are_listed(tmp_path: Path) -> None:
    """OpenThoughts holds code, NuminaMath proofs: they are left out with their lines, and the rest is used."""
    code = {"system": "s", "conversations": turns("Write a program.", "```python\n```")}
    path = lines(tmp_path / "x.jsonl", [*published("OpenThoughts"), code])
    problems, rejected, _ = prepare(tmp_path, path, source="math")
    assert sorted(p["gold"] for p in problems) == ["2", "9"]
    assert problems[0]["solution"].startswith("<think>")
    assert [(r["where"], r["reason"]) for r in rejected] == [(f"{path}:3", "the solution holds no \\boxed answer")]


# Multiple choice: the right one is the second, "two".
TEXTS = ["one", "two", "three", "four"]
CHOICES: dict[str, dict[str, Any]] = {
    "MMLU": {"question": Q, "subject": "s", "choices": TEXTS, "answer": 1},
    "MMLU-Pro": {
        "question_id": 70, "question": Q, "options": [*TEXTS, "five", "six"], "answer": "B", "answer_index": 1,
        "cot_content": "", "category": "s", "src": "ori_mmlu-x",
    },
    "ARC": {"id": "M1", "question": Q, "choices": {"text": TEXTS, "label": ["A", "B", "C", "D"]}, "answerKey": "B"},
    "ARC with numbers": {"id": "M1", "question": Q, "choices": {"text": TEXTS, "label": [*"1234"]}, "answerKey": "2"},
    "ARC as published": {
        "id": "M1", "answerKey": "B",
        "question": {"stem": Q, "choices": [{"text": t, "label": "ABCD"[i]} for i, t in enumerate(TEXTS)]},
    },
    "CommonsenseQA": {
        "id": "1", "question": Q, "question_concept": "sum", "answerKey": "B",
        "choices": {"label": ["A", "B", "C", "D", "E"], "text": [*TEXTS, "five"]},
    },
    "SuperGPQA": {
        "uuid": "u", "question": Q, "options": TEXTS, "answer": "two", "answer_letter": "B", "discipline": "s",
        "field": "f", "subfield": "g", "difficulty": "hard", "is_calculation": True,
    },
    "options with the text of the answer": {"question": Q, "options": TEXTS, "answer": "two"},
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_multiple_choice(name: str, tmp_path: Path) -> None:
    for path in in_both(tmp_path, [CHOICES[name]]):
        [problem] = read(Data(source="mmlu", path=str(path)), path)
        assert (problem.question, problem.gold, problem.choices[1], problem.fault) == (Q, "B", "two", "")
        assert problem.subject == ("s" if "s" in CHOICES[name].values() else None)


def test_gpqa(tmp_path: Path) -> None:
    """A CSV file with the right answer first: the order of the choices is drawn from their texts, once for all."""
    row = {
        "Question": Q,
        "Correct Answer": "two",
        "Explanation": 'e,\n"f"',
        "High-level domain": "Physics",
        "Record ID": "r",
    }
    row |= {f"Incorrect Answer {i}": text for i, text in enumerate(("one", "three", "four"), 1)}
    questions = [row | {"Question": f"{i}. {Q}"} for i in range(40)]
    with (tmp_path / "gpqa_diamond.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows(questions)
    found = list(read(Data(source="mmlu", path="x"), tmp_path / "gpqa_diamond.csv"))
    assert all(p.choices["ABCD".index(p.gold)] == "two" and sorted(p.choices) == sorted(TEXTS) for p in found)
    assert {p.gold for p in found} == set("ABCD")
    assert {p.subject for p in found} == {"Physics"}
    path = lines(tmp_path / "x.jsonl", questions)
    assert [p[1:] for p in read(Data(source="mmlu", path="x"), path)] == [p[1:] for p in found]
    lines(path, [row | {"Incorrect Answer 2": "two"}])
    assert [p.fault for p in read(Data(source="mmlu", path="x"), path)] == ["two choices are the same"]


def test_one_csv_file_of_mmlu(tmp_path: Path) -> None:
    path = tmp_path / "abstract_algebra_test.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[Q, *TEXTS, "B"], [W, *TEXTS, "A"]])
    found = list(read(Data(source="mmlu", path=str(path)), path))
    assert [(p.question, p.gold, p.subject, p.split) for p in found] == [
        (Q, "B", "abstract_algebra", "test"),
        (W, "A", "abstract_algebra", "test"),
    ]


@pytest.mark.parametrize(
    "header", ["question,A,B,C,D,answer", "input,A,B,C,D,target", ",Question,A,B,C,D,Answer,Subject"]
)
def test_csv_files_with_a_column_a_choice(tmp_path: Path, header: str) -> None:
    row = {"A": "one", "B": "two", "C": "three", "D": "four", "": "0", "Subject": "s"}
    row |= dict.fromkeys(("question", "Question", "input"), Q) | dict.fromkeys(("answer", "Answer", "target"), "B")
    path = tmp_path / "x_test.csv"
    path.write_text(f"{header}\n{','.join(row[name] for name in header.split(','))}\n")
    [problem] = read(Data(source="mmlu", path=str(path)), path)
    assert (problem.question, problem.gold, problem.choices) == (Q, "B", tuple(TEXTS))


def test_a_row_of_no_known_choices(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", [{"question": Q, "answer": "B"}])
    with pytest.raises(
        DataError, match=r"x.jsonl:1: no known layout of multiple choice has its fields \(question, ans"
    ):
        list(read(Data(source="mmlu", path=str(path)), path))


def test_the_documents_name_them_all() -> None:
    table = re.sub(r"\s+", " ", (ROOT / "docs" / "data.md").read_text())
    for name in (*MATHEMATICS, *CHOICES, "GPQA"):
        words = re.split(r" of | with | as |,| levels", name)[0]
        assert words in table or name.startswith("options"), words
