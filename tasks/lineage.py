"""What a registered model says about itself: what it was made from, how it was judged, how it is called."""

from collections.abc import Mapping, Sequence
from typing import Any

from paced.config.label import BASE, Label
from paced.storage.artifacts import Ref, model_folder, weights_identity
from paced.storage.checks import comparing, settle
from paced.storage.runs import Entry
from paced_tasks.datasets import names
from paced_tasks.journal import Journal
from paced_tasks.run import Run, model_ref

FILES = "trained_on"  # the tag of a version with the names of the files it was trained on
LONGEST = 5000  # characters of a tag


def note_model(journal: Journal, run: Run, entries: Sequence[Entry], summary: Mapping[str, Any]) -> None:
    """Note a finished run's final student to be registered.

    Tags: ``identity`` of the stage that trained it, ``model`` of its files, ``student``, ``teacher``, ``data`` and
    ``answers`` (the teacher's, where there are any) of what it was made from; the names of the data files.
    """
    recipe, student = run.recipe, run.final
    identities = {entry.label: entry.identity for entry in entries}
    final = [entry for entry in entries if entry.label.student == student and entry.stage == "train"][-1]
    ref = Ref(kind="train", path=final.path, identity=final.identity)
    with comparing():
        folder = model_folder(ref)
        settle()  # before anybody is told of it
    tags = {
        "identity": final.identity,
        "model": weights_identity(ref),
        "run": run.name,
        "arm": student.arm,
        "seed": str(student.seed),
        "data": identities[Label(seed=student.seed, step="prepare")],
        "student": model_ref(recipe.student).identity,
        "teacher": model_ref(recipe.teacher_model).identity,
    }
    if answers := identities.get(student.at("teacher")):
        tags["answers"] = answers
    if trained_on := names(recipe.data.path):
        tags[FILES] = ", ".join(trained_on)[:LONGEST]
    journal.model(folder, recipe.name, tags, description(run, summary), recipe.evaluation.sampling.model_dump())


def description(run: Run, summary: Mapping[str, Any]) -> str:
    """The figures of a version, in Markdown: means and paired differences with their 95% intervals, in %."""
    arm = run.recipe.arms[-1]
    lines = [f"Arm {arm.name} ({arm.scheme}, {arm.schedule}) of run {run.name}, seed {run.recipe.seeds[0]}.", ""]
    if trained_on := names(run.recipe.data.path):
        lines += [f"Trained on {', '.join(trained_on)}.", ""]
    lines += ["| | student | base | difference |", "|---|---|---|---|"]
    for metric in ("accuracy", "retention"):
        values = [summary["arms"][name].get(metric) for name in (arm.name, BASE)]
        paired = (c for c in summary["comparisons"] if (c["a"], c["b"], c["metric"]) == (arm.name, BASE, metric))
        cells = [interval(v, v["mean"], "") for v in values if v] + [interval(c, c["difference"], "+") for c in paired]
        if len(cells) == 3:
            lines.append(f"| {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def interval(bounds: Mapping[str, float], value: float, sign: str) -> str:
    return f"{100 * value:{sign}.1f} [{100 * bounds['low']:{sign}.1f}, {100 * bounds['high']:{sign}.1f}]"
