"""Protocols of studies in small: what their arms' own settings change, and that nothing else changes.

Their arms are trained as a study trains them, but stage by stage in this process, without Prefect.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from harness import SMALL, TINY

from paced.batching import draws
from paced.config.label import Label
from paced.config.reading import load_recipe
from paced.config.study import groups, load_protocol
from paced.stage import execute
from paced.storage.artifacts import Ref, read_manifest
from paced.weighting import misjudged
from paced_flows.distill import add_arms
from paced_tasks.run import Run

SMALLER = (*SMALL, "data.problems=40")


class Here:
    """Runs each stage in this process, as it is added, but those that judge.

    Attributes:
        refs: artifacts by label.
    """

    def __init__(self, run: Run):
        self.run, self.refs = run, dict[str, Ref]()

    def add(self, task: Any, label: Label, after: object = (), **arguments: Any) -> Any:
        if label.step in ("evaluate", "compare"):
            return None
        spec = task.cache_policy.build(self.run, str(label), **arguments)
        self.refs[str(label)] = execute(spec, lambda event: None)
        return self.refs[str(label)]

    def first(self, task: Any, label: Label, **arguments: Any) -> None:
        """No preflight: every recipe here is that of the tiny world."""

    def inputs(self, label: str) -> dict[str, str]:
        return read_manifest(self.refs[label].folder).inputs

    def table(self, label: str, file: str) -> pd.DataFrame:
        return pd.read_parquet(self.refs[label].folder / file)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests find what they have in common, the rollouts above all."""
    return tmp_path_factory.mktemp("protocols")


def in_small(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """An arm for each setting and schedule of those arms that have settings of their own, on one seed."""
    monkeypatch.chdir(TINY.parents[1])
    whole, small = load_protocol(Path(f"benchmarks/studies/{name}.yaml")), load_recipe(TINY, SMALLER)
    kept = [a.partition("=") for a in SMALLER if not a.startswith(("arms", "seeds", "evaluation.benchmarks"))]
    settings = {key: yaml.safe_load(value) for key, _, value in kept} | whole.settings
    protocol = whole.model_copy(update={"settings": settings})
    arms = {json.dumps([arm.settings, arm.schedule]): arm for arm in reversed(whole.arms) if arm.settings}
    found = Here(Run(name=name, home=str(home), recipe=small))
    for group in groups(arms.values(), {}, {}):
        recipe = protocol.recipe_of(group, small.evaluation.benchmarks, (0,))
        stages = Here(found.run.model_copy(update={"recipe": recipe}))
        add_arms(stages)
        assert not found.refs or stages.refs["0/rollouts"] == found.refs["0/rollouts"]
        found.refs |= stages.refs
    return found


def test_verdicts_are_reversed_for_the_weights_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = in_small("verifier_noise", home, monkeypatch)
    rollouts = found.table("0/rollouts", "rollouts.parquet")
    for arm, share in (("beta_2", 0.02), ("beta_5", 0.05)):
        wrongly = np.array([misjudged(key, share) for key in rollouts["sample_key"]])
        assert wrongly.any()
        correct = (rollouts["verdict"] == "correct") ^ (wrongly & (rollouts["verdict"] != "unknown"))
        expected = correct.groupby(rollouts["problem_id"]).sum()
        weights = found.table(f"{arm}/0/weights", "pass_rates.parquet").set_index("problem_id")
        assert (weights["correct"] == expected[weights.index]).all()
    assert set(found.table("beta_5/0/teacher", "answers.parquet")["verdict"]) == {"correct"}


def test_pass_rates_are_estimated_when_the_protocol_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round learns by the latest weights, and these come from the student as it was then."""
    found = in_small("re_estimation", home, monkeypatch)
    again = [f"reweight_{r}" for r in (1, 2, 3)]
    by_round = {
        "fixed": ["weights"] * 4,
        "each_round": ["reweight", *again],
        "reverse_each_round": ["weights", *again],
    }
    for arm, steps in by_round.items():
        labels = {label.removeprefix(f"{arm}/0/") for label in found.refs if label.startswith(f"{arm}/0/reweight")}
        assert labels == set(steps) - {"weights"}
        for r, step in enumerate(steps):
            for reader in (f"sample_{r}", f"train_reverse_{r}"):
                assert found.inputs(f"{arm}/0/{reader}")["weights"] == found.refs[f"{arm}/0/{step}"].identity
            if step != "weights":
                before = f"train_reverse_{r - 1}" if r else "train_forward"
                sampled = found.inputs(f"{arm}/0/{step.replace('reweight', 'rescore')}")
                assert sampled["model"] == found.refs[f"{arm}/0/{before}"].identity


def test_weights_decide_what_is_drawn(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = in_small("weight_or_probability", home, monkeypatch)
    for stage in ("probability/0/train_forward", "reverse_probability/0/train_reverse_0"):
        lines = (found.refs[stage].folder / "metrics.jsonl").read_text().splitlines()
        counted = [json.loads(line)["mean_weight"] for line in lines]
        assert counted == pytest.approx([1.0] * len(lines), rel=0.2)  # not 1 where the teacher has not answered all
        assert len(set(counted)) == 1
    kept = found.table("reverse_probability/0/weights", "pass_rates.parquet").query("weight > 0")
    ids, weights = kept["problem_id"].tolist(), kept["weight"].to_numpy()
    sampled = set(found.table("reverse_probability/0/sample_0", "rollouts.parquet")["problem_id"])
    # The first of two rounds: 4 of 8 steps of 8 problems.
    assert sampled == {ids[item] for item, _ in draws(len(ids), 0, 0, 32, weights)}
    assert sampled != {ids[item] for item, _ in draws(len(ids), 0, 0, 32)}
