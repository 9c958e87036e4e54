"""Stage 'compare' and the bootstrap behind it, against closed forms."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paced.config.base import JsonObject
from paced.errors import ConfigError, DataError
from paced.evaluation.compare import compare
from paced.report.tables import aligned, benchmark_table
from paced.stage import Job, Spec
from paced.statistics import bootstrap, bootstrap_mean, holm, p_value, pass_at_k, summary
from paced.storage.artifacts import Ref
from paced.storage.tables import SCORES

MAIN = [{"name": "main"}]
BOTH = [{"name": "main"}, {"name": "sorting", "retention": True}]


def scores(benchmark: str, verdicts: Mapping[str, Sequence[str]], level: int | None = 1) -> list[dict[str, Any]]:
    """Rows of scores.parquet from {problem_id: verdicts}; c, w and u stand for correct, wrong and unknown."""
    words = {"c": "correct", "w": "wrong", "u": "unknown"}
    return [
        {
            "benchmark": benchmark,
            "problem_id": problem,
            "level": level,
            "sample_index": index,
            "response": "",
            "tokens": 10,
            "finish": "stop" if verdict != "w" else "length",
            "verdict": words[verdict],
        }
        for problem, row in verdicts.items()
        for index, verdict in enumerate(row)
    ]


def evaluation(home: Path, name: str, rows: list[dict[str, Any]]) -> Ref:
    job = Job(Spec(stage="evaluate", home=str(home), config={"of": name}))
    job.write("scores.parquet", rows, SCORES)
    return job.finish()


def compared(
    home: Path,
    arms: Mapping[str, list[dict[str, Any]]],
    pairs: Sequence[Sequence[str]] = (),
    benchmarks: Sequence[Mapping[str, Any]] = MAIN,
) -> dict[str, Any]:
    inputs = {name: evaluation(home, name, rows) for name, rows in arms.items()}
    config: JsonObject = {"benchmarks": [dict(b) for b in benchmarks], "pairs": [[*pair] for pair in pairs]}
    job = Job(Spec(stage="compare", home=str(home), config=config, inputs=inputs))
    compare(job)
    return json.loads((job.finish().folder / "comparison.json").read_text())


def drawn(rng: np.random.Generator, rate: np.ndarray, samples: int = 4) -> dict[str, str]:
    """Verdicts of simulated problems with these success rates."""
    return {f"p{i:05d}": "".join("c" if rng.random() < p else "w" for _ in range(samples)) for i, p in enumerate(rate)}


# The bootstrap


def test_one_seed_is_the_bootstrap_over_problems() -> None:
    values = np.random.default_rng(1).random(300)
    interval = bootstrap_mean(values)
    assert bootstrap([values[None]])[0] == interval
    # the bootstrap's standard deviation of a mean is the sample's, over sqrt(n)
    width = 2 * 1.96 * values.std() / math.sqrt(len(values))
    assert interval.high - interval.low == pytest.approx(width, rel=0.05)
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)


def test_seeds_alone_and_problems_alone_give_their_own_width() -> None:
    rng = np.random.default_rng(2)
    by_seed, by_problem = rng.normal(size=(40, 1)), rng.normal(size=(1, 400))
    seeds, problems, both = bootstrap(
        [by_seed + np.zeros((1, 400)), by_problem + np.zeros((40, 1)), by_seed + by_problem]
    )
    spread = {name: i.high - i.low for name, i in zip(("s", "p", "b"), (seeds, problems, both), strict=True)}
    assert spread["s"] == pytest.approx(3.92 * by_seed.std() / math.sqrt(40), rel=0.08)
    assert spread["p"] == pytest.approx(3.92 * by_problem.std() / math.sqrt(400), rel=0.08)
    assert spread["b"] == pytest.approx(math.hypot(spread["s"], spread["p"]), rel=0.08)  # independent causes add


def test_an_interval_does_not_depend_on_its_company() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random((3, 200)), rng.random((1, 200))
    assert bootstrap([a, b]) == [bootstrap([a])[0], bootstrap([b])[0]]


def test_missing_cells_are_left_out() -> None:
    matrix = np.array([[1.0, np.nan, 1.0], [1.0, 1.0, np.nan]])
    assert bootstrap([matrix])[0] == pytest.approx((1.0, 1.0, 1.0))


def test_coverage_of_a_binomial_is_near_95_percent() -> None:
    """400 data sets of 150 problems x 4 samples; the standard error of a coverage of .95 is then .011."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(400):
        rate = rng.beta(1, 2, 150)  # mean 1/3
        interval = bootstrap_mean(rng.binomial(4, rate) / 4, resamples=600)
        hits += interval.low <= 1 / 3 <= interval.high
    assert 0.915 <= hits / 400 <= 0.98


def test_thousands_of_problems_take_under_a_second() -> None:
    matrix = np.random.default_rng(5).random((3, 4000))
    began = time.process_time()
    bootstrap([matrix])
    assert time.process_time() - began < 1


def test_holm_by_hand() -> None:
    """The worked example of R's p.adjust: each times how many are left, and never below an earlier one."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_the_p_value_of_an_interval() -> None:
    """5% where an end is zero; 1.96 standard errors, or twice as many, by the normal distribution's tables."""
    assert p_value(1.0, 0.0, 3.0) == pytest.approx(0.05) == p_value(-1.0, -2.5, 0.0)
    assert p_value(2.0, 1.0, 3.0) == pytest.approx(8.86e-5, rel=1e-2)
    assert (p_value(0.0, 0.0, 0.0), p_value(0.5, 0.5, 0.5), p_value(0.0, -1.0, 1.0)) == (1.0, 0.0, 1.0)


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(4, 2, 2) == pytest.approx(1 - 1 / 6)  # one of the six pairs holds no right sample
    assert (pass_at_k(4, 0, 4), pass_at_k(4, 1, 4)) == (0, 1)


def test_summary_leaves_unknown_verdicts_out() -> None:
    found = summary(scores("main", {"a": "cwuu", "b": "uuuu", "c": "cccc"}))
    assert (found["problems"], found["samples"], found["unknown"], found["k"]) == (2, 12, 6, 2)
    assert found["mean"] == 0.75


# The stage


def test_metrics_by_hand(tmp_path: Path) -> None:
    rows = scores("main", {"a": "cccc", "b": "cwww"}, 1) + scores("main", {"c": "wwww"}, 2)
    rows += scores("sorting", {"d": "ccww"}, None)
    arm = compared(tmp_path, {"paced/0": rows}, benchmarks=BOTH)["arms"]["paced"]
    assert arm["accuracy"] | {"low": 0, "high": 0} == {
        "mean": pytest.approx(1.25 / 3), "low": 0, "high": 0, "problems": 3, "samples": 12, "seeds": 1,
    }  # fmt: skip
    assert {level: v["mean"] for level, v in arm["by_level"].items()} == {"1": 0.625, "2": 0.0}
    assert (arm["retention"]["mean"], arm["retention"]["problems"]) == (0.5, 1)
    assert {n: v["problems"] for n, v in arm["by_benchmark"].items()} == {"main": 3, "sorting": 1}
    assert (arm["k"], arm["pass_at_k"]) == (4, pytest.approx(2 / 3, abs=1e-8))
    assert arm["truncated"] == pytest.approx(7 / 12, abs=1e-8)
    assert (arm["mean_tokens"], arm["unknown"]) == (10, 0)


THREE = [{"name": "math"}, {"name": "aime"}, {"name": "mmlu", "retention": True}]


def three(gain: str, kept: str) -> list[dict[str, Any]]:
    """Two samples a problem on one benchmark, four on another, and a choice by log-likelihood."""
    rows = scores("math", {"a": gain, "b": "cw"}) + scores("aime", {"c": "cwww"}, None)
    return rows + [
        r | {"finish": "scored", "tokens": 0} for r in scores("mmlu", {str(i): v for i, v in enumerate(kept)})
    ]


def test_every_benchmark_has_its_own_k_and_pairs(tmp_path: Path) -> None:
    arms = {"base/0": three("ww", "cccc"), "paced/0": three("cc", "ccwc")}
    found = compared(tmp_path, arms, [("paced", "base")], THREE)
    paced = found["arms"]["paced"]
    assert {n: (b["k"], b["mean"], b["pass_at_k"]) for n, b in paced["by_benchmark"].items()} == {
        "math": (2, 0.75, 1.0), "aime": (4, 0.25, 1.0), "mmlu": (1, 0.75, 0.75),
    }  # fmt: skip
    # a choice has neither length nor truncation; one wrong sample of the four on "math" was cut
    assert paced["by_benchmark"]["math"]["truncated"] == 0.25
    assert "truncated" not in paced["by_benchmark"]["mmlu"] and "mean_tokens" not in paced["by_benchmark"]["mmlu"]
    assert (paced["k"], paced["mean_tokens"]) == (2, 10)
    assert {c["metric"]: c["difference"] for c in found["comparisons"]} == {
        "accuracy": pytest.approx(1 / 3), "math": 0.5, "aime": 0.0, "retention": -0.25,
    }  # fmt: skip
    assert found["benchmarks"] == [b | {"retention": b["name"] == "mmlu"} for b in THREE]


@pytest.mark.parametrize("base", ["base", "run:base"])
def test_a_table_as_papers_print_it(tmp_path: Path, base: str) -> None:
    arms = {f"{base}/0": three("ww", "cccc"), "paced/0": three("cc", "ccwc")}
    found = compared(tmp_path, arms, [("paced", base)], THREE)
    heading, *rows = aligned(benchmark_table(found)[0].rows).splitlines()
    assert heading.split() == ["arm", "math", "avg@2", "95%", "aime", "avg@4", "95%", "forgetting", "95%"]
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert cells["paced"][::2] == ["75.0", "25.0", "25.0"]
    assert cells[base][::2] == ["25.0", "25.0", "-"]
    assert len({len(row) for row in (heading, next(row for row in rows if row.startswith("paced")))}) == 1
    assert benchmark_table(compared(tmp_path / "one", {"base/0": scores("main", {"a": "cw"})})) == []


def test_no_retention_without_a_retention_benchmark(tmp_path: Path) -> None:
    rows = scores("main", {"a": "cw", "b": "cc"})
    found = compared(tmp_path, {"a/0": rows, "base/0": rows}, [("a", "base")])
    assert "retention" not in found["arms"]["a"]
    assert [c["metric"] for c in found["comparisons"]] == ["accuracy"]


def test_a_constant_difference_has_no_width(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    right = rng.integers(0, 4, 80)
    low = {f"p{i}": "c" * n + "w" * (4 - n) for i, n in enumerate(right)}
    high = {f"p{i}": "c" * (n + 1) + "w" * (3 - n) for i, n in enumerate(right)}  # one more of four
    arms = {f"{name}/{s}": scores("main", v) for name, v in (("a", high), ("b", low)) for s in range(3)}
    (entry,) = compared(tmp_path, arms, [("a", "b")])["comparisons"]
    assert entry == {
        "a": "a", "b": "b", "metric": "accuracy",
        "difference": 0.25, "low": 0.25, "high": 0.25, "problems": 80, "seeds": 3,
    }  # fmt: skip


def test_pairing_narrows_the_interval(tmp_path: Path) -> None:
    """Problems differ far more than arms do; unpaired, the widths would add like independent errors."""
    rng = np.random.default_rng(7)
    rate = rng.beta(0.4, 0.4, 200)
    arms = {
        f"{name}/{seed}": scores("main", drawn(rng, np.clip(rate + gain, 0, 1)))
        for name, gain in (("a", 0.05), ("b", 0.0))
        for seed in range(3)
    }
    found = compared(tmp_path, arms, [("a", "b")])
    (pair,) = found["comparisons"]
    widths = [found["arms"][n]["accuracy"]["high"] - found["arms"][n]["accuracy"]["low"] for n in "ab"]
    assert pair["high"] - pair["low"] < 0.6 * math.hypot(*widths)
    assert pair["difference"] == pytest.approx(
        found["arms"]["a"]["accuracy"]["mean"] - found["arms"]["b"]["accuracy"]["mean"], abs=1e-8
    )


@pytest.mark.parametrize("base", ["base", "run:base"])
@pytest.mark.parametrize("seeds", [(3, 7), (0, 1)])
def test_the_base_row_serves_every_seed(tmp_path: Path, base: str, seeds: tuple[int, int]) -> None:
    rows = scores("main", {"a": "wwww", "b": "cccc"})
    better = scores("main", {"a": "cccc", "b": "cccc"})
    arms = {f"{base}/0": rows, f"x/{seeds[0]}": rows, f"x/{seeds[1]}": better}
    found = compared(tmp_path, arms, [("x", base), (base, "x")])
    assert [(c["difference"], c["seeds"]) for c in found["comparisons"]] == [(0.25, 2), (-0.25, 2)]
    assert found["arms"][base]["accuracy"]["seeds"] == 1
    assert list(found["arms"]) == [base, "x"]


def test_unknown_is_never_wrong(tmp_path: Path) -> None:
    a = scores("main", {"a": "ccuu", "b": "uuuu", "c": "wwww"})
    b = scores("main", {"a": "wwww", "b": "wwww", "c": "wwww"})
    found = compared(tmp_path, {"a/0": a, "b/0": b}, [("a", "b")])
    accuracy = found["arms"]["a"]["accuracy"]
    assert (accuracy["mean"], accuracy["problems"], accuracy["samples"]) == (0.5, 2, 6)
    assert found["arms"]["a"]["unknown"] == 6
    (pair,) = found["comparisons"]
    assert (pair["difference"], pair["problems"]) == (0.5, 2)  # b is unknown in one arm, so it is left out


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    arms = {f"a/{s}": scores("main", drawn(rng, rng.random(50))) for s in range(3)}
    first, second = (compared(tmp_path / name, arms) for name in ("one", "two"))
    assert json.dumps(first) == json.dumps(second)


GOOD = scores("main", {"a": "cw", "b": "cw"})


@pytest.mark.parametrize(
    ("arms", "pairs", "error", "words"),
    [
        ({"a/0": GOOD, "b/0": GOOD[:2]}, [], DataError, "a/0 and b/0 were scored on different problems .2 and 1, 1 in"),
        ({"a/0": GOOD, "b/1": GOOD}, [("a", "b")], DataError, "share no seed"),
        ({"a/0": scores("main", {"a": "uu"})}, [], DataError, "no sample of arm a on main has a known verdict"),
        ({"a/0": scores("other", {"a": "cw"})}, [], DataError, "benchmarks .'other'., the comparison lists .'main'."),
        ({"a/0": GOOD}, [("a", "gone")], ConfigError, "no arm gone .there are: a."),
        ({"a": GOOD}, [], ConfigError, "not named ARM/SEED"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    tmp_path: Path, arms: Any, pairs: Any, error: Callable[..., Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:  # pyright: ignore
        compared(tmp_path, arms, pairs)
    assert "\n" not in str(caught.value)
