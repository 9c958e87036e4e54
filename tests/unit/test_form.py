"""The short form: what it stands for, what it offers, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from paced.config import Recipe
from paced.config.reading import load_recipe
from paced.errors import ConfigError
from paced_flows.form import distill_form, recipe_of, recipes

SCHEMA = parameter_schema(distill_form)
TINY = ROOT / "recipes" / "tiny.yaml"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACED_HOME", str(tmp_path))
    return tmp_path


def value(recipe: Recipe, path: str) -> Any:
    found: Any = recipe.model_dump()
    for name in path.split("."):
        found = found[name]
    return found


def test_what_is_left_empty_is_the_recipes() -> None:
    empty = {name: about["default"] for name, about in SCHEMA.properties.items() if name != "recipe"}
    assert recipe_of({"recipe": "tiny"} | empty) == recipe_of({"recipe": "tiny"}) == load_recipe(TINY)


@pytest.mark.parametrize(
    ("field", "given", "path", "expected"),
    [
        ("student", "models/a: b", "student.path", "models/a: b"),
        ("teacher", "models/b", "teacher.path", "models/b"),
        ("seeds", [4, 5], "seeds", (4, 5)),
        ("steps", 90, "training.steps", 90),
        ("learning_rate", 1e-6, "training.learning_rate", 1e-6),
        ("exponents", [2.0, 1.0], "weights.alpha", 2.0),
        ("exponents", [1.0, 0.0], "weights.beta", 0.0),
        ("samples", 16, "rollouts.samples", 16),
        ("changes", ["training.batch=64"], "training.batch", 64),
    ],
)
def test_every_field_changes_its_setting_alone(field: str, given: Any, path: str, expected: Any) -> None:
    plain, changed = load_recipe(TINY), recipe_of({"recipe": "tiny", field: given})
    assert value(changed, path) == expected != value(plain, path)
    assert changed == load_recipe(TINY, (f"{path}={json.dumps(expected)}",))


def test_data_and_arms() -> None:
    made = recipe_of({"recipe": "qwen3_14b_to_8b", "data": "d.jsonl", "arms": ["uniform_forward", "beta_two_stage"]})
    assert made.data.path == "d.jsonl"
    assert [(a.name, a.scheme, a.schedule) for a in made.arms] == [
        ("uniform_forward", "uniform", "forward"), ("beta_two_stage", "beta", "two_stage"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"recipe": "tinny"}, "recipe: there is no 'tinny'; there are: .*tiny"),
        ({"recipe": "tiny", "arms": ["beta"]}, "arms: there is no 'beta'; there are: beta_forward, "),
        ({"recipe": "tiny", "data": "d.jsonl"}, "data: .*path"),
        ({"recipe": "tiny", "changes": ["training.stps=3"]}, "training.stps: unknown key"),
        ({"recipe": "tiny", "exponents": [2.0]}, "exponents: alpha and beta are two numbers, got 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(form: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        recipe_of(form)


def test_the_list_has_what_comes_with_paced_and_the_owners_own(home: Path) -> None:
    def offered() -> list[str]:
        return parameter_schema(distill_form).properties["recipe"]["enum"]

    shipped = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    assert set(offered()) == shipped
    (home / "recipes").mkdir()
    (home / "recipes" / "ours.yaml").write_text(TINY.read_text())
    assert set(offered()) == shipped | {"ours"}
    assert recipes()["ours"] == home / "recipes" / "ours.yaml"


def test_a_form_left_as_it_is_is_a_good_one() -> None:
    """Prefect sends what a form shows: each default is of its field's type. Each field says what it is."""
    filled = {"recipe": "tiny"} | {n: about["default"] for n, about in SCHEMA.properties.items() if n != "recipe"}
    validate(filled, SCHEMA.model_dump(), raise_on_error=True)
    assert all(about["description"] and "anyOf" not in about for about in SCHEMA.properties.values())


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("recipe", "tinny"), ("steps", -1), ("learning_rate", -1), ("exponents", [1, 2, 3]), ("exponents", [-1, 1]),
        ("arms", ["beta"]), ("changes", ["training.batch"]), ("changes", ["data.path=s3://me:secret@bucket/data"]),
        ("student", "https://me:secret@host/model"),
    ],
)  # fmt: skip
def test_the_server_refuses_it_with_its_path(field: str, given: Any) -> None:
    with pytest.raises(ValidationError, match=f"Validation failed for field '{field}"):
        validate({"recipe": "tiny", field: given}, SCHEMA.model_dump(), raise_on_error=True)
