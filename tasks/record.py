"""What MLflow is told of a run beside its stages: what it was made from, a run for each student, and tables."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.context import FlowRunContext
from prefect.utilities.urls import url_for

import paced
from paced.config import Data, Model
from paced.config.base import JsonObject
from paced.config.label import BASE, Label
from paced.storage.identity import commit_of
from paced.storage.runs import Entry, metrics_of
from paced_tasks.datasets import described, place_of
from paced_tasks.journal import Journal
from paced_tasks.run import Run, model_ref
from paced_tasks.stage import arm_of
from paced_tasks.who import submitter, worker

Row = Mapping[str, Any]
COSTS = ("teacher_tokens", "sampled_tokens", "train_tokens", "steps")
READ = {  # of a recipe, by runs that train nothing
    "evaluation": ("student", "evaluation", "thinking"),
    "diagnosis": (
        "student",
        "teacher",
        "thinking",
        "data",
        "decontamination",
        "seeds",
        "rollouts",
        "weights",
        "answers",
    ),
}
CHOICES = ("subjects", "shots", "chat", "score")  # settings that only multiple choice has


def parameters(run: Run) -> JsonObject:
    """The settings that decide a run's result, without those that say where and how fast or have no effect in it."""
    recipe = run.recipe
    kept = recipe.model_dump(mode="json", exclude={"name", "recipe_version", "runtime", "student", "teacher", "data"})
    kept["student"] = model_parameters(recipe.student)
    if run.purpose != "evaluation":  # which needs no teacher to be there
        own = model_parameters(recipe.teacher_model) if recipe.teacher.path else {}
        kept["teacher"] = own | {"privileged": recipe.teacher.privileged}
    kept["data"] = data_parameters(recipe.data)
    for place, benchmark in zip(kept["evaluation"]["benchmarks"], recipe.evaluation.benchmarks, strict=True):
        place["data"] = data_parameters(benchmark.data)
    kept["weights"] = recipe.weights.read_by([arm.scheme for arm in recipe.arms])
    idle = {
        "consolidation": not any(recipe.stages_of(arm).reverse for arm in recipe.arms),
        "answers": not recipe.teacher_answers,
        "decontamination": recipe.data.source == "tiny",
    }
    if not recipe.decontamination.enabled:
        kept["decontamination"] = {"enabled": False}
    kept = {name: value for name, value in kept.items() if not idle.get(name)}
    if run.purpose != "training":
        kept = {name: value for name, value in kept.items() if name in READ[run.purpose]}
    return kept | ({"model": run.model.identity} if run.model else {})


def model_parameters(model: Model) -> JsonObject:
    return {"identity": model_ref(model).identity, "dtype": model.dtype, "engine": model.engine.kind}


def data_parameters(data: Data) -> JsonObject:
    fields = data.model_dump(mode="json", exclude=set() if data.record.choices else set(CHOICES))
    if data.mix:
        fields["mix"] = {row.level: row.share for row in data.mix}
    return {name: value for name, value in fields.items() if value not in (None, "", [])}


def tags(run: Run) -> dict[str, str]:
    """What a run was made from, and what it judges."""
    context, recipe = FlowRunContext.get(), run.recipe
    named = {"student": model_ref(recipe.student)}
    if run.model:
        named["model"] = run.model
    else:
        named["teacher"] = model_ref(recipe.teacher_model)
    flow, known = context.flow.name if context and context.flow else "", submitter()
    return {
        "paced.flow": flow,
        "paced.recipe": recipe.name,
        "paced.version": paced.__version__,
        "paced.commit": commit() or f"paced {paced.__version__}",
        "paced.submitter": known,
        "paced.worker": worker(),
        "mlflow.user": known or worker(),
        "mlflow.source.name": f"paced {flow or run.purpose}",
        "mlflow.source.type": "JOB",
        "mlflow.source.git.commit": commit(),
        **{f"paced.{name}": ref.path for name, ref in named.items()},
        **{f"paced.{name}.identity": ref.identity for name, ref in named.items()},
    }


def commit() -> str:
    """The commit a run is made from: of the recipe's repository, which the command names in PACED_COMMIT; of a run from
    a form or a schedule that of the code, where it is run in its repository.
    """
    root = Path(paced.__file__).resolve().parents[1]
    return os.environ.get("PACED_COMMIT") or (commit_of(root) if (root / ".git").exists() else "")


def note(run: Run) -> str:
    """The description of a run: what it trains, and the way to its page in Prefect."""
    text = {
        "training": f"Arms {', '.join(run.arms)}; seeds {', '.join(map(str, run.recipe.seeds))}.",
        "evaluation": f"Model {run.model.path if run.model else ''}, beside the student {run.recipe.student.path}.",
        "diagnosis": f"Gradients of the student {run.recipe.student.path} by pass rate.",
    }[run.purpose]
    context = FlowRunContext.get()
    page = url_for("flow-run", obj_id=context.flow_run.id) if context and context.flow_run else None
    return text + (f"\n\n[Flow run in Prefect]({page})" if page else "")


def labels(run: Run) -> list[Label]:
    """Of the runs that stand for students."""
    if run.purpose == "diagnosis":
        return []
    return [Label(BASE), *(Label(arm, seed) for arm in run.arms for seed in run.recipe.seeds)]


def scores(arm: Row) -> dict[str, float]:
    """Accuracy and retention with their intervals, as metrics."""
    return {
        f"{name}{end}": float(arm[name][key])
        for name in ("accuracy", "retention")
        if arm.get(name)
        for end, key in (("", "mean"), ("_low", "low"), ("_high", "high"))
    }


def headline(run: Run, summary: Row) -> dict[str, float]:
    """The metrics of the whole run that a list of runs shows: those of its last arm, which is the one registered, and
    its paired gain over the base.
    """
    arm = run.arms[-1] if run.arms else BASE
    return scores(summary["arms"].get(arm, {})) | gain(summary, arm)


def curves(run: Run, entries: Sequence[Entry]) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps and losses of all students, by which whole runs can be compared; those of the student that is registered
    also under the names that every run and every student has, which are charts of the list of runs.
    """
    for entry in entries:
        for line in metrics_of(entry):
            values = json.loads(line)
            losses = {f"{entry.label}/{k}": float(values[k]) for k in ("loss", "kl_per_token")}
            if entry.label.student == run.final:
                losses[f"{entry.label.purpose}/loss"] = float(values["loss"])
            yield values["step"], losses


def gain(summary: Row, arm: str) -> dict[str, float]:
    """The paired difference in accuracy between an arm and the base, with its interval."""
    for c in summary["comparisons"]:
        if (c["a"], c["b"], c["metric"]) == (arm, BASE, "accuracy"):
            return {"gain": float(c["difference"]), "gain_low": float(c["low"]), "gain_high": float(c["high"])}
    return {}


def finish(run: Run, journal: Journal, entries: Sequence[Entry], summary: Row) -> None:
    """Note on the parent's journal what is known when all stages are done, and write one journal a student."""
    from paced.report import students

    found = students(run.folder) if run.arms else []
    prepared = [entry for entry in entries if entry.stage == "prepare"]
    training = [entry.identity for entry in prepared if not entry.label.benchmark]
    paths = {
        "arms.json": arm_rows(run, summary),
        "students.json": [{**about(run, s["label"]), **scores(s)} for s in found],
    }
    if "diagnosis" in summary:
        paths = {"snr.json": summary["diagnosis"]["bins"]}
    for name, table in paths.items():
        write_table(run.folder / name, table)
        journal.file(run.folder / name)
    shown = json.dumps([{"path": name, "type": "table"} for name in paths])
    journal.tags({"paced.data": ", ".join(dict.fromkeys(training)), "mlflow.loggedArtifacts": shown})
    for entry in prepared:
        note_data(journal, run, entry)
    for student in found:
        student_journal(run, student, entries)
    journal.note(note(run), [str(s["label"]) for s in found])


def diagnosis(journal: Journal, found: Row) -> None:
    """The SNR as a curve over pass rates in %, the fitted exponents and the efficiencies, as metrics."""
    for row in found["bins"]:
        names = {"snr": "snr", "snr_low": "low", "snr_high": "high"}
        journal.metrics(round(100 * row["pass_rate"]), {name: row[key] for name, key in names.items()})
    fit = found["fit"] or {}
    values = {name: fit[name]["mean"] for name in ("alpha", "beta") if name in fit}
    journal.metrics(0, values | {f"efficiency/{name}": e["mean"] for name, e in found["efficiency"].items()})


def about(run: Run, student: Label) -> Row:
    """What tells a student from the others, flat."""
    settings = arm_of(run, student)
    return {"arm": BASE, **{k: v for k, v in settings.items() if k != "weights"}, **settings.get("weights", {})}


def student_parameters(run: Run, student: Label) -> Row:
    """The settings that decide what one student became; the base's are those it is judged by."""
    if run.model and student.arm != BASE:
        return parameters(run) | arm_of(run, student)
    arms = tuple(arm for arm in run.recipe.arms if arm.name == student.arm)
    if not arms:
        return {"arm": BASE} | {k: v for k, v in parameters(run).items() if k in ("student", "evaluation")}
    recipe = run.recipe.model_copy(update={"arms": arms})
    settings = parameters(run.model_copy(update={"recipe": recipe}))
    return {k: v for k, v in settings.items() if k not in ("arms", "seeds")} | arm_of(run, student)


def student_journal(run: Run, student: Row, entries: Sequence[Entry]) -> None:
    """One student as a run of its own: settings, scores, costs, and both stages' curves under names that all share."""
    label: Label = student["label"]
    journal = Journal(run.folder, str(label))
    known = {"paced.stage": "student", "paced.identity": student["identity"]}
    if path := student["path"] or (run.model.path if run.model and label.arm != BASE else ""):
        known["paced.path"] = path
    judged = next(entry.identity for entry in entries if entry.label == label.at("evaluate"))
    journal.begin(known, student_parameters(run, label), judged)
    journal.metrics(0, scores(student) | {k: float(v) for k, v in student["cost"].items()})
    for name, share in student["benchmarks"].items():
        journal.metrics(0, {f"{name}/{k}": v for k, v in scores({"accuracy": share}).items()})
    for entry in entries:
        if entry.stage == "train" and entry.label.student == label:
            for line in metrics_of(entry):
                values = json.loads(line)
                step = values.pop("step")
                journal.metrics(step, {f"{entry.label.purpose}/{k}": float(v) for k, v in values.items()})
    for entry in entries:
        if entry.stage == "prepare" and (entry.label.benchmark or entry.label.seed == label.seed):
            note_data(journal, run, entry)
    journal.end("FINISHED")


def note_data(journal: Journal, run: Run, entry: Entry) -> None:
    """A problem set as an input of a run."""
    name, context = (str(entry.label), "evaluation") if entry.label.benchmark else ("problems", "training")
    about = described(Path(entry.path), place_of(run.recipe, entry.label.benchmark))
    journal.input(name, entry.identity, entry.path, context, about)


def arm_rows(run: Run, summary: Row) -> list[Row]:
    """One row an arm: its settings, scores with intervals, the paired gain over the base student, and costs."""
    table: list[Row] = []
    for name, arm in summary["arms"].items():
        row = {**about(run, Label(name)), **scores(arm), **gain(summary, name)}
        row.pop("seed", None)
        table.append(row | {k: arm[k] for k in COSTS if k in arm})
    return table


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A table as MLflow shows it among a run's artifacts."""
    import pandas as pd

    pd.DataFrame(list(rows)).to_json(path, orient="split", index=False, double_precision=15)
