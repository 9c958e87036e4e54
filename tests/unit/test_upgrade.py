"""What earlier releases have left, read by this one: tests/upgrade holds what they wrote.

``schedules.json``: parameters of a schedule of *distill*, by the first release (f3d0eab), and of one of *retrain*;
``home``: a run that failed, its artifacts, and the ledger of a retraining. The latter by 4c40927.
"""

import copy
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, TINY

from paced.config import Recipe, Retraining
from paced.config.base import JsonObject
from paced.config.label import Label
from paced.config.reading import checked, load_recipe
from paced.config.upgrade import VERSION, upgraded
from paced.data.watched import Ledger
from paced.errors import ConfigError
from paced.report import read, write_summary
from paced.storage.artifacts import read_manifest
from paced.storage.runs import read_recipe
from paced_deployments.definitions import sections

LEFT = ROOT / "tests" / "upgrade"


@pytest.fixture
def kept() -> dict[str, JsonObject]:
    """The schedules' parameters."""
    return json.loads((LEFT / "schedules.json").read_text())


def test_a_schedule_of_the_first_release(kept: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Renamed fields are read, each with a warning that says what to write; the form it was for takes a name today."""
    given = copy.deepcopy(kept["distill"])
    with caplog.at_level(logging.WARNING, "paced"):
        recipe = sections(given, short=False)["recipe"]
    assert isinstance(recipe, Recipe) and recipe.recipe_version == VERSION
    assert {recipe.data.source, recipe.evaluation.benchmarks[0].data.source} == {"table"}
    assert recipe.training.learning_rate == given["recipe"]["training"]["learning_rate"]
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0].partition(" ")[0] for line in told] == [
        "data.source", "evaluation.benchmarks.0.data.source", "answers.mass", "answers.max_entries",
    ]  # fmt: skip
    assert all(line.endswith("the next release will refuse it") for line in told)
    assert given == kept["distill"]
    with pytest.raises(ConfigError, match="the deployment distill-advanced takes a whole one"):
        sections(given, short=True)


def test_a_schedule_of_a_retraining(kept: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "paced"):
        found = sections(kept["retrain"], short=False)
    retraining = found["retraining"]
    assert isinstance(retraining, Retraining) and retraining.watch == "incoming"
    assert caplog.records == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"recipe_version": VERSION}, "data.source: "),  # names of today, so that an old one is a mistake
        ({"recipe_version": VERSION + 1}, f"recipe_version {VERSION + 1} is of a later release"),
        ({"recipe_version": "x"}, "recipe_version: "),
        ({"recipe_version": 0}, "recipe_version: "),
        ({"answers": {"mass": 0.9}}, "answers.mass: unknown key"),  # it meant something, and nothing does today
    ],
)
def test_what_is_not_read(kept: dict[str, Any], changes: JsonObject, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        checked(Recipe, kept["distill"]["recipe"] | changes, "recipe")


@pytest.mark.parametrize("tree", [None, [], "x", {}, {"data": 3, "answers": [], "evaluation": {"benchmarks": {}}}])
def test_what_is_no_recipe_is_left_for_others_to_refuse(tree: Any) -> None:
    found, told = upgraded(tree)
    assert told == [] and (found == tree or found == tree | {"recipe_version": VERSION})


def test_the_version_is_no_setting() -> None:
    """A run keeps its name and its identities when a recipe is rewritten in the names of today."""
    recipe = load_recipe(TINY)
    assert "recipe_version" not in recipe.settings()
    assert "recipe_version: 2" in TINY.read_text() and recipe.recipe_version == VERSION


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home, in another place than where it was made."""
    shutil.copytree(LEFT / "home", tmp_path / "home")
    return tmp_path / "home"


def test_a_run_and_its_artifacts(home: Path) -> None:
    (folder,) = (home / "runs").iterdir()
    assert read_recipe(folder).data.problems == 4
    run, made = read(folder)
    assert (run.status, set(made)) == ("failed", {Label(benchmark="sorting"), Label(seed=0, step="prepare")})
    for stage in made.values():
        place = home / "artifacts" / "prepare" / Path(stage.entry.path).name
        assert read_manifest(place).identity == stage.entry.identity
        assert stage.file("problems.parquet").is_file()
    assert [s["name"] for s in write_summary(folder)["stages"]] == ["benchmark/sorting", "0/prepare"]


def test_a_ledger(home: Path) -> None:
    """What was promoted is done with; what was not is in the pool, and is trained on again."""
    ledger = Ledger(home / "retrain" / "tiny" / "ledger.json")
    assert ledger.has("a" * 64) and ledger.has("b" * 64)
    assert ledger.has_mark("incoming/week1.jsonl", "1764000000.0-120")
    assert [file.name for file in ledger.pool(days=36_500)] == ["incoming/week2.jsonl"]
    assert ledger.problems == set()
