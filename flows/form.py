"""The short form of a distillation: a recipe by its name, and what people change of it most."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field, GetJsonSchemaHandler, JsonValue, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

import paced_recipes
from paced.config import Recipe, home
from paced.config.base import NO_PASSWORD, JsonObject
from paced.config.catalog import SCHEDULES, WEIGHTINGS
from paced.config.grid import arms_of
from paced.config.reading import load_recipe
from paced.errors import ConfigError
from paced.storage.runs import RunSummary
from paced_flows.distill import title_of, train_arms
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.pipeline import Pipeline
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
# Inputs of a plain kind, which may be left empty.
Place = Annotated[str | None, WithJsonSchema({"type": "string", "pattern": NO_PASSWORD})]
Count = Annotated[int | None, Field(ge=1), WithJsonSchema({"type": "integer", "minimum": 1})]
Rate = Annotated[float | None, Field(gt=0), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
Exponent = Annotated[float | None, Field(ge=0), WithJsonSchema({"type": "number", "minimum": 0})]
Arms = Annotated[list[str], WithJsonSchema({"type": "array", "items": {"type": "string", "enum": list(ARMS)}})]
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
    fields: dict[str, JsonValue] = {
        "student.path": form.get("student"),
        "teacher.path": form.get("teacher"),
        "data.path": form.get("data"),
        "arms": [arm_named(name) for name in form.get("arms") or ()] or None,
        "seeds": form.get("seeds") or None,
        "training.steps": form.get("steps"),
        "training.learning_rate": form.get("learning_rate"),
        "weights.alpha": form.get("alpha"),
        "weights.beta": form.get("beta"),
        "rollouts.samples": form.get("samples"),
    }
    changes = [f"{path}={json.dumps(value)}" for path, value in fields.items() if value is not None]
    return load_recipe(known[name], (*changes, *(form.get("changes") or ())))


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


@flow(  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
    name="distill",
    flow_run_name=title,
    task_runner=ThreadPoolTaskRunner(max_workers=64),  # pyright: ignore[reportArgumentType]
)
def distill_form(
    recipe: Name,
    student: Place = None,
    teacher: Place = None,
    data: Place = None,
    arms: Arms = [],  # noqa: B006
    seeds: list[int] = [],  # noqa: B006
    steps: Count = None,
    learning_rate: Rate = None,
    alpha: Exponent = None,
    beta: Exponent = None,
    samples: Count = None,
    changes: Changes = [],  # noqa: B006
) -> RunSummary:
    """Distil a teacher into a student as a recipe says, with what is changed here; what is left empty is the recipe's.

    Args:
        recipe: What to start from. One of your own: put its file into recipes/ of the home, then say paced up.
        student: Folder of the model to train, such as models/Qwen3-8B.
        teacher: Folder of the model that teaches, such as models/Qwen3-14B.
        data: File or folder of the problems, such as data/train.jsonl.
        arms: Students to compare: weighting and schedule.
        seeds: Each arm is trained once a seed, such as 0 and 1.
        steps: Training steps, such as 60.
        learning_rate: Of the training steps, such as 1e-6.
        alpha: Exponent of the pass rate p in the weight p^alpha (1-p)^beta, such as 1.
        beta: Exponent of 1-p, such as 1.
        samples: Rollouts a problem (G), such as 8.
        changes: Any other settings, such as training.batch=64.
    """
    claim()
    whole = recipe_of(flow_run.parameters)
    permit(recipe=whole)
    return train_arms(Pipeline(open_run(whole)))
