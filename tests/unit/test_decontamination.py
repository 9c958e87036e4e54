"""Contamination: what counts as the same, shares counted by hand, and the index against a count by brute force."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_problems import lines, prepare

from paced.config import Data, Decontamination
from paced.data.cleaning import clean, scripts
from paced.data.decontamination import WORD, Hit, Index, normal
from paced.data.layouts import Problem
from paced.data.shelf import Shelf, same_gold
from paced.errors import ConfigError, DataError

FOX = "the quick brown fox jumps over the lazy dog"  # 9 words, 6 four-grams


def hits(training: str, *benchmark: str, words: int = 4, share: float = 0.5) -> list[Hit]:
    return list(Index({"b": benchmark}, words, share).find(training))


def test_word_for_word_is_but_for_case_and_spaces() -> None:
    [hit] = hits("Find  $X$ +\n1.", "find $x$ + 1.")
    assert (hit.exact, hit.share) == (True, 1.0)
    assert normal("A  b\tC") == "abc"
    [hit] = hits("Find x + 1", "Find x - 1!")  # punctuation does not count as a word, so all n-grams are there
    assert (hit.exact, hit.share) == (False, 1.0)


@pytest.mark.parametrize(
    ("training", "share"),
    [
        (f"Well, {FOX.upper()}; says he.", 1.0),  # all of it, within more
        ("the quick brown fox jumps over a sleeping dog", 3 / 6),  # the first three of six
        ("quick brown fox jumps", 1 / 6),
        ("the quick brown cat jumps over the lazy dog", 2 / 6),  # the last two
    ],
)
def test_share_of_the_benchmark_problems_ngrams(training: str, share: float) -> None:
    [hit] = hits(training, FOX, share=0.1)
    assert hit.share == pytest.approx(share)
    assert not hit.exact
    assert hits(training, FOX, share=share + 0.01) == []


def test_short_and_wordless_questions() -> None:
    assert [h.exact for h in hits("1 + 1 = ?", "1+1", share=1)] == [False]  # two words are one n-gram
    assert hits("one and one", "1+1") == []
    assert hits("?!", "???") == []
    assert [h.exact for h in hits("? ??", "???")] == [True]


def test_a_chinese_character_is_a_word() -> None:
    assert WORD.findall("设f(x)=1, 求x_2.") == ["设", "f", "x", "1", "求", "x", "2"]
    assert hits("若函数的最大值为三,求它", "函数的最大值为三", words=6)[0].share == 1


WRAPPERS = (
    "{}",
    "Problem: {}",
    "12. {}",
    "{}\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
    "{}\n\nPresent the answer in LaTex format: \\boxed{{Your answer}}",
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    '$Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\nRemember to put your answer on its '
    'own line after "Answer:".',
    "{} Let's think step by step and output the final answer after \"####\".",
    "<|im_start|>user\nQuestion: {}<|im_end|>\n<|im_start|>assistant\n",
)


@pytest.mark.parametrize(
    "question",
    ["Compute $\\tan 240^\\circ$.", "Evaluate $i^6+i^{16}$", "What is $2 + 2\\cdot 3$?", "求函数的最大值"],
)
def test_a_short_question_behind_any_wrapper(question: str) -> None:
    index = Index({"b": ["An unrelated one.", question]}, 13, 0.3)
    for wrapper in WRAPPERS:
        [hit] = index.find(wrapper.format(question))
        assert (hit.problem, hit.share, hit.exact) == (1, 1.0, wrapper == "{}")


def test_a_short_question_counts_with_its_signs() -> None:
    """Its words alone are in many texts."""
    index = Index({"b": ["Evaluate $-4 + (-3)$.", "Inflation", "What is 2?", "Find $a - b$."]}, 13, 0.3)
    for text in ("We evaluate $4 \\cdot 3$.", "What is 25?", "Find $a + b$.", "Inflation is high. By how much?"):
        assert list(index.find(f"{text} Then say what follows from it.")) == []
    assert [h.problem for h in index.find("Let us find $a - b$, if it exists, and then more.")] == [3]


def test_accents_in_either_form_are_the_same() -> None:
    one, other = "Wie gro\u00df ist \u00e9 hier?", "Wie gro\u00df ist e\u0301 hier?"
    index = Index({"b": [one]}, 13, 0.3)
    assert [h.exact for h in index.find(other)] == [True]
    assert [h.share for h in index.find(f"Frage: {other} Antwort:")] == [1.0]


def test_every_benchmark_that_holds_it_is_named() -> None:
    index = Index({"a": ["other words that are here", FOX], "b": [], "c": [FOX]}, 4, 0.5)
    assert [(h.benchmark, h.problem) for h in index.find(FOX)] == [("a", 1), ("c", 0)]


def test_the_index_counts_as_brute_force_does() -> None:
    rng = np.random.default_rng(0)

    def text() -> str:
        return " ".join("abcd"[i] for i in rng.integers(0, 4, rng.integers(3, 30)))

    benchmark, training = [text() for _ in range(40)], [text() for _ in range(40)]
    index = Index({"b": benchmark}, 5, 0.3)

    def grams(question: str) -> set[tuple[str, ...]]:
        words = question.split()
        n = min(5, len(words))
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    def inside(short: str, long: str) -> bool:
        return len(short.split()) == 4 and f" {short} " in f" {long} "

    assert any(inside(b, question) for question in training for b in benchmark)
    for question in training:
        expected = {
            i: 1 if inside(b, question) else len(grams(question) & grams(b)) / len(grams(b))
            for i, b in enumerate(benchmark)
            if len(grams(question) & grams(b)) / len(grams(b)) >= 0.3
            or normal(question) == normal(b)
            or inside(b, question)
        }
        assert {h.problem: h.share for h in index.find(question) if not h.exact} == pytest.approx(expected)


def test_the_same_hashes_in_every_process() -> None:
    script = "from paced.data.decontamination import Index; print(Index({}, 2, 1).grams('a b c').tolist())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout
        for seed in "12"
    }  # fmt: skip
    assert len(seen) == 1


# Cleaning.


def problem(question: str, gold: str = "1", where: str = "") -> Problem:
    return Problem(where or question, question, gold, None, None, question)


def cleaned(
    folder: Path, problems: Sequence[Problem], data: Data, training: bool = True
) -> tuple[set[str], dict[str, str], dict[str, Any]]:
    """Where the problems stand that are used, the kinds of those that are not by where, and the counts."""
    with Shelf(folder / "problems.sqlite") as shelf:
        shelf.fill(problems)
        report = clean(shelf, data, None, training)
        return {p.where for p in shelf.used(None)}, {r["where"]: r["kind"] for r in shelf.rejected()}, report


def test_scripts_by_share_of_letters(tmp_path: Path) -> None:
    data = Data(source="math", path="x", drop_scripts=("han",))
    english = "Find the largest value of the fraction below when all its letters are digits. 假"
    questions = ["已知 $\\frac{a}{b}=1$, 求 a", english, "Find ω + ψ in Ångström", "Найдите 求 x"]
    used, _, report = cleaned(tmp_path, [problem(q) for q in questions], data)
    assert used == {english, "Find ω + ψ in Ångström"}  # one slip of the pen is no language
    assert report["written_in"] == {"cyrillic": 1, "han": 3}
    assert scripts("\\frac{1}{2} \\overrightarrow{AB} 求") == {"han": 1 / 3}  # commands are no letters


def test_golds_that_differ_only_in_writing_do_not_conflict(tmp_path: Path) -> None:
    assert len({same_gold(g) for g in ("1,000", "1000.0", "$1000$", " 1000")}) == 1
    assert same_gold("1/2") != same_gold("0.5")
    data = Data(source="math", path="x", max_characters=20)
    rows = [("q a", "1", "1"), ("Q  A", "1.0", "2"), ("r", "2", "3"), ("r ", "3", "4"), ("long " * 9, "1", "5")]
    problems = [problem(q, g, w) for q, g, w in rows]
    assert cleaned(tmp_path, problems, data)[1] == {"2": "duplicate", "3": "conflict", "4": "conflict", "5": "length"}
    assert cleaned(tmp_path, problems, data, training=False)[0] == set("1234")


def test_a_benchmark_is_held_against_whole_not_only_what_is_used_of_it(tmp_path: Path) -> None:
    questions = [
        {"question": f"How much is {i} and {i + 1} taken together?", "answer": f"{2 * i + 1}"} for i in range(9)
    ]
    bad = {"question": "Who is there?", "answer": "nobody that a verifier knows; or is it $x=$?"}
    test = prepare(tmp_path, lines(tmp_path / "test.jsonl", [*questions, bad]), split="t", source="table", problems=2)[
        2
    ]
    other = {"question": "What is left?", "answer": "3"}
    path = lines(tmp_path / "x.jsonl", [*questions, other, bad | {"answer": "1"}])
    rows, rejected, ref = prepare(tmp_path, path, exclude=test, source="table")
    assert [r["question"] for r in rows] == ["What is left?"]
    assert {r["kind"] for r in rejected} == {"benchmark"}
    assert ref.identity != prepare(tmp_path, path, source="table")[2].identity


def test_settings() -> None:
    with pytest.raises(ValueError, match="share has no effect with enabled false"):
        Decontamination(enabled=False, share=0.9)
    with pytest.raises(ValueError, match="words"):
        Decontamination(words=1)


def test_off_is_loud(tmp_path: Path) -> None:
    from paced.config import Runtime
    from paced.data.spec import prepare_spec
    from paced.stage import execute

    path = lines(tmp_path / "x.jsonl", [{"question": "a?", "answer": "1"}])
    test = prepare(tmp_path, path, split="t", source="table")[2]
    data, home = Data(source="table", path=str(path)), str(tmp_path)
    with pytest.raises(DataError, match="every problem also stands in a benchmark"):
        execute(prepare_spec(home, data, 0, "train", {"t": test}, Decontamination(), Runtime()), lambda event: None)
    said: list[str] = []
    off = prepare_spec(home, data, 0, "train", {"t": test}, Decontamination(enabled=False), Runtime())
    execute(off, lambda event: said.append(event.get("message", "")))
    assert any(line.startswith("decontamination is off") for line in said)
    assert "exclude/t" not in off.inputs


def test_errors_name_the_field() -> None:
    from paced.config.reading import load_data

    for assignment, says in (
        ("drop_scripts=[klingon]", "drop_scripts.0: "),
        ("shots=2", "shots has no effect with source 'math'"),
        ("columns={question: q}", "columns has no effect with source 'math'"),
        ("subject=x", "subject: unknown key"),
    ):
        with pytest.raises(ConfigError, match=r"x\.jsonl: ") as error:
            load_data("math", "x.jsonl", (assignment,))
        assert says in str(error.value)
