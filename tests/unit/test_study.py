"""Studies: what a protocol may say, on what terms its arms are trained, and what decides its claims."""

import datetime
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from paced.config.reading import load_recipe
from paced.config.study import Protocol, groups, load_protocol
from paced.errors import ConfigError
from paced.report import study as report
from paced.report.study import Cost, Study, decided, effect_size, entry, equal_cost
from paced.storage.identity import Commit, committed
from paced_flows import study as flow

ROOT = Path(__file__).parents[2]
TINY = ROOT / "recipes" / "tiny.yaml"
CLAIM = {"says": "weights help", "a": "beta", "b": "uniform"}
PROTOCOLS = sorted((ROOT / "benchmarks" / "studies").glob("*.yaml"))


def benchmark(name: str, seed: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "data": {"source": "tiny", "problems": 8, "mix": {1: 1}, "seed": seed}, **more}


def tree(**changes: Any) -> dict[str, Any]:
    return {
        "name": "trial", "question": "Does it help?", "recipe": str(TINY), "seeds": [7, 8],
        "settings": {"data.mix": {1: 1, 2: 1}},
        "holdout": [benchmark("sums", 50), benchmark("sorting", 51, retention=True)],
        "learning_rate": {"candidates": [1e-4, 2e-4], "seeds": [9], "validation": [benchmark("validation", 52)]},
        "equal": ["steps", "cost"],
        "arms": [
            {"name": "uniform", "scheme": "uniform", "schedule": "forward"},
            {"name": "beta", "schedule": "two_stage"},
            {"name": "few", "schedule": "forward", "settings": {"rollouts.samples": 2}},
        ],
        "claims": [CLAIM],
    } | changes  # fmt: skip


def protocol(folder: Path, **changes: Any) -> Protocol:
    path = folder / "trial.yaml"
    path.write_text(yaml.safe_dump(tree(**changes)))
    return load_protocol(path)


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda p: p.stem)
def test_the_protocols_that_are_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_protocol(path).name == path.stem


def test_no_problems_are_held_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor by a recipe, nor are they those of a validation, nor have two studies a seed in common."""
    monkeypatch.chdir(ROOT)
    found = [load_protocol(path) for path in PROTOCOLS]
    used = [b.data for path in sorted(TINY.parent.glob("*.yaml")) for b in load_recipe(path).evaluation.benchmarks]
    for study in found:
        used += [*(b.data for b in study.holdout), *(b.data for b in getattr(study.learning_rate, "validation", ()))]
    drawn = Counter(data.seed for data in used if data.generated)
    assert drawn.most_common(1)[0][1] == 1
    seeds = Counter(seed for study in found for seed in study.seeds)
    assert not set(seeds) & {seed for study in found for seed in getattr(study.learning_rate, "seeds", ())}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"claims": [{"says": "x", "a": "beta", "b": "akl"}]}, "claim 'x': there is no arm akl"),
        ({"claims": [{"says": "x", "a": "beta", "b": "beta"}]}, "beta is compared with itself"),
        ({"claims": []}, "claims: Tuple should have at least 1 item"),
        ({"arms": [{"name": "beta"}, {"name": "beta"}]}, "arms repeat a name: beta, beta"),
        ({"arms": [{"name": "beta", "settings": {"no.such": 1}}]}, "no: unknown key"),
        ({"equal": ["cost"]}, r"equal is \[steps\], or \[steps, cost\]"),
        ({"seeds": [7, 9]}, "learning_rate.seeds: 9 is a seed of the study"),
        ({"holdout": [benchmark("sums", 52)]}, "validation has problems of holdout"),
        (
            {"holdout": [benchmark("sums", 50)], "claims": [CLAIM | {"metric": "retention"}]},
            "needs a benchmark of holdout with retention",
        ),
        ({"settings": {"data.problems": datetime.date(2026, 1, 1)}}, "settings: .*not JSON serializable"),
    ],
)  # fmt: skip
def test_a_protocol_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    kept = {} if "claims" in changes or "arms" not in changes else {"claims": [{"says": "y", "a": "beta", "b": "base"}]}
    with pytest.raises(ConfigError, match=words):
        protocol(tmp_path, **kept, **changes)


def test_each_arm_has_the_same_budget_and_its_own_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every candidate for every arm, on the validation problems alone; then the hold-out problems, once on a term."""
    study, made = protocol(tmp_path), list[Any]()

    def run_arms(recipe: Any) -> Path:
        made.append(recipe)
        return tmp_path / str(len(made) - 1)

    def best_rate(arm: str, folders: dict[float, Path]) -> float:
        rates = {made[int(folder.name)].training.learning_rate for folder in folders.values()}
        assert rates == {1e-4, 2e-4}
        return 1e-4 if arm == "uniform" else 2e-4

    def costs(folder: Path) -> dict[str, Cost]:
        whole = {"uniform": Cost(20, 60), "beta": Cost(140, 60), "few": Cost(50, 60)}
        return {arm.name: whole[arm.name] for arm in made[int(folder.name)].arms}

    for name, value in (("run_arms", run_arms), ("best_rate", best_rate), ("costs", costs), ("claim", lambda: None)):
        monkeypatch.setattr(flow, name, value)
    trained = flow.study.fn(study)

    for recipe in made:
        validates = {b.name for b in recipe.evaluation.benchmarks} == {"validation"}
        assert recipe.seeds == ((9,) if validates else (7, 8))
        assert validates or {b.name for b in recipe.evaluation.benchmarks} == {"sums", "sorting"}
        assert [row.level for row in recipe.data.mix] == [1, 2]
        assert (recipe.rollouts.samples == 2) == ([arm.name for arm in recipe.arms] == ["few"])
    # 60 steps cost the dearest 200: 180 / 60 a step are left to uniform, 150 / 60 to few.
    steps = {"uniform": 180, "beta": 60, "few": 150}
    rates = {"uniform": 1e-4, "beta": 2e-4, "few": 2e-4}
    assert {(t.equal, t.arm): (t.rate, t.steps) for t in trained} == {
        **{("steps", arm): (rate, 60) for arm, rate in rates.items()},
        **{("cost", arm): (rate, steps[arm]) for arm, rate in rates.items()},
    }
    for student in trained:
        recipe = made[int(student.run)]
        assert student.arm in [arm.name for arm in recipe.arms]
        assert (recipe.training.learning_rate, recipe.training.steps) == (student.rate, student.steps)


def test_stage_2_keeps_its_share_of_more_steps(tmp_path: Path) -> None:
    study = protocol(tmp_path)
    (group,) = groups([study.arms[1]], {}, {"beta": 90})
    recipe = study.recipe_of(group, study.holdout, study.seeds)
    assert recipe.stages_of(recipe.arms[0]) == (54, 36, 2)  # 36 of 60 and 24 of 60 in the recipe


def test_equal_cost() -> None:
    assert equal_cost({"a": Cost(0, 10), "b": Cost(30, 20)}, {"a": 5, "b": 10}) == {"a": 25, "b": 10}


def claim(difference: float, low: float, high: float, above: float = 0.0) -> dict[str, Any]:
    return {"difference": difference, "low": low, "high": high, "above": above}


def test_what_decides_a_claim() -> None:
    """Its interval from the number that it names; all claims together."""
    alone = [claim(0.03, 0.005, 0.055), claim(-0.03, -0.055, -0.005), claim(0.01, -0.01, 0.03)]
    for one, word in zip(alone, ("holds", "does not hold", "undecided"), strict=True):
        assert decided([one])[0]["verdict"] == word
    assert decided([claim(-0.01, -0.015, -0.005, above=-0.02)])[0]["verdict"] == "holds"
    assert decided([claim(0.01, 0.005, 0.015, above=0.02)])[0]["verdict"] == "does not hold"
    together = decided([claim(0.03, 0.002, 0.058), *[claim(0.0, -1.0, 1.0)] * 9])
    assert together[0]["verdict"] == "undecided"  # by itself p is 0.036, of ten claims 0.36
    assert together[0]["p"] == pytest.approx(10 * decided([claim(0.03, 0.002, 0.058)])[0]["p"])


def test_effect_size() -> None:
    """Differences of 0.25 and 0.75 a seed: mean 0.5, standard deviation sqrt(0.125)."""
    right = {("a", 0): [2, 2], ("a", 1): [2, 1], ("b", 0): [2, 1], ("b", 1): [0, 0], ("base", 0): [1, 1]}
    rows = [(arm, seed, n, 2) for (arm, seed), counts in right.items() for n in counts]
    table = pd.DataFrame(rows, columns=["arm", "seed", "correct", "known"])
    assert effect_size(table, "a", "b") == pytest.approx(0.5 / 0.125**0.5)
    assert effect_size(table, "a", "base") == pytest.approx((0.5 + 0.25) / 2 / (0.25 / 2**0.5))
    assert effect_size(table[table["seed"] == 0], "a", "b") is None


def git(folder: Path, *words: str) -> None:
    about = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", str(folder), *about, *words], check=True, capture_output=True)


def test_a_protocol_is_committed_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "trial.yaml"
    file.write_text("a: 1\n")
    with pytest.raises(ConfigError, match="is not committed as it stands"):
        committed(file)
    git(tmp_path, "init", "-q")
    with pytest.raises(ConfigError, match="is not committed as it stands"):
        committed(file)
    git(tmp_path, "add", "trial.yaml")
    git(tmp_path, "commit", "-q", "-m", "protocol")
    commit = committed(file)
    assert abs((datetime.datetime.now(datetime.UTC) - commit.time).total_seconds()) < 3600
    (tmp_path / "other.yaml").write_text("b: 1\n")
    git(tmp_path, "add", "other.yaml")
    git(tmp_path, "commit", "-q", "-m", "something else")
    assert committed(file) == commit
    file.write_text("a: 2\n")
    with pytest.raises(ConfigError, match="is not committed as it stands"):
        committed(file)


def test_an_entry_needs_a_protocol_that_is_older_than_the_results(tmp_path: Path) -> None:
    study, noon = protocol(tmp_path), datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
    share = {"mean": 0.5, "low": 0.4, "high": 0.6}
    arms = [{"equal": "steps", "arm": "base", "accuracy": share, "retention": None}]
    arms += [arms[0] | {"arm": "beta", "rate": 2e-4, "steps": 60, "flops": 5.2e11}]
    about = {"equal": "steps", "says": "weights help", "a": "beta", "b": "uniform", "metric": "accuracy", "effect": 1.5}
    scores = pd.DataFrame({"benchmark": ["sums"] * 3, "problem_id": ["x", "y", "x"]})
    found = Study(arms, decided([about | claim(0.03, 0.01, 0.05)]), scores, noon, noon)
    text = entry(study, Path("trial.yaml"), found, Commit("c0ffee", noon - datetime.timedelta(seconds=1)))
    assert text.startswith("## 2026-11-30: study trial\n")
    assert "Protocol `trial.yaml`, commit c0ffee of 2026-11-30." in text
    row = "| steps | weights help | beta - uniform | accuracy | +0.0 | +3.0 | [+1.0, +5.0] | +1.5 | 0.003 | holds |"
    assert row in text
    assert "| steps | beta | 0.0002 | 60 | 520 G | 50.0 | 40.0-60.0 | - |  |" in text
    with pytest.raises(ConfigError, match="it may have been written after a look at them"):
        entry(study, Path("trial.yaml"), found, Commit("c0ffee", noon + datetime.timedelta(seconds=1)))
    assert "(draft)" in entry(study, Path("trial.yaml"), found, None)
    assert "weights help" in report.text(found)
