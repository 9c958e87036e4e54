"""Retraining: what is new in a watched place becomes a challenger of the registered champion.

new files -> the champion is re-scored on them, a challenger trained from it, both judged (flow distill)
          -> decide -> register, and promote or keep -> tell -> note the files as done
"""

import base64
import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.runtime import flow_run
from prefect.states import Completed

from paced.config import Recipe, Retraining, home
from paced.config.label import Label
from paced.config.reading import load_recipe, with_changes
from paced.data.watched import Ledger, Taken, take
from paced.errors import ConfigError, NothingToLearn, PacedError, Stopped
from paced.evaluation.compare_runs import judged
from paced.evaluation.drift import text
from paced.evaluation.promotion import ALONE, Condition, Look, better, decide, differences, look, retains
from paced.stage import exclusive
from paced.storage.artifacts import Ref
from paced.storage.files import write_record
from paced.storage.runs import RunSummary
from paced_flows.challenger import ARRIVING, Gate, Postponed, decided, drift, train_challenger
from paced_flows.evaluate import evaluate
from paced_tasks.console import display, tell
from paced_tasks.lineage import FILES, LONGEST
from paced_tasks.notify import Event, notify
from paced_tasks.overview import overview
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.reason import paced_flow
from paced_tasks.registry import PASSED, RECIPE, Registry, Version, named
from paced_tasks.run import JUDGED, Run, run_name
from paced_tasks.runner import stopping

PROFILES = "profiles"  # of the problems of each retraining that has decided, in the model's folder


class Busy(PacedError):
    """Another retraining of the same model is running."""


def title() -> str:
    """What a flow run is called: the model and the place it watches."""
    recipe = Recipe.model_validate(flow_run.parameters["recipe"])
    return f"{recipe.name}: {Retraining.model_validate(flow_run.parameters['retraining']).watch}"


@paced_flow("retrain", title)
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
    name = event.event.replace("_", " ").capitalize()  # what a list of runs shows
    return Completed(name=name, message=event.message, data=event.model_dump(mode="json"))


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
                tell(f"{registry.model}: waits until another retraining has ended")
            time.sleep(0.5)
        yield


def warn(text: str) -> None:
    """Say what somebody should look at, in the terminal, on the run's page and in the worker's log."""
    get_run_logger().warning(text)
    display.say(text)


def attempt(recipe: Recipe, retraining: Retraining, registry: Registry) -> Event:
    """One retraining, from looking for files to noting them as done."""
    model = recipe.name
    check_limits(recipe, retraining)
    ledger = Ledger(registry.folder / "ledger.json")
    layout = challenger_recipe(recipe, registry.folder, None).data
    taken = take(retraining, layout, ledger, registry.folder)
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
    for name in taken.gone:
        tell(f"{name} brought no promotion and would be trained on again, but is gone")
    pooled = len(taken.files) - taken.new_files
    found = f"{taken.new_files} new files in {retraining.watch} with {taken.new_problems} new problems"
    tell(f"{model}: {found}, {pooled} of before, {taken.known} known")
    if 0 < taken.new_problems < retraining.least_problems:  # what holds no problem fails in the stage that says why
        message = f"{model}: waits: {found}, of at least {retraining.least_problems} (least_problems)"
        return Event(event="waiting", model=model, message=message, champion=None, files=names_of(taken))
    champion = registry.champion()
    if champion and champion.tags.get("files") == taken.identity:  # promoted, and killed before that was noted
        reason = champion.tags["reason"]
        event = Event(event="promoted", model=model, message=reason, champion=champion.number)
    else:
        event = challenge(recipe, retraining, registry, champion, taken)
    event = event.model_copy(update={"files": names_of(taken)})
    show_drift(registry)
    if event.event == "waiting":
        return event
    decided(registry.folder / PROFILES, taken.identity)
    create_markdown_artifact(told(registry, event), key="summary")
    notify(retraining.notify, event)
    ledger.add(taken.files, event.event, taken.problems, taken.identity)
    return event


def gate(retraining: Retraining, registry: Registry, taken: Taken) -> Gate:
    """What has to be so before a challenger is trained."""
    (registry.folder / PROFILES / ARRIVING).unlink(missing_ok=True)  # of one that did not get as far as a decision
    new = registry.folder / "new.json"
    write_record(new, {"problems": sorted(frozenset[str]().union(*taken.problems.values()))})
    return Gate(
        profiles=str(registry.folder / PROFILES), new=str(new), least_kept=retraining.least_kept,
        drift_limit=retraining.drift_limit,
    )  # fmt: skip


def show_drift(registry: Registry) -> None:
    """Say how the new problems differ from those before, with a picture on the run's page."""
    if found := drift(registry.folder / PROFILES):
        from paced.report.drift import picture_of_drift
        from paced.report.plots import rendered

        tell(f"{registry.model}: the new problems and those before: {text(found[2])}")
        url = "data:image/png;base64," + base64.b64encode(rendered(picture_of_drift(*found), "png")).decode()
        create_image_artifact(url, key="drift", description=f"New problems and those before: {text(found[2])}")


def told(registry: Registry, event: Event) -> str:
    """What was decided on which files, and the challenger's run: the first thing on the run's page, Markdown."""
    blocks = [f"**{event.event}**: {event.message}"]
    blocks.append("Files that were taken:\n\n" + "\n".join(f"- `{name}`" for name in event.files))
    folder = registry.home / "runs" / (event.run or "")
    if event.run and (folder / "summary.json").exists():  # it is not where there was nothing to learn
        run = Run(name=event.run, home=str(registry.home), recipe=load_recipe(folder / "recipe.yaml"))
        blocks.append(overview(run))
    return "\n\n".join(blocks)


def names_of(taken: Taken) -> tuple[str, ...]:
    return tuple(file.name for file in taken.files)


def challenge(
    recipe: Recipe, retraining: Retraining, registry: Registry, champion: Version | None, taken: Taken
) -> Event:
    """Train and judge a challenger, register it, and promote it or not."""
    model, before = recipe.name, champion and champion.number
    trial = challenger_recipe(recipe, taken.folder, registry.weights(champion) if champion else None)
    run, arm, seed = registry.home / "runs" / run_name(trial), trial.arms[0].name, trial.seeds[0]
    try:
        summary: RunSummary = train_challenger(trial, gate(retraining, registry, taken))
    except Postponed as error:
        message = f"{model}: waits: of the problems in {len(taken.files)} files {error}"
        return Event(event="waiting", model=model, message=message, champion=before, run=run.name)
    except NothingToLearn as error:
        message = f"{model}: {named(before)} stays champion, the new problems teach it nothing: {error}"
        return Event(event="kept", model=model, message=message, champion=before, run=run.name)
    student = Label(arm, seed)
    made = [(Label.parse(stage["name"]), stage["identity"]) for stage in summary["stages"]]
    trained = [identity for label, identity in made if label.student == student and label.step.startswith("train_")]
    version = registry.registered(run, trained[-1])
    here = look(registry.look(version, champion), retraining.false_promotions)
    decision = decide(conditions(recipe, retraining, registry, champion, run, here), here)
    outcome = "kept" if not decision.promote else PASSED if retraining.approval else "promoted"
    message = f"{model}: " + verdict(recipe, version, champion, outcome, decision.reason)
    registry.note(
        version,
        {
            "parent": str(before or RECIPE),
            "files": taken.identity,
            FILES: ", ".join(names_of(taken))[:LONGEST],
            "decision": outcome,
            "reason": message,
            "look": str(here.number),
            "level": f"{1 - 2 * here.outside:.6g}",
        },
    )
    registry.challenge(version)
    if outcome == "promoted":
        registry.crown(version, champion, message)
    return Event(
        event=outcome, model=model, message=message, run=run.name, challenger=version.number,
        champion=version.number if outcome == "promoted" else before, figures=decision.figures,
    )  # fmt: skip


def verdict(recipe: Recipe, version: Version, champion: Version | None, outcome: str, reason: str) -> str:
    """What was decided, in one line."""
    number, base = version.number, named(champion and champion.number)
    if outcome == "promoted":
        return f"version {number} takes the place of {base}: {reason}"
    if outcome == PASSED:
        command = f"paced promote {recipe.name} {number}"
        return f"version {number} may take the place of {base} and waits for '{command}': {reason}"
    if champion:
        return f"{base} stays champion, version {number} is {reason}"
    return f"version {number} does not become the first champion, it is {reason}"


def check_limits(recipe: Recipe, retraining: Retraining) -> None:
    """Refuse a limit of forgetting that nothing measures."""
    if any(b.retention for b in recipe.evaluation.benchmarks):
        return
    for limit in ("forgetting_limit", "total_forgetting_limit"):
        if getattr(retraining, limit) is not None:
            raise ConfigError(
                f"{limit}: no benchmark of the recipe measures forgetting: mark one with retention: true, or set the "
                f"limit to null (--{limit.replace('_', '-')} none)"
            )


def conditions(
    recipe: Recipe, retraining: Retraining, registry: Registry, champion: Version | None, run: Path, here: Look
) -> list[Condition]:
    """What the challenger of a run has to fulfil at a look: gain, and both limits of forgetting.

    The recipe's first benchmark that does not measure retention decides; all that do are pooled.
    """
    scores = judged(run)
    [challenger] = scores.students.values()
    main = next(b.name for b in recipe.evaluation.benchmarks if not b.retention)
    kept = [b.name for b in recipe.evaluation.benchmarks if b.retention]
    found = [better(main, differences(challenger, scores.base, [main]), here)]
    if (limit := retraining.forgetting_limit) is not None:
        found.append(retains("retention", differences(challenger, scores.base, kept), limit, ALONE))
    if (limit := retraining.total_forgetting_limit) is not None:
        first = scores.base
        if retraining.first != (champion and champion.number):
            first = first_scores(recipe, retraining, registry, champion)
        name = "retention since " + (f"version {retraining.first}" if retraining.first else "the first student")
        found.append(retains(name, differences(challenger, first, kept), limit, here.outside))
    return found


def first_scores(recipe: Recipe, retraining: Retraining, registry: Registry, champion: Version | None) -> Ref:
    """Scores of the first student, or the version that stands for it, on the recipe's benchmarks.

    It is judged beside the champion, in a run that is the same until that changes.
    """
    student = str(registry.weights(champion)) if champion else recipe.student.path
    beside = with_changes(
        recipe, f"judging the first student of {recipe.name}", student=recipe.student.model_dump() | {"path": student}
    )
    model = f"models:/{recipe.name}/{retraining.first}" if retraining.first else recipe.student.path
    name = evaluate(beside, model)["name"]
    return judged(registry.home / "runs" / name).students[Label(JUDGED, 0)]


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
