"""The command ``paced grade``: verdicts, summary, explanations, and one clear line for a bad line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from paced_deployments import cli

PAIRS: list[dict[str, Any]] = [
    {"id": "a", "response": r"So \boxed{\frac{2}{4}}.", "gold": "0.5", "label": "correct", "category": "fractions"},
    {"response": "The answer is 5.", "gold": 6, "label": "wrong", "category": "integers"},
    {"response": r"\boxed{(B)}", "gold": "7", "question": "(A) 5 (B) 7 (C) 9", "label": "wrong", "category": "choices"},
    {"response": r"\boxed{5}", "gold": "5", "finish": "length", "label": "correct"},
    {"response": r"\boxed{\frac{(2n)!}{n!n!}}", "gold": r"\binom{2n}{n}", "label": "correct"},
]


def grade(folder: Path, lines: list[Any], *options: str) -> int:
    path = folder / "pairs.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    sys.argv = ["paced", "grade", str(path), "--out", str(folder / "out.jsonl"), *options]
    return cli.main()


@pytest.fixture(autouse=True)
def _arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)


def test_verdicts_and_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grade(tmp_path, [PAIRS[0], "", *PAIRS[1:]]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["verdict"] for r in rows] == ["correct", "wrong", "correct", "wrong", "correct"]
    assert [r["line"] for r in rows] == [1, 3, 4, 5, 6]
    assert [r["extracted"] for r in rows] == [r"\frac{2}{4}", "5", "(B)", None, r"\frac{(2n)!}{n!n!}"]
    assert rows[0]["id"] == "a"
    assert all(r["reason"] and 0 <= r["seconds"] < 2 for r in rows)
    said = capsys.readouterr().out
    assert "5 pairs: 3 correct, 2 wrong, 0 unknown; " in said
    assert "1 by worker processes" in said
    assert (
        "5 labelled  accuracy  60.00%  false accepts 1 (50.00% of wrong)  false rejects 1 (33.33% of correct)" in said
    )
    assert "  fractions                       1 labelled  accuracy 100.00%" in said
    assert not list(tmp_path.glob("*.part"))


def test_explanations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grade(tmp_path, PAIRS, "--explain") == 0
    said = capsys.readouterr().out
    first = said[: said.index("line 2:")]
    assert first.startswith("line 1: correct\n")
    assert r"extracted  \frac{2}{4}   (from the last \boxed{})" in first
    assert "gold       0.5" in first
    assert "compared   1/2   with   1/2" in first
    assert "by the cheap rules" in first
    assert "not read" not in first
    assert "line 4: wrong\n  extracted  none\n" in said
    assert "decided    cut by the token limit" in said
    assert "by a worker process" in said[said.index("line 5:") :]


def test_an_explanation_says_which_side_was_not_read_and_what_was_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [
        {"response": r"\boxed{\text{a long way}}", "gold": "5"},
        {"response": r"\boxed{1, 2, 4}", "gold": "1, 2, 3"},
        {"response": r"\boxed{(1, 2)}", "gold": "(2, 1)"},
        {"response": r"\boxed{\sqrt{32}}", "gold": r"4\sqrt2", "question": r"Simplify $\sqrt{32}$."},
    ]
    assert grade(tmp_path, pairs, "--explain") == 0
    words, members, entries, own = capsys.readouterr().out.split("line ")[1:5]
    assert "not read   the answer: no mathematics that is known" in words
    assert "members compared in any order" in members
    assert "entries compared in order" in entries
    assert "the same" not in members + entries
    assert "the question's own expression" in own


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{'response': 1}", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1, 2]", "not a JSON object"),
        ({"response": "x"}, "field 'gold' is missing (it has: response)"),
        ({}, "field 'response' is missing (it has: nothing)"),
        ({"response": 5, "gold": "5"}, "field 'response' must be text, got int"),
        ({"response": "5", "gold": ["5"]}, "field 'gold' must be text, got list"),
        ({"response": "5", "gold": True}, "field 'gold' must be text, got bool"),
        ({"response": None, "gold": "5"}, "must not be null"),
        ({"response": "5", "gold": "5", "question": 7}, "field 'question' must be text, got int"),
        ({"response": "5", "gold": "5", "label": "right"}, "label must be 'correct' or 'wrong', got 'right'"),
        ({"response": "5", "gold": "5", "finish": "end"}, "finish must be 'stop', 'length' or 'error', got 'end'"),
    ],
)
def test_a_bad_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: Any, says: str) -> None:
    assert grade(tmp_path, [PAIRS[0], line]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'pairs.jsonl'}:2: ")
    assert says in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()
    assert not list(tmp_path.glob("*.part"))


def test_files_that_cannot_be_read_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, out, says in (
        (tmp_path / "no.jsonl", tmp_path / "out", "no.jsonl cannot be read: No such file"),
        (tmp_path, tmp_path / "out", "cannot be read: Is a directory"),
        (tmp_path / "latin.jsonl", tmp_path / "out", "not UTF-8"),
        (tmp_path / "ok.jsonl", tmp_path / "no" / "out", "cannot be written: No such file"),
    ):
        (tmp_path / "latin.jsonl").write_bytes('{"response": "groß", "gold": "5"}'.encode("latin-1"))
        (tmp_path / "ok.jsonl").write_text(json.dumps(PAIRS[0]))
        sys.argv = ["paced", "grade", str(source), "--out", str(out)]
        assert cli.main() == 1
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1


def test_half_a_character_passes_through(tmp_path: Path) -> None:
    assert grade(tmp_path, ['{"response": "\\\\boxed{\\ud800}", "gold": "5"}']) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["verdict"] == "wrong"
