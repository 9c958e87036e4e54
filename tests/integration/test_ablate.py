"""An ablation of 3 weightings x 2 seeds: what it pays, what it says, and what MLflow holds of it."""

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import yaml
from harness import SMALL, Finished, finished, paced, told
from mlflow import MlflowClient

from paced.config.grid import grid
from paced.config.reading import load_recipe
from paced.errors import ConfigError
from paced.storage.files import read_record
from paced_tasks.journal import PARENT

SCHEMES, SEEDS = ("beta", "uniform", "hard_filter"), (0, 1)
AXES = ("schemes", "schedules", "seeds", "exponents", "losses")
ARMS = tuple(f"{scheme}_forward" for scheme in SCHEMES)
TINY = Path(__file__).parents[2] / "recipes" / "tiny.yaml"


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory, prefect: Mapping[str, str]) -> Finished:
    """Two stages at once, so that arms that want the same answer want it at the same time."""
    home = tmp_path_factory.mktemp("ablation") / "home"
    changes = [word for a in SMALL if not a.startswith(("arms", "seeds")) for word in ("--set", a)]
    grid = ["--schemes", ",".join(SCHEMES), "--seeds", ",".join(map(str, SEEDS))]
    words = ["ablate", str(TINY), *grid, *changes, "--set", "runtime.processes=2"]
    return finished(home, paced(home, *words, env=prefect))


def table(run: Finished, label: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(Path(run.stages[label]["path"]) / name)


def test_each_rollout_and_each_teacher_token_is_paid_once(ablation: Finished) -> None:
    stored = {
        kind: pd.concat(pd.read_parquet(p) for p in ablation.home.glob(f"store/{kind}/*/*.parquet"))
        for kind in ("samples", "targets")
    }
    for rows in stored.values():
        assert Counter(rows["sample_key"]).most_common(1)[0][1] == 1

    for seed in SEEDS:
        assert ablation.stages[f"{seed}/rollouts"]["counts"]["computed"] == 800  # 100 problems x 8, for all three arms
    answers = {(arm, seed): ablation.stages[f"{arm}/{seed}/teacher"]["counts"] for arm, seed in product(ARMS, SEEDS)}
    wanted: dict[str, int] = {}
    for arm, seed in answers:
        kept = table(ablation, f"{arm}/{seed}/teacher", "answers.parquet")
        wanted |= dict(zip(kept["sample_key"], kept["tokens"], strict=True))
    asked = {  # every problem that any arm gives weight to, by seed
        (seed, problem)
        for arm, seed in answers
        for problem in table(ablation, f"{arm}/{seed}/weights", "pass_rates.parquet").query("weight > 0")["problem_id"]
    }
    assert sum(c["computed"] for c in answers.values()) == len(asked)
    assert sum(c["reused"] for c in answers.values()) == sum(c["samples"] for c in answers.values()) - len(asked) > 0
    samples = stored["samples"].set_index("sample_key")["tokens"]
    assert {key: int(samples[key]) for key in wanted} == wanted
    assert ablation.numbers()["arms"]["beta_forward"]["teacher_tokens"] < sum(wanted.values())


def test_arms_differ_in_their_weights_alone(ablation: Finished) -> None:
    for arm, seed in product(ARMS, SEEDS):
        assert ablation.stages[f"{arm}/{seed}/train_forward"]["counts"]["steps"] == 8
    weights = {arm: table(ablation, f"{arm}/0/weights", "pass_rates.parquet") for arm in ARMS}
    p = weights["beta_forward"]["pass_rate"]
    assert (weights["beta_forward"]["raw_weight"] - p * (1 - p)).abs().max() < 1e-12
    assert set(weights["uniform_forward"]["raw_weight"]) == {1.0}
    assert (weights["hard_filter_forward"]["raw_weight"] == ((p >= 0.2) & (p <= 0.8))).all()


def test_the_summary_is_that_of_the_scores(ablation: Finished) -> None:
    """Means, gains and counts worked out again from the students' verdicts."""

    def rates(label: str) -> pd.Series:
        scores = table(ablation, f"{label}/evaluate", "scores.parquet")
        scores = scores[(scores["benchmark"] == "arithmetic") & (scores["verdict"] != "unknown")]
        return (scores["verdict"] == "correct").groupby(scores["problem_id"]).mean()

    base = rates("base")
    summary = ablation.numbers()
    assert set(summary["arms"]) == {"base", *ARMS}
    assert summary["arms"]["base"]["accuracy"]["mean"] == pytest.approx(base.mean(), abs=1e-8)
    gains = {c["a"]: c for c in summary["comparisons"] if c["b"] == "base" and c["metric"] == "accuracy"}
    for arm in ARMS:
        seeds = pd.DataFrame({seed: rates(f"{arm}/{seed}") for seed in SEEDS})
        accuracy = summary["arms"][arm]["accuracy"]
        assert accuracy["mean"] == pytest.approx(seeds.to_numpy().mean(), abs=1e-8)
        assert accuracy["low"] <= accuracy["mean"] <= accuracy["high"]
        assert (accuracy["problems"], accuracy["samples"], accuracy["seeds"]) == (48, 96, 2)
        difference = seeds.sub(base, axis=0).to_numpy().mean()
        assert gains[arm]["difference"] == pytest.approx(difference, abs=1e-8)
        assert gains[arm]["low"] <= difference + 1e-8
        assert gains[arm]["high"] >= difference - 1e-8


def test_what_mlflow_holds(ablation: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """One parent with a table and a picture, a child for each student, and no model registered for a grid."""
    uri = f"sqlite:///{ablation.home / 'mlflow' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # load_table asks for runs there
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("paced")
    assert experiment
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    labels = {r.data.tags["paced.label"]: r for r in runs}
    assert len(labels) == len(runs)
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert [r.data.tags["paced.label"] for r in parents] == [PARENT]
    parent = parents[0]
    assert parent.data.tags["paced.flow"] == "ablate"
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} >= {"arms.json", "students.json", "accuracy.png"}

    tables = json.loads(parent.data.tags["mlflow.loggedArtifacts"])
    assert {t["path"] for t in tables} == {"arms.json", "students.json"}
    shown = client.load_table(experiment.experiment_id, "arms.json", [parent.info.run_id]).set_index("arm")
    assert list(shown.index) == ["base", *ARMS]
    for arm, row in shown.iterrows():
        accuracy = ablation.summary["arms"][arm]["accuracy"]
        for name, key in (("accuracy", "mean"), ("accuracy_low", "low"), ("accuracy_high", "high")):
            assert row[name] == pytest.approx(accuracy[key])
            assert parent.data.metrics[f"{arm}/{name}"] == pytest.approx(accuracy[key])

    for arm, seed in product(ARMS, SEEDS):
        student = labels[f"{arm}/{seed}"]
        assert (student.data.params["scheme"], student.data.params["seed"]) == (arm.removesuffix("_forward"), str(seed))
        assert ("weights.alpha" in student.data.params) == (arm == "beta_forward")
        steps = client.get_metric_history(student.info.run_id, "train_forward/loss")
        assert sorted(m.step for m in steps) == list(range(1, 9))
        scores = table(ablation, f"{arm}/{seed}/evaluate", "scores.parquet").query("benchmark == 'arithmetic'")
        assert student.data.metrics["accuracy"] == pytest.approx((scores["verdict"] == "correct").mean())
        assert student.info.run_id in parent.data.tags["mlflow.note.content"]
    assert client.search_registered_models() == []


def test_the_same_ablation_again(ablation: Finished, prefect: Mapping[str, str]) -> None:
    client = MlflowClient(f"sqlite:///{ablation.home / 'mlflow' / 'mlflow.db'}")
    before = len(client.search_runs(["1"], max_results=100))
    changes = [word for a in SMALL if not a.startswith(("arms", "seeds")) for word in ("--set", a)]
    words = ["ablate", str(TINY), "--seeds", "0,1", *changes, "--set", "runtime.processes=2"]
    again = finished(ablation.home, paced(ablation.home, *words, env=prefect))
    assert again.folder == ablation.folder
    assert all(stage["cached"] for stage in again.stages.values())
    assert again.numbers() == ablation.numbers()
    assert len(client.search_runs(["1"], max_results=100)) == before


def test_a_study_of_what_the_ablation_trained(
    ablation: Finished, tmp_path: Path, prefect: Mapping[str, str]
) -> None:
    """Nothing is computed anew, claims follow from the verdicts, scores older than the protocol are refused."""
    settings = dict(assignment.split("=", 1) for assignment in SMALL if not assignment.startswith(("arms", "seeds")))
    tree = yaml.safe_load(TINY.read_text().replace("${package}", str(TINY.parents[1] / "paced")))
    for benchmark, problems in zip(tree["evaluation"]["benchmarks"], (48, 16), strict=True):
        benchmark["data"]["problems"] = problems
    protocol = {
        "name": "late", "question": "Does it help?", "recipe": str(tmp_path / "tiny.yaml"), "seeds": list(SEEDS),
        "settings": {k: yaml.safe_load(v) for k, v in settings.items() if not k.startswith("evaluation.benchmarks")},
        "holdout": tree["evaluation"]["benchmarks"],
        "arms": [{"name": scheme, "scheme": scheme, "schedule": "forward"} for scheme in SCHEMES],
        "claims": [
            {"says": "better", "a": "beta", "b": "uniform"},
            {"says": "forgets little", "a": "beta", "b": "base", "metric": "retention", "above": -0.5},
        ],
    }  # fmt: skip
    file = tmp_path / "late.yaml"
    file.write_text(yaml.safe_dump(protocol))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    refused = told(ablation.home, "study", str(file))
    assert refused.status == 1 and "is not committed as it stands" in refused.err
    assert not (ablation.home / "studies").exists()
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "late")):
        about = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *about, *words], cwd=tmp_path, check=True)

    outcome = paced(ablation.home, "study", str(file), env=prefect)
    assert outcome.status == 1 and "it may have been written after a look at them" in outcome.err
    (folder,) = (ablation.home / "studies").iterdir()
    assert {path.name for path in folder.iterdir()} == {"study.json", "study_late.png", "late.parquet"}
    found = read_record(folder / "study.json")
    stages = read_record(ablation.home / "runs" / found["trained"][0]["run"] / "run.json")["stages"]
    assert all(stage["cached"] for stage in stages if stage["label"] not in ("preflight", "compare"))

    scores = pd.read_parquet(folder / "late.parquet")
    means = (scores["correct"] / scores["known"]).groupby([scores["arm"], scores["benchmark"]]).mean()
    assert scores.groupby("arm")["seed"].nunique().to_dict() == {"base": 1, **dict.fromkeys(SCHEMES, 2)}
    better, little = found["claims"]
    summary = ablation.numbers()["arms"]
    for arm in SCHEMES:
        assert means[arm, "arithmetic"] == pytest.approx(summary[f"{arm}_forward"]["accuracy"]["mean"], abs=1e-8)
    assert better["difference"] == pytest.approx(means["beta", "arithmetic"] - means["uniform", "arithmetic"], abs=1e-8)
    assert little["difference"] == pytest.approx(means["beta", "sorting"] - means["base", "sorting"], abs=1e-8)
    counts = {row["arm"]: row for row in found["arms"]}
    preflight = json.loads((Path(ablation.stages["preflight"]["path"]) / "preflight.json").read_text())
    student, teacher = (preflight[role]["parameters"] for role in ("student", "teacher"))
    for arm in SCHEMES:
        spent = summary[f"{arm}_forward"]
        flops = student * (2 * spent["sampled_tokens"] + 6 * spent["train_tokens"])
        flops += 4 * teacher * spent["teacher_tokens"]
        assert counts[arm]["flops"] == pytest.approx(flops)
    assert (better["seeds"], better["problems"], little["problems"]) == (2, 48, 16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("beta,softmax", "forward", "0", ""), "schemes: there is no 'softmax'; there are: beta, uniform, hard_filter"),
        (("beta", "sideways", "0", ""), "schedules: there is no 'sideways'"),
        ((",", "forward", "0", ""), "schemes: the grid is empty"),
        (("beta", "forward", ",", ""), "seeds: the grid is empty"),
        (("beta,beta", "forward", "0", ""), "schemes: beta is there twice"),
        (("beta", "forward", "1,1", ""), "seeds: 1 is there twice"),
        (("beta", "forward", "x", ""), "--seeds: 'x' is no number"),
        (("beta", "forward", "0", "1:1,1:1"), "exponents: .1.0, 1.0. is there twice"),
        (("uniform", "forward", "0", "1:1"), "exponents: they have no effect without scheme beta"),
        (("beta", "forward", "0", "2"), "--exponents: '' is no number"),
        (("beta", "forward", "0", "", "kl"), "losses: there is no 'kl'; there are: forward_kl, reverse_kl, jsd, akl"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    options = (f"--{name}={value}" for name, value in zip(AXES, arguments, strict=False))
    outcome = told(tmp_path / "home", "ablate", str(TINY), *options)
    assert outcome.status == 1
    (line,) = outcome.err.splitlines()
    assert pd.Series([line]).str.contains(words).all(), line
    assert not (tmp_path / "home" / "runs").exists()


def test_exponents_are_arms_of_their_own() -> None:
    recipe = grid(load_recipe(TINY), ("beta", "uniform"), ("forward", "two_stage"), (3,), ((1.0, 1.0), (2.0, 0.5)))
    assert [arm.name for arm in recipe.arms] == [
        "beta_1_1_forward", "beta_2_0p5_forward", "uniform_forward",
        "beta_1_1_two_stage", "beta_2_0p5_two_stage", "uniform_two_stage",
    ]  # fmt: skip
    chosen = recipe.weights_of(recipe.arms[1])
    assert (chosen.alpha, chosen.beta, chosen.normalise) == (2.0, 0.5, recipe.weights.normalise)
    assert (recipe.name, recipe.seeds) == ("tiny-ablation", (3,))
    with pytest.raises(ConfigError, match=r"arms.0.exponents.0: Input should be greater than or equal to 0"):
        grid(load_recipe(TINY), ("beta",), ("forward",), (0,), ((-1.0, 1.0),))


def test_losses_are_arms_of_their_own() -> None:
    recipe = grid(load_recipe(TINY), ("beta", "uniform"), ("two_stage",), (0,), (), ("akl", "reverse_kl"))
    assert {arm.name: arm.loss for arm in recipe.arms} == {
        "beta_akl_two_stage": "akl", "beta_reverse_kl_two_stage": "reverse_kl",
        "uniform_akl_two_stage": "akl", "uniform_reverse_kl_two_stage": "reverse_kl",
    }  # fmt: skip
