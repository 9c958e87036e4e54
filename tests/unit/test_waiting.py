"""Files that wait: too few new problems for a challenger. Nothing is asked of MLflow, and nothing is noted."""

import json
from pathlib import Path

import pytest

from paced.config import Retraining
from paced.config.reading import load_recipe
from paced_flows.retrain import attempt
from paced_tasks.notify import Event
from paced_tasks.registry import Registry

TINY = Path(__file__).parents[2] / "recipes" / "tiny.yaml"


def looked(home: Path, **settings: object) -> Event:
    recipe = load_recipe(TINY)
    retraining = Retraining.model_validate({"watch": str(home / "in"), "settle": 0} | settings)
    return attempt(recipe, retraining, Registry(home, recipe.name))


def test_small_weeks_wait_and_are_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for week, numbers in enumerate((range(10, 14), range(12, 16)), 1):
        lines = [json.dumps({"question": f"{number}+5="}) for number in numbers]
        (tmp_path / "in" / f"week{week}.jsonl").write_text("\n".join(lines) + "\n")
        event = looked(tmp_path, least_problems=7)
        problems = {1: 4, 2: 6}[week]  # two problems are in both weeks
        assert event.event == "waiting"
        assert f"{week} new files in {tmp_path / 'in'} with {problems} new problems, of at least 7" in event.message
        assert len(event.files) == week
    assert not (tmp_path / "retrain" / "tiny" / "ledger.json").exists()
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ValueError, match="least_problems"):
        looked(tmp_path, least_problems=0)
