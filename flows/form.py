"""The short form of a distillation: a recipe by its name, and what people change of it most."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import flow_run
from pydantic import Field, GetJsonSchemaHandler, JsonValue, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

import paced_recipes
from paced.config import Recipe, home
from paced.config.base import NO_PASSWORD, JsonObject, Place
from paced.config.catalog import SCHEDULES, WEIGHTINGS
from paced.config.grid import arms_of
from paced.config.reading import load_recipe
from paced.errors import ConfigError
from paced.storage.runs import RunSummary
from paced_flows.distill import title_of, train_arms
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.pipeline import Pipeline
from paced_tasks.reason import paced_flow, with_figures
from paced_tasks.run import open_run

RECIPES = "recipes"  # folder of a home with recipes of its owner's
ARMS: Mapping[str, JsonObject] = {
    str(arm["name"]): arm
    for scheme in WEIGHTINGS
    for schedule in SCHEDULES
    for arm in arms_of((scheme,), schedule, (), ())
}


def recipes() -> dict[str, Path]:
    """The recipes that the form offers, by name: those that come with paced, and those in the home's ``recipes/``."""
    folders = [*map(Path, paced_recipes.__path__), home() / RECIPES]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


class Offered:
    """Marks the field of the form that lists the recipes there are when the form is made."""

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "enum": list(recipes())}


Name = Annotated[str, Offered()]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0)]
Arms = Annotated[list[str], WithJsonSchema({"type": "array", "items": {"type": "string", "enum": list(ARMS)}})]
Exponents = Annotated[list[Rate], Field(max_length=2)]
Changes = Annotated[
    list[str], WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": rf"{NO_PASSWORD}[\w.]+=.*$"}})
]


def recipe_of(form: Mapping[str, Any]) -> Recipe:
    """The recipe that a filled form stands for.

    Raises:
        ConfigError: there is none of its name, or what is changed of it is refused, with the path of the field.
    """
    known, name = recipes(), form["recipe"]
    if name not in known:
        raise ConfigError(
            f"recipe: there is no {name!r}; there are: {', '.join(known)} (add yours to {home() / RECIPES})"
        )
    alpha, beta = alpha_and_beta(form.get("exponents") or ())
    fields: dict[str, JsonValue] = {
        "student.path": form.get("student") or None,
        "teacher.path": form.get("teacher") or None,
        "data.path": form.get("data") or None,
        "arms": [arm_named(name) for name in form.get("arms") or ()] or None,
        "seeds": form.get("seeds") or None,
        "training.steps": form.get("steps") or None,
        "training.learning_rate": form.get("learning_rate") or None,
        "weights.alpha": alpha,
        "weights.beta": beta,
        "rollouts.samples": form.get("samples") or None,
    }
    changes = [f"{path}={json.dumps(value)}" for path, value in fields.items() if value is not None]
    return load_recipe(known[name], (*changes, *(form.get("changes") or ())))


def alpha_and_beta(given: Sequence[float]) -> tuple[float | None, float | None]:
    """Alpha and beta, if they are given.

    Raises:
        ConfigError: only one is.
    """
    if not given:
        return None, None
    if len(given) != 2:
        raise ConfigError(f"exponents: alpha and beta are two numbers, got {len(given)}")
    return given[0], given[1]


def arm_named(name: str) -> JsonObject:
    """An arm as the form names it.

    Raises:
        ConfigError: there is none.
    """
    if name not in ARMS:
        raise ConfigError(f"arms: there is no {name!r}; there are: {', '.join(ARMS)}")
    return ARMS[name]


def title() -> str:
    """What a flow run is called, as that of the whole recipe."""
    return title_of(recipe_of(flow_run.parameters))


@paced_flow("distill", title)
def distill_form(
    recipe: Name,
    student: Place = "",
    teacher: Place = "",
    data: Place = "",
    arms: Arms = [],  # noqa: B006
    seeds: list[int] = [],  # noqa: B006
    steps: Count = 0,
    learning_rate: Rate = 0.0,
    exponents: Exponents = [],  # noqa: B006
    samples: Count = 0,
    changes: Changes = [],  # noqa: B006
) -> RunSummary:
    """Distil a teacher into a student as a recipe says, but for what is filled in here.

    Args:
        recipe: What to start from. One of your own: put its file into recipes/ of the home, then say paced up.
        student: Folder of the model to train, such as models/Qwen3-8B. Empty: the recipe's.
        teacher: Folder of the model that teaches, such as models/Qwen3-14B. Empty: the recipe's.
        data: File or folder of the problems, such as data/train.jsonl. Empty: the recipe's.
        arms: Students to compare, by weighting and schedule. None: the recipe's.
        seeds: Each arm is trained once a seed, such as 0 and 1. None: the recipe's.
        steps: Training steps, such as 60. 0: the recipe's.
        learning_rate: Of the training steps, such as 1e-6. 0: the recipe's.
        exponents: Alpha and beta of the weight p^alpha (1-p)^beta, such as 1 and 2. None: the recipe's.
        samples: Rollouts a problem (G), such as 8. 0: the recipe's.
        changes: Any other settings, such as training.batch=64.
    """
    claim()
    whole = recipe_of(flow_run.parameters)
    permit(recipe=whole)
    return with_figures(train_arms(Pipeline(open_run(whole))))
