"""Gold answers as data sets write them: right, or left out with the reason; golds of one value are one gold."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_layouts import found
from test_problems import lines, prepare

from paced.data.golds import equal, stated
from paced.verify import Sample, SeveralAnswersError, Verifier, boxed_answer


@pytest.mark.parametrize(
    "gold",
    [
        '["169"]', "['169']", '[ "169" ]', "A. 169", "#### 169", "so 13^2 = 169\n#### 169", "The answer is 169.",
        "Answer: 169", "169, 169", "169; 169", "169 or 169.0", "$169$", "\\boxed{169}", "169.", ["169"],
        ["169", "169.0"], 169, 169.0,
    ],
)  # fmt: skip
def test_a_response_of_169_is_right(tmp_path: Path, gold: Any) -> None:
    path = lines(tmp_path / "x.jsonl", [{"problem": "q?", "answer": gold}])
    rows, rejected, _ = prepare(tmp_path, path, source="math")
    assert rejected == []
    with Verifier() as verifier:
        samples = [Sample("math", f"\\boxed{{{a}}}", rows[0]["gold"], "q?", "stop") for a in ("169", "196")]
        assert [v.outcome for v in verifier.grade(samples)] == ["correct", "wrong"]


def test_other_answers_stay(tmp_path: Path) -> None:
    for gold, plain in (
        ("-1,3,3", "-1,3,3"), ("(1,1)", "(1,1)"), ("2, 3", "2, 3"), ("1,000", "1,000"), ("2个", "2个"), ("A", "A"),
        ("0.33, 1/3", "0.33, 1/3"), (r"\text{Friday}", r"\text{Friday}"), ("x=2 or x=-2", "x=2 or x=-2"),
    ):  # fmt: skip
        assert stated(gold) == plain
        assert found(tmp_path, {"problem": "q?", "answer": gold}).gold == plain


@pytest.mark.parametrize("gold", ["proof", "notfound", "not found", "NaN", "nan", "null", "None", "N/A"])
def test_what_stands_in_the_place_of_an_answer(tmp_path: Path, gold: str) -> None:
    rows = [
        {"problem": "Prove it.", "answer": gold, "solution": f"A proof, {gold}."},
        {"problem": "1+1?", "answer": "2"},
    ]
    problems, rejected, _ = prepare(tmp_path, lines(tmp_path / "x.jsonl", rows), source="math")
    assert [p["gold"] for p in problems] == ["2"]
    assert [(r["where"][-2:], r["kind"]) for r in rejected] == [(":1", "gold")]
    assert "stands in the place of an answer: give the answer or remove the row" in rejected[0]["reason"]


@pytest.mark.parametrize(
    ("gold", "solution", "says"),
    [
        ("170", r"So it is $\boxed{169}$.", "(values compared): correct it"),  # the solution comes to another number
        ("169 (cm)", r"So it is $\boxed{169}$.", "compared"),
        ("unknown", r"So it is $\boxed{169}$.", "words that stand neither in the question nor in the solution"),
        ("?!", "", "nothing to compare with"),
        ("the sum of all the numbers that are prime", "", "neither mathematics that can be read nor a few words"),
        ('{"answer": 169}', "", "different words"),
    ],
)
def test_golds_that_no_answer_matches(tmp_path: Path, gold: str, solution: str, says: str) -> None:
    rows = [{"problem": "q?", "answer": gold, "solution": solution}, {"problem": "1+1?", "answer": "2"}]
    problems, rejected, _ = prepare(tmp_path, lines(tmp_path / "x.jsonl", rows), source="math")
    assert [p["gold"] for p in problems] == ["2"]
    assert [(r["where"][-2:], r["kind"]) for r in rejected] == [(":1", "gold")]
    assert rejected[0]["reason"].startswith(f"verifier rejects gold {gold!r} (")
    assert says in rejected[0]["reason"]


def test_golds_that_their_solutions_state(tmp_path: Path) -> None:
    rows = [
        {"problem": "Which day?", "answer": r"\text{Tuesdays}", "solution": "It is a Tuesday."},
        {"problem": "Odd or even?", "answer": "odd", "solution": ""},
        {"problem": "Is it red or blue?", "answer": "red", "solution": "It has the other colour."},
        {"problem": "All?", "answer": "1, 2", "solution": r"\boxed{1} and then \boxed{2}"},
        {"problem": "Money?", "answer": "1.50", "solution": r"\boxed{\$1.50}"},
    ]
    assert prepare(tmp_path, lines(tmp_path / "x.jsonl", rows), source="math")[1] == []


# Several boxes in one solution (MATH has 22 such problems, besides what is boxed twice).


STEPS = "From this follows some more of the same kind. " * 9


@pytest.mark.parametrize(
    ("question", "solution", "gold"),
    [
        ("Find all values of $t$.", r"So $t = \boxed{\frac13}$ or $t = \boxed{-\frac52}$.", r"\frac13, -\frac52"),
        ("Enter the angles, separated by commas.", rf"One is $\boxed{{60}}.$ {STEPS} So $\boxed{{45}}$.", "60, 45"),
        ("List all possible values.", r"\boxed{5 - i}, \\ &= \boxed{11}, \\ &= \boxed{-3}.", "5 - i, 11, -3"),
        ("What is $N$?", r"Written in base $9$, this is $\boxed{28}$ or $\boxed{28_9}$.", "28_9"),
        ("Simplify.", r"We get $\boxed{x+11}$ or $\boxed{11+x}$.", "11+x"),
        ("Find $a+b$.", rf"It is $\boxed{{\frac23}}$. {STEPS} Thus $a+b = \boxed{{5}}$.", "5"),
        ("Find all.", r"It is $\boxed{2}$. Indeed $\boxed{2}$.", "2"),
    ],
)  # fmt: skip
def test_several_boxes(question: str, solution: str, gold: str) -> None:
    assert boxed_answer(solution, question) == gold


def test_any_of_several_boxes_is_no_gold(tmp_path: Path) -> None:
    question = "Find the coordinates of either focus. Enter only one of the foci, not both."
    solution = r"This gives two points: $\boxed{(-5, 7)}$ and $\boxed{(-5, 1)}.$ Either point is a correct answer."
    with pytest.raises(SeveralAnswersError):
        boxed_answer(solution, question)
    row = {"problem": question, "solution": solution}
    problems, rejected, _ = prepare(
        tmp_path, lines(tmp_path / "x.jsonl", [row, {"problem": "q", "solution": r"\boxed{1}"}]), source="math"
    )
    assert [p["gold"] for p in problems] == ["1"]
    assert rejected[0]["kind"] == "gold"
    assert rejected[0]["reason"] == (
        "the solution boxes (-5, 7) and (-5, 1), and the question asks for one answer: state one in a field of its "
        "own, or remove the row"
    )


# One question, several golds.


def test_golds_of_one_value_are_one(tmp_path: Path) -> None:
    for one, other in (
        ("1/2", "0.5"), (r"\frac12", "0.50"), ("50", "$50$"), ("x=2", "2"),
        (r"\frac{\sqrt2}{2}", r"\frac{1}{\sqrt{2}}"),
    ):  # fmt: skip
        assert equal(one, other) and equal(other, one)
    for one, other in (("1/3", "0.33"), ("2", "-2"), ("2, 3", "2"), ("A", "B"), ("odd", "even")):
        assert not equal(one, other)
    rows = [{"question": "a?", "answer": a} for a in ("1/2", "0.5", r"\frac{1}{2}")]
    rows += [{"question": "b?", "answer": a} for a in ("1/3", "0.33")]
    problems, rejected, ref = prepare(tmp_path, lines(tmp_path / "x.jsonl", rows), source="table")
    assert [(p["question"], p["gold"]) for p in problems] == [("a?", "1/2")]
    assert [r["kind"] for r in rejected] == ["duplicate", "duplicate", "conflict", "conflict"]
    report = json.loads((ref.folder / "cleaning.json").read_text())
    assert [c["golds"] for c in report["conflicting"]] == [["0.33", "1/3"]]


def test_accents_in_either_form_are_one_question(tmp_path: Path) -> None:
    rows = [{"question": "Caf\u00e9?", "answer": "1"}, {"question": "Cafe\u0301?", "answer": "1"}]
    problems, rejected, _ = prepare(tmp_path, lines(tmp_path / "x.jsonl", rows), source="table")
    assert [p["question"] for p in problems] == ["Caf\u00e9?"]
    assert [r["kind"] for r in rejected] == ["duplicate"]
