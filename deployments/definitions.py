"""The deployments: what the Prefect UI offers to run, with a recipe's settings as the defaults of its forms.

``python -m paced_deployments.definitions`` creates or updates them, the work pool and the automation on the server that
PREFECT_API_URL names.
"""

import contextlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runner.storage import LocalStorage

from paced.config import Retraining, home
from paced.config.base import JsonObject
from paced.config.catalog import WEIGHTINGS
from paced.config.reading import load_recipe
from paced.storage.files import make_folder
from paced_deployments.platform import LOST, POOL, ROOT, SILENT
from paced_flows.form import RECIPES

TINY = ROOT / "paced_recipes" / "tiny.yaml"
INCOMING = "incoming"  # folder of the home that retraining watches unless told otherwise
AT_ONCE = 8  # flow runs; their stages take turns on the device all the same
CRASHED = "PACED: flow runs whose process is gone"
BEAT = "prefect.flow-run.heartbeat"


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


def crash_detection() -> None:
    """A flow run that no longer sends heartbeats has lost its process: it must not stay Running for ever."""
    ended = ["Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended"]
    crashed: Any = ChangeFlowRunState(name=None, state=StateType.CRASHED, message=SILENT, force=False)
    automation = Automation(
        name=CRASHED,
        description="Marks a flow run Crashed when its heartbeats stop; the next run of the same recipe resumes it.",
        trigger=EventTrigger(
            after={BEAT},
            expect={BEAT, *(f"prefect.flow-run.{state}" for state in ended)},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},  # pyright: ignore[reportArgumentType]
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=LOST),
        ),
        actions=[crashed],
    )
    try:
        found: Any = Automation.read(name=CRASHED)
    except ValueError:
        automation.create()
    else:
        automation.id = found.id
        automation.update()


def main() -> None:
    for folder in (INCOMING, RECIPES):
        make_folder(home() / folder)
    work_pool()
    for definition in DEFINITIONS:
        deploy(definition)
    crash_detection()


if __name__ == "__main__":
    main()
