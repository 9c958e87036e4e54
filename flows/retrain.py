"""Retraining: what is new in a watched place becomes a challenger of the registered champion.

new files -> the champion is re-scored on them, a challenger trained from it, both judged (flow distill)
          -> decide -> register, and promote or keep -> tell -> note the files as done
"""

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.states import Completed

from paced.config import Recipe, Retraining, home
from paced.config.label import Label
from paced.config.reading import with_changes
from paced.data.watched import Ledger, Taken, take
from paced.errors import ConfigError, NothingToLearn, PacedError, Stopped
from paced.evaluation.promotion import decide
from paced.stage import exclusive
from paced.storage.runs import RunSummary
from paced_flows.distill import distill
from paced_tasks.console import display
from paced_tasks.notify import Event, notify
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.registry import Registry, Version
from paced_tasks.run import run_name
from paced_tasks.runner import stopping


class Busy(PacedError):
    """Another retraining of the same model is running."""


def title() -> str:
    """What a flow run is called: the model and the place it watches."""
    recipe = Recipe.model_validate(flow_run.parameters["recipe"])
    return f"{recipe.name}: {Retraining.model_validate(flow_run.parameters['retraining']).watch}"


@flow(name="retrain", flow_run_name=title)  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
def retrain(recipe: Recipe, retraining: Retraining) -> Any:
    """Train a challenger on new files and promote it if it is better; else keep the champion and say why.

    Args:
        recipe: how the files are laid out, how a challenger is trained (by its last arm and first seed, as a run
            registers them) and judged. The registered model has the recipe's name; its champion takes the place of the
            recipe's student, the new files that of its data.

    Returns:
        the fields of an Event; its message is also that of the run's final state.
    """
    claim()
    permit(recipe=recipe, retraining=retraining)
    registry = Registry(home(), recipe.name)
    try:
        with alone(registry, retraining):
            event = attempt(recipe, retraining, registry)
    except Busy as error:
        event = Event(event="refused", model=recipe.name, message=str(error))
    except Stopped:
        raise
    except Exception as error:
        failure = " ".join(str(error).split()) or type(error).__name__
        notify(retraining.notify, Event(event="failed", model=recipe.name, message=f"{recipe.name}: {failure}"))
        raise
    get_run_logger().info(event.message)
    return Completed(message=event.message, data=event.model_dump(mode="json"))


@contextlib.contextmanager
def alone(registry: Registry, retraining: Retraining) -> Generator[None]:
    """Hold the model's turn; the kernel gives it back when the holder dies.

    Raises:
        Busy: another retraining holds it, and this one is to be refused.
        Stopped: the run was stopped while it waited.
    """
    with contextlib.ExitStack() as stack:
        waiting = False
        while True:
            with contextlib.suppress(BlockingIOError):
                stack.enter_context(exclusive(registry.folder / "retrain.lock", wait=False))
                break
            if retraining.overlap == "refuse":
                raise Busy(f"{registry.model}: another retraining is running, this one does nothing (overlap refuse)")
            if stopping():
                raise Stopped("stopped while it waited for another retraining")
            if not waiting:
                waiting = True
                display.say(f"{registry.model}: waits until another retraining has ended")
            time.sleep(0.5)
        yield


def warn(text: str) -> None:
    """Say what somebody should look at, in the terminal, on the run's page and in the worker's log."""
    get_run_logger().warning(text)
    display.say(text)


def attempt(recipe: Recipe, retraining: Retraining, registry: Registry) -> Event:
    """One retraining, from looking for files to noting them as done."""
    model = recipe.name
    if retraining.forgetting_limit is not None and not any(b.retention for b in recipe.evaluation.benchmarks):
        raise ConfigError(
            "forgetting_limit: no benchmark of the recipe measures forgetting: mark one with retention: true, or set "
            "the limit to null (--forgetting-limit none)"
        )
    ledger = Ledger(registry.folder / "ledger.json")
    taken = take(retraining, ledger, registry.folder)
    for name in taken.unsettled:
        warn(f"{name} is still being written: left for the next time")
    for name in taken.empty:
        warn(f"{name} is empty: left until it has lines")
    if not taken.files:
        left = f", {len(taken.unsettled)} still being written" if taken.unsettled else ""
        left += f", {len(taken.empty)} empty" if taken.empty else ""
        return Event(
            event="no_new_data", model=model, message=f"no new data in {retraining.watch}: {taken.known} known{left}"
        )
    display.say(f"{model}: {len(taken.files)} new files in {retraining.watch}, {taken.known} known")
    champion = registry.champion()
    if champion and champion.tags.get("files") == taken.identity:  # promoted, and killed before that was noted
        reason = champion.tags["reason"]
        event = Event(event="promoted", model=model, message=reason, champion=champion.number)
    else:
        event = challenge(recipe, retraining, registry, champion, taken)
    event = event.model_copy(update={"files": tuple(file.name for file in taken.files)})
    create_markdown_artifact(f"**{event.event}**: {event.message}", key="decision")
    notify(retraining.notify, event)
    ledger.add(taken.files, event.event)
    return event


def challenge(
    recipe: Recipe, retraining: Retraining, registry: Registry, champion: Version | None, taken: Taken
) -> Event:
    """Train and judge a challenger, register it, and promote it or not."""
    model, before = recipe.name, champion and champion.number
    base = f"version {before}" if before else "the recipe's student"
    trial = challenger_recipe(recipe, taken.folder, registry.weights(champion) if champion else None)
    run, arm, seed = registry.home / "runs" / run_name(trial), trial.arms[0].name, trial.seeds[0]
    try:
        summary: RunSummary = distill(trial)
    except NothingToLearn as error:
        message = f"{model}: {base} stays champion, the new problems teach it nothing: {error}"
        return Event(event="kept", model=model, message=message, champion=before, run=run.name)
    decision = decide(summary, arm, retraining.forgetting_limit)
    student = Label(arm, seed)
    made = [(Label.parse(stage["name"]), stage["identity"]) for stage in summary["stages"]]
    trained = [identity for label, identity in made if label.student == student and label.step.startswith("train_")]
    version = registry.registered(run, trained[-1])
    if decision.promote:
        message = f"{model}: version {version.number} takes the place of {base}: {decision.reason}"
    elif champion:
        message = f"{model}: version {before} stays champion, version {version.number} is {decision.reason}"
    else:
        message = f"{model}: version {version.number} does not become the first champion, it is {decision.reason}"
    registry.note(
        version,
        {
            "parent": str(before or "recipe"),
            "files": taken.identity,
            "decision": "promoted" if decision.promote else "kept",
            "reason": message,
        },
    )
    registry.challenge(version)
    if decision.promote:
        registry.crown(version, champion)
    return Event(
        event="promoted" if decision.promote else "kept", model=model, message=message, run=run.name,
        champion=version.number if decision.promote else before, challenger=version.number, figures=decision.figures,
    )  # fmt: skip


def challenger_recipe(recipe: Recipe, data: Path, student: Path | None) -> Recipe:
    """The recipe of one challenger: trained from ``student``, or the recipe's own, on all the files in ``data``.

    Raises:
        ConfigError: what is left of the recipe contradicts itself.
    """
    return with_changes(
        recipe,
        f"retraining {recipe.name} with arm {recipe.arms[-1].name} alone",
        arms=recipe.arms[-1:],
        seeds=recipe.seeds[:1],
        data=recipe.data.model_dump() | {"path": str(data), "mix": None, "problems": None},
        student=recipe.student.model_dump() | ({"path": str(student)} if student else {}),
    )
