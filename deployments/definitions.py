"""The deployments: what the Prefect UI offers to run, with a recipe's settings as the defaults of its forms.

``python -m paced_deployments.definitions`` creates or updates them and the work pool on the server that
PREFECT_API_URL names, and says which schedules and deployments that were kept can no longer run.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runner.storage import LocalStorage
from prefect.utilities.urls import url_for

from paced.config import Recipe, Retraining, home
from paced.config.allowed import check
from paced.config.base import JsonObject, Section
from paced.config.catalog import WEIGHTINGS
from paced.config.reading import checked, load_recipe
from paced.config.upgrade import upgraded
from paced.errors import ConfigError
from paced.storage.files import make_folder
from paced_deployments.platform import POOL, ROOT
from paced_flows.form import RECIPES, recipe_of
from paced_tasks.tracking import Tracker

TINY = ROOT / "paced_recipes" / "tiny.yaml"
INCOMING = "incoming"  # folder of the home that retraining watches unless told otherwise
PAGE = 200  # deployments that are asked for at once
AT_ONCE = 8  # flow runs; their stages take turns on the device all the same
CRASHED = "PACED: flow runs whose process is gone"


class Definition(NamedTuple):
    """A deployment of a flow; the whole of ``recipe`` fills its form, if there is one, and ``more`` the rest."""

    name: str
    entrypoint: str
    recipe: Path | None
    description: str
    more: Mapping[str, Any] = {}


DEFINITIONS = (
    Definition(
        "distill", "paced_flows/form.py:distill_form", None,
        "Distil a teacher into a student: pass rates, weights, both training stages, benchmarks, comparison.",
        {"recipe": "tiny"},
    ),
    Definition(
        "distill-advanced", "paced_flows/distill.py:distill", TINY,
        "The same with every setting of a recipe in the form.",
    ),
    Definition(
        "evaluate", "paced_flows/evaluate.py:evaluate", TINY,
        "Judge a model, a folder or a registered one, beside the recipe's student on its benchmarks.",
        {"model": "models:/tiny@champion"},
    ),
    Definition(
        "ablate", "paced_flows/ablate.py:ablate", TINY,
        "Train a student for each weighting, schedule and seed of a grid, at equal gradient steps, and compare them.",
        {
            "schemes": list(WEIGHTINGS), "schedules": ["forward"], "seeds": [0], "exponents": [],
            "losses": [],
        },
    ),
    Definition(
        "diagnose", "paced_flows/diagnose.py:diagnose", TINY,
        "Measure which pass rates' gradients carry signal for this student, and fit the Beta kernel to it.",
    ),
    Definition(
        "retrain", "paced_flows/retrain.py:retrain", TINY,
        "Train a challenger on new files and promote it if it is better for sure (docs/retraining.md). Add a schedule.",
        {"retraining": Retraining(watch=str(home() / INCOMING)).model_dump(mode="json")},
    ),
)  # fmt: skip


def parameters(definition: Definition) -> JsonObject:
    """What a deployment's form is filled with."""
    whole = {"recipe": load_recipe(definition.recipe).model_dump(mode="json")} if definition.recipe else {}
    return {**whole, **definition.more}


def defaults() -> dict[str, JsonObject]:
    """The step of prefect.yaml that fills its templates: name -> description and parameters."""
    return {d.name: {"description": d.description, **parameters(d)} for d in DEFINITIONS}


def deploy(definition: Definition) -> None:
    """Create or update one deployment."""
    with contextlib.chdir(ROOT):  # from which the worker, too, finds the flow's file
        deployment = RunnerDeployment.from_entrypoint(
            definition.entrypoint,
            name=definition.name,
            parameters=parameters(definition),
            description=definition.description,
            work_pool_name=POOL,
            tags=["paced"],
            enforce_parameter_schema=True,
        )
    # Runs work in the repository itself; without this Prefect copies all of it, environment included, for each run.
    deployment.storage = LocalStorage(path=str(ROOT))
    kept: Any = schedules(f"{deployment.flow_name}/{definition.name}")
    deployment.schedules = kept
    deployment.apply()


def schedules(name: str) -> list[DeploymentScheduleCreate]:
    """Those that a deployment was given on its page: Prefect takes away what an update does not name."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(name)
        except ObjectNotFound:
            return []
    fields = set(DeploymentScheduleCreate.model_fields)
    return [DeploymentScheduleCreate.model_validate(s.model_dump(include=fields)) for s in found.schedules]


def faults() -> Iterator[str]:
    """What a schedule or a deployment that was kept can no longer run with, a line each: say it before it fires."""
    flows = FlowFilter(name=FlowFilterName(any_=[d.entrypoint.rpartition(":")[2] for d in DEFINITIONS]))
    with get_client(sync_client=True) as client:
        found: list[DeploymentResponse] = []
        while page := client.read_deployments(flow_filter=flows, limit=PAGE, offset=len(found)):
            found += page
    own = {d.name for d in DEFINITIONS}
    for deployment in found:
        where = f"mend it on {url_for('deployment', obj_id=deployment.id)}"
        if deployment.name not in own and (fault := refused(deployment, {})):
            yield f"deployment {deployment.name} cannot run: {fault}: {where}"
        for schedule in deployment.schedules:
            when = getattr(schedule.schedule, "cron", None) or type(schedule.schedule).__name__
            named = f"schedule {when!r} of {deployment.name}"
            if schedule.parameters and (fault := refused(deployment, schedule.parameters)):
                yield f"{named} cannot run: {fault}: {where}"
            else:
                _, told = upgraded(schedule.parameters.get("recipe"))
                yield from (f"{named}: recipe.{line}: {where}" for line in told)


def refused(deployment: DeploymentResponse, parameters: Mapping[str, Any]) -> str:
    """Why a run with these parameters instead of the deployment's own would be refused; "" if it would not be."""
    given = {**deployment.parameters, **parameters}
    known = deployment.parameter_openapi_schema or {}
    if unknown := given.keys() - known.get("properties", given).keys():
        return f"{', '.join(sorted(unknown))}: unknown parameter"
    try:
        check(home(), **sections(given, short=known.get("properties", {}).get("recipe", {}).get("type") == "string"))
    except ConfigError as error:
        return str(error)
    return ""


def sections(given: Mapping[str, Any], short: bool) -> dict[str, Section]:
    """The parameters of a run that are sections of a recipe, checked.

    Args:
        short: it is the form that names a recipe.

    Raises:
        ConfigError: with the path of each bad field.
    """
    if short and not isinstance(given["recipe"], str):
        raise ConfigError("recipe: this form takes a recipe's name; the deployment distill-advanced takes a whole one")
    if short:
        return {"recipe": recipe_of(given)}
    kinds = (("recipe", Recipe), ("retraining", Retraining))
    return {name: checked(kind, given[name], name) for name, kind in kinds if name in given}


def work_pool() -> None:
    """The pool that the worker takes runs from.

    Prefect's own has a command and an environment among the settings that whoever submits a run may change; here
    neither can be, so that a form cannot start another program than a flow.
    """
    template = {
        "job_configuration": {"name": "{{ name }}", "stream_output": True},
        "variables": {"type": "object", "properties": {"name": {"type": "string", "title": "Name"}}},
    }
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(
                WorkPoolCreate(name=POOL, type="process", base_job_template=template, concurrency_limit=AT_ONCE)
            )
        except ObjectAlreadyExists:
            client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))


def forget_automation() -> None:
    """Take away the automation of earlier releases: it took runs for dead that had ended or were suspended."""
    with contextlib.suppress(ValueError):  # there is none
        found: Any = Automation.read(name=CRASHED)
        found.delete()


def main() -> None:
    for folder in (INCOMING, RECIPES):
        make_folder(home() / folder)
    work_pool()
    for definition in DEFINITIONS:
        deploy(definition)
    forget_automation()
    for fault in faults():
        print(f"warning: {fault}")
    if page := Tracker(home() / "platform", home(), "platform").opens():
        print(f"runs       {page}")


if __name__ == "__main__":
    main()
