"""What a retraining decides of a challenger and notes of it, with MLflow's own store; training itself is left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paced.config import Recipe, Retraining
from paced.config.reading import load_recipe
from paced.data.watched import Taken
from paced.evaluation.promotion import Condition, Look, better
from paced_flows import retrain
from paced_flows.challenger import Gate
from paced_tasks.journal import PARENT, Journal
from paced_tasks.notify import Event
from paced_tasks.registry import Registry
from paced_tasks.run import run_name

pytestmark = pytest.mark.slow

TINY = Path(__file__).parents[2] / "recipes" / "tiny.yaml"


class Trained:
    """Stands for the flow 'distill': each set of files gives a version, whose gain is 2.6 standard errors."""

    def __init__(self, registry: Registry):
        self.registry, self.model, self.made = registry, registry.home / "model", 0
        self.model.mkdir()
        (self.model / "config.json").write_text("{}")

    def distill(self, trial: Recipe, gate: Gate) -> dict[str, Any]:
        self.made += 1
        journal = Journal(self.registry.home / "runs" / run_name(trial), PARENT)
        journal.begin({}, {})
        journal.model(self.model, trial.name, {"identity": f"sha256:{self.made}"}, "", {})
        return {"stages": [{"name": f"{trial.arms[0].name}/0/train_forward", "identity": f"sha256:{self.made}"}]}

    def conditions(self, *arguments: Any) -> list[Condition]:
        here: Look = arguments[-1]
        return [better("arithmetic", 0.013 + 0.1 * np.tile([-1.0, 1.0], 200), here)]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = Registry(tmp_path, "tiny")
    trained = Trained(registry)
    monkeypatch.setattr(retrain, "train_challenger", trained.distill)
    monkeypatch.setattr(retrain, "conditions", trained.conditions)
    return registry


def challenged(registry: Registry, week: int, **settings: object) -> Event:
    folder = registry.folder / "data" / str(week)
    folder.mkdir(parents=True)
    taken = Taken(folder, f"sha256:week{week}", (), 0, (), ())
    retraining = Retraining.model_validate({"watch": "in"} | settings)
    return retrain.challenge(load_recipe(TINY), retraining, registry, registry.champion(), taken)


def test_a_decision_says_its_look_and_may_wait_for_a_person(registry: Registry) -> None:
    first = challenged(registry, 1, approval=True)
    assert (first.event, first.champion, first.challenger) == ("passed", None, 1)
    waits = "version 1 may take the place of the recipe's student and waits for 'paced promote tiny 1': arithmetic +1.3"
    assert first.message.startswith(f"tiny: {waits}")
    assert first.message.endswith("at 98.89%; look 1")
    assert registry.champion() is None
    second = challenged(registry, 2)  # as good, but at the second look that is not enough
    assert (second.event, second.champion, second.challenger) == ("kept", None, 2)
    assert second.message.startswith("tiny: version 2 does not become the first champion, it is not better for sure: ")
    assert second.message.endswith("at 99.11%; look 2")
    assert second.figures["arithmetic"]["level"] == pytest.approx(1 - 2 * 0.05 * 8 / 90)
    tags = {n: v.tags for n, v in registry.versions().items()}
    assert [(t["decision"], t["look"], t["level"]) for t in tags.values()] == [
        ("passed", "1", "0.988889"), ("kept", "2", "0.991111"),
    ]  # fmt: skip
    assert registry.approve(1).number == 1
    champion = registry.champion()
    assert champion
    assert (champion.number, champion.tags["decision"], champion.tags["files"]) == (1, "promoted", "sha256:week1")


def test_each_look_by_itself(registry: Registry) -> None:
    assert challenged(registry, 1, false_promotions=None, approval=True).message.endswith("at 95%; look 1")
    event = challenged(registry, 2, false_promotions=None)
    assert (event.event, event.champion) == ("promoted", 2)
    assert event.message.startswith("tiny: version 2 takes the place of the recipe's student: arithmetic +1.3 points")
    assert [move.reason for move in registry.history()] == [event.message]
