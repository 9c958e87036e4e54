"""Verifiers: numbers as they are written, and the tiny world's whole working."""

import time

import pytest

from paced.verify import grade, grade_gold, number, written_working


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        ("#### 42", "42"),
        ("48/2 = <<48/2=24>>24 clips, 48+24 = 72.\n#### 72", "72"),
        ("####42", "42"),
        ("#### $1,234", "1234"),
        ("#### 1,234,567.50", "1234567.5"),
        ("#### -5", "-5"),
        ("#### -$5", "-5"),
        ("#### $-5", "-5"),
        ("#### \u22125", "-5"),
        ("#### +7", "7"),
        ("#### 12\nThat took 3 steps.", "12"),
        ("#### 12\n\n#### 13", "13"),
        ("so \\boxed{42}.", "42"),
        ("so \\boxed{\\$1,200} in 3 days", "1200"),
        ("so $\\boxed{ -3.50 }$ of 9", "-3.5"),
        ("\\boxed{42\\%} of 9", "42"),
        ("\\boxed{1}, no: \\boxed{2}", "2"),
        ("The answer is 42.", "42"),
        ("The answer is: 42. I needed 3 steps", "42"),
        ("**Final Answer:** $18 after 2 days", "18"),
        ("the ANSWER is **$0.50** for 2", "0.5"),
        ("Answer: .5", "0.5"),
        ("is 42.", "42"),
        ("she has 42 apples", "42"),
        ("It costs $42.00!", "42"),
        ("She pays 5 - 3 = 2 dollars/hour.", "2"),
        ("so 16-3-4=9", "9"),
        ("between 3-5", "5"),
        ("(3)-5 = -2", "-2"),
        ("42%", "42"),
        ("1 000 is 1,000,", "1000"),
        ("007", "7"),
        ("5.0", "5"),
    ],
)
def test_numbers_found(response: str, gold: str) -> None:
    verdict = number(response, gold, "")
    assert verdict.outcome == "correct", verdict


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        ("", "42"),
        ("forty-two", "42"),
        ("#### 43", "42"),
        ("The answer is 42. #### 43", "42"),
        ("42 is not it, \\boxed{43}", "42"),
        ("\\boxed{1/2}", "1"),
        ("it is 1/2", "2"),
        ("#### 4.2", "42"),
        ("#### -42", "42"),
        ("#### 42.0000001", "42"),
        ("#### 420", "42"),
        ("42", "x"),
        ("x", "x"),
    ],
)
def test_numbers_refused(response: str, gold: str) -> None:
    assert number(response, gold, "").outcome == "wrong"


def test_extraction_takes_time_in_proportion() -> None:
    began = time.process_time()
    for text in (
        "1," * 50_000,
        "9" * 4_000,
        "answer is " * 20_000,
        "\\boxed{1" * 10_000,
        "$" * 100_000,
        "####" * 30_000,
    ):
        number(text, "42", "")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(("source", "response"), [("gsm8k", "#### 42"), ("tiny", "+6=81;#81")])
def test_failed_is_unknown_and_cut_is_wrong(source: str, response: str) -> None:
    gold, question = ("42", "") if source == "gsm8k" else (response, "75+6=")
    assert grade(source, response, gold, question, "stop").outcome == "correct"
    assert grade(source, response, gold, question, "length") == ("wrong", None)
    assert grade(source, response, gold, question, "error") == ("unknown", None)
    assert grade_gold(source, gold, question).outcome == "correct"


@pytest.mark.parametrize("gold", ["", "many", "1/2", "10%", "4 apples", "1e3.5"])
def test_golds_that_are_no_numbers(gold: str) -> None:
    assert grade_gold("gsm8k", gold, "").outcome == "wrong"


@pytest.mark.parametrize("gold", ["0", "-3", "1,000", "$5", "0.25", ".5", "-0.5", "27.0", "025"])
def test_golds_that_are(gold: str) -> None:
    assert grade_gold("table", gold, "").outcome == "correct"


def test_the_whole_working_counts() -> None:
    question, answer = "50+92+30=", "+92=42;+30=72;#72"
    assert written_working(answer, answer, question).outcome == "correct"
    for response in ("#72", "+92=41;+30=72;#72", "+92=42;+30=72;#73", answer + " ", answer + "+", answer[:-1], ""):
        assert written_working(response, answer, question).outcome == "wrong"
    assert written_working("#1", "#1", "no prompt of this world").outcome == "wrong"
    assert grade_gold("tiny", "#72", question).outcome == "wrong"  # a wrong gold is found before it is used
    assert written_working("#efgggg", "#efgggg", "geggfg>").outcome == "correct"
