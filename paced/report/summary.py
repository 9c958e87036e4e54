"""The report of a run, from ``run.json`` and artifacts alone: summary.json, report.html, a table for the terminal.

A report can be redrawn at any time, also of a run that stopped half-way: what is missing is left out. Costs are what
the artifacts cost when they were computed, not what a run that found them paid. Imports no torch.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paced import weighting
from paced.config import Data
from paced.config.catalog import SCHEDULES
from paced.config.label import BASE, Label
from paced.config.stages import WeightsConfig
from paced.errors import CacheError
from paced.evaluation.compare import by_problem
from paced.report import lengths, plots
from paced.report.examples import examples
from paced.report.page import page
from paced.report.reading import reading
from paced.report.record import Made, RunArm, RunRecord, read
from paced.statistics import Array, bootstrap_mean
from paced.storage.files import replacing, vouch, vouched, write_record
from paced.storage.runs import RunSummary, StageSummary, read_recipe
from paced.storage.tables import Row

COMPARE = Label(step="compare")
DRAWN = "report.json"  # which bytes report.html has
METRICS = ("accuracy", "by_level", "by_benchmark", "retention", "k", "pass_at_k", "truncated", "mean_tokens", "unknown")


def write_summary(run: Path) -> RunSummary:
    """Write ``summary.json`` into a run folder; returns what it says."""
    summary = summarise(*read(run))
    write_record(run / "summary.json", summary)
    return summary


def build(run: Path) -> tuple[RunSummary, dict[str, Figure]]:
    """Write ``summary.json`` and ``report.html`` into a run folder; returns the summary and the pictures by name."""
    summary, (record, made) = write_summary(run), read(run)
    pictures = draw(record, made, summary)
    with replacing(run / "report.html") as temporary:
        temporary.write_text(
            page(
                summary,
                {name: plots.svg(figure) for name, figure in pictures.items()},
                ingredients(run),
                reading(examples(record, made)),
            ),
            encoding="utf-8",
        )
    vouch(run / DRAWN, run / "report.html")
    return summary, pictures


def ingredients(run: Path) -> dict[str, str]:
    """What a run was made from, for people: models, data, benchmarks. Empty where the recipe is gone."""
    try:
        recipe = read_recipe(run)
    except CacheError:
        return {}
    teacher = recipe.teacher.path or "the student itself"
    found = {
        "Recipe": recipe.name,
        "Student": f"{recipe.student.path} ({recipe.student.dtype})",
        "Teacher": teacher + (", with the reference solution in view" if recipe.teacher.privileged else ""),
        "Problems": source_of(recipe.data),
    }
    return found | {f"Benchmark {b.name}": source_of(b.data) for b in recipe.evaluation.benchmarks}


def source_of(data: Data) -> str:
    """Where problems come from."""
    if data.generated:
        return f"{data.source}, generated: {data.problems} problems"
    return f"{data.source}: {data.path}" + (f", {data.problems} problems" if data.problems else "")


def drawn(run: Path) -> bool:
    """Whether a run's report is there as it was drawn."""
    return vouched(run / DRAWN)


def summarise(run: RunRecord, made: Mapping[Label, Made]) -> RunSummary:
    """The contents of summary.json; only ``cached`` and ``seconds`` differ between two runs of one recipe."""
    comparison: Row = {"benchmarks": [], "arms": {}, "comparisons": []}
    if COMPARE in made:
        comparison = json.loads(made[COMPARE].file("comparison.json").read_text())
    arms: dict[str, Row] = {}
    for name, arm in ({BASE: None, **{a.name: a for a in run.arms}} if run.arms else {}).items():
        scores = comparison["arms"].get(name, {})
        settings = {"scheme": arm.scheme, "schedule": arm.schedule} if arm and arm.scheme else {}
        arms[name] = settings | {key: scores[key] for key in METRICS if key in scores} | cost(run, made, arm)
        arms[name]["lengths"] = watched(run, made, arm, scores)
    for name, share in saved(run, arms).items():
        arms[name]["teacher_tokens_saved"] = share
    stages: list[StageSummary] = [
        {
            "name": str(e.label),
            "identity": e.identity,
            "cached": e.cached,
            "reused": int(counts.get("reused", 0)),
            "computed": int(counts.get("computed", 0)),
            "seconds": made[e.label].manifest.seconds if e.label in made else e.seconds,
        }
        for e in run.stages
        for counts in [made[e.label].manifest.counts if e.label in made else e.counts]
    ]
    summary: RunSummary = {
        "name": run.name,
        "status": run.status,
        "seeds": run.seeds,
        "data": data(made),
        "benchmarks": comparison["benchmarks"],
        "arms": arms,
        "comparisons": comparison["comparisons"],
        "warnings": lengths.alarms(arms),
        "stages": stages,
    }
    if measured := next((m for m in made.values() if m.entry.stage == "diagnose"), None):
        summary["diagnosis"] = json.loads(measured.file("diagnosis.json").read_text())
    return summary


def data(made: Mapping[Label, Made]) -> dict[str, Row]:
    """What was left out of each data set, by name: the training data's by seed, and the benchmarks'."""
    found = {
        m.entry.label: json.loads(m.file("cleaning.json").read_text())
        for m in made.values()
        if "cleaning.json" in [f.name for f in m.manifest.files]  # an older version of the stage wrote none
    }
    return {
        label.benchmark or f"{label.seed}/train": {
            key: len(value) if isinstance(value, list) else value for key, value in report.items()
        }
        for label, report in found.items()
    }


def of_seed(made: Mapping[Label, Made], arm: str, seed: int) -> list[Made]:
    """The stages of one arm and seed that have left an artifact."""
    return [m for m in made.values() if m.entry.arm == arm and m.entry.seed == seed]


def counted_seeds(run: RunRecord, made: Mapping[Label, Made], arm: str) -> list[int]:
    """The seeds an arm's costs are averaged over: those it finished, or, if it finished none, those it began."""
    finished = [seed for seed in run.seeds if Label(arm, seed, "evaluate") in made]
    return finished or [seed for seed in run.seeds if of_seed(made, arm, seed)]


def cost(run: RunRecord, made: Mapping[Label, Made], arm: RunArm | None) -> dict[str, float]:
    """What making a student took, mean a seed; evaluation is not counted, and the base student costs nothing.

    Shared stages count in full for each arm that uses them, as if it were the only one: the rollouts behind its first
    weights (not for a scheme that keeps all problems, which needs no pass rates), and teacher answers in the store.
    """
    if arm is None:
        return {"teacher_tokens": 0, "sampled_tokens": 0, "train_tokens": 0, "steps": 0, "seconds": 0.0}
    totals = [spent(made, arm, seed) for seed in counted_seeds(run, made, arm.name)]
    return {key: sum(t[key] for t in totals) / len(totals) for key in totals[0]} if totals else {}


def spent(made: Mapping[Label, Made], arm: RunArm, seed: int) -> dict[str, float]:
    """What making the student of one arm and seed took; of a model made elsewhere nothing is known."""
    if arm.schedule is None:
        return {}
    stages = behind(made, arm, seed)
    return {
        "teacher_tokens": sum(m.count("teacher_tokens") for m in stages if m.entry.stage == "teacher"),
        "sampled_tokens": sum(m.count("tokens") for m in stages if m.entry.stage == "rollouts"),
        "train_tokens": sum(m.count("tokens") for m in stages if m.entry.stage == "train"),
        "steps": sum(m.count("steps") for m in stages if m.entry.stage == "train"),
        "seconds": sum(m.manifest.seconds for m in stages),
    }


def behind(made: Mapping[Label, Made], arm: RunArm, seed: int) -> list[Made]:
    """The stages that made a student, with the shared rollouts if its weights need pass rates."""
    stages = [m for m in of_seed(made, arm.name, seed) if m.entry.stage != "evaluate"]
    if not arm.keeps_all and (shared := Label(seed=seed, step="rollouts")) in made:
        stages.append(made[shared])
    return stages


def watched(run: RunRecord, made: Mapping[Label, Made], arm: RunArm | None, scores: Mapping[str, Any]) -> list[Row]:
    """Mean length and share cut off wherever a student answered: rollouts, each round of stage 2, the benchmarks."""
    found: list[Row] = []
    if arm:
        sampled: dict[str, list[Mapping[str, float]]] = {}
        for seed in run.seeds:
            shared = made.get(Label(seed=seed, step="rollouts"))
            stages = [shared] if shared else []
            stages += [m for m in of_seed(made, arm.name, seed) if m.entry.stage == "rollouts"]
            for m in stages:
                sampled.setdefault(m.entry.label.step, []).append(m.manifest.counts)
        found = [lengths.length(stage, counts) for stage, counts in sampled.items()]
    if "mean_tokens" in scores:
        written = {key: scores[key] for key in ("mean_tokens", "truncated")}
        found.append({"stage": lengths.EVALUATION, "samples": scores["accuracy"]["samples"]} | written)
    return found


def students(folder: Path) -> list[Row]:
    """Every student that was judged, the base first: ``label`` (BASE or ARM/SEED), identity and path, costs, and
    accuracy, retention and each benchmark's accuracy as {mean, low, high}, 95% intervals by bootstrap over problems.
    """
    run, made = read(folder)
    benchmarks = json.loads(made[COMPARE].file("comparison.json").read_text())["benchmarks"]
    retention = [b["name"] for b in benchmarks if b["retention"]]
    found: list[Row] = []
    for arm, seed in [(None, 0), *((arm, seed) for arm in run.arms for seed in run.seeds)]:
        label = Label(BASE) if arm is None else Label(arm.name, seed)
        scores = made[label.at("evaluate")]
        table = by_problem(pd.read_parquet(scores.file("scores.parquet"), dtype_backend="pyarrow"))
        table = pd.DataFrame(table[table["known"] > 0])
        rate, of = table["correct"].to_numpy(float) / table["known"].to_numpy(float), table["benchmark"].to_numpy(str)
        kept = np.isin(of, retention)
        groups = {"accuracy": ~kept, "retention": kept} | {b["name"]: of == b["name"] for b in benchmarks}
        shares = {k: bootstrap_mean(rate[chosen])._asdict() for k, chosen in groups.items() if chosen.any()}
        model = next((m for m in reversed(trained(made, arm.name, seed))), None) if arm else None
        found.append(
            {"label": label, "identity": scores.manifest.inputs["model"], "path": model.entry.path if model else ""}
            | {k: v for k, v in shares.items() if k in ("accuracy", "retention")}
            | {"benchmarks": {b["name"]: shares[b["name"]] for b in benchmarks if b["name"] in shares}}
            | {"cost": spent(made, arm, seed) if arm else cost(run, made, None)}
        )
    return found


def saved(run: RunRecord, arms: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Share of teacher tokens an arm does not need, against an arm that keeps all problems if there is one.

    Arms that only train on their own samples (schedule ``reverse``) ask the teacher for no answers under any scheme,
    so they have no share.
    """
    asking = [a for a in run.arms if a.schedule and SCHEDULES[a.schedule].forward]
    answered = [a for a in asking if arms[a.name].get("teacher_tokens")]
    uniform = next((arms[a.name]["teacher_tokens"] for a in answered if a.keeps_all), None)
    return {a.name: 1 - arms[a.name]["teacher_tokens"] / uniform for a in answered} if uniform else {}


def draw(run: RunRecord, made: Mapping[Label, Made], summary: Mapping[str, Any]) -> dict[str, Figure]:
    """Every picture that there is data for, by the names in paced.report.page.PICTURES."""
    arms: dict[str, Row] = summary["arms"]
    paint = plots.colours(list(arms))
    drawn: dict[str, Figure] = {}
    tables = first_weights(run, made)
    if tables:
        everyone = next(iter(tables.values()))
        bins = min(max(t["samples"].to_numpy(int).max() for t in everyone), 20)
        share = np.linspace(0, 1, 201)
        curves: dict[str, tuple[Array, Array]] = {}
        for arm in run.arms:
            if arm.scheme and arm.weighting in tables:
                config = WeightsConfig(scheme=arm.scheme, weights=run.weights.with_exponents(arm.exponents))
                curves[arm.weighting] = share, weighting.raw_weights(bins * share, bins * (1 - share), config)
        problems = np.mean([by_rate(t, bins) for t in everyone], axis=0)
        drawn["pass_rates"] = plots.pass_rates(problems, len(everyone), curves)
        mass = {scheme: np.sum([by_rate(t, bins, "weight") for t in ts], axis=0) for scheme, ts in tables.items()}
        drawn["weights"] = plots.weight_mass({scheme: m / m.sum() for scheme, m in mass.items()})
    losses = {a.name: [loss_curves(ms) for seed in run.seeds if (ms := trained(made, a.name, seed))] for a in run.arms}
    if any(losses.values()):
        drawn["losses"] = plots.losses(losses, {a.name: a.loss for a in run.arms}, paint)
    scored = {name: arm for name, arm in arms.items() if "accuracy" in arm}
    if scored:
        accuracy = {name: arm["accuracy"] for name, arm in scored.items()}
        drawn["accuracy"] = plots.by_arm(accuracy, paint, "accuracy, mean of the seeds, with its 95% interval")
        rows = {
            name: {"all": arm["accuracy"]} | {f"level {level}": v for level, v in arm.get("by_level", {}).items()}
            for name, arm in scored.items()
        }
        if any(len(row) > 1 for row in rows.values()):
            drawn["levels"] = plots.levels(rows, paint)
    if "diagnosis" in summary:
        drawn["snr"] = plots.snr(summary["diagnosis"])
    kept = {name: arm["retention"] for name, arm in arms.items() if "retention" in arm}
    if kept:
        drawn["retention"] = plots.by_arm(kept, paint, "accuracy on what was never trained on")
    spent = {name: arm["teacher_tokens"] for name, arm in arms.items() if arm.get("teacher_tokens")}
    if spent:
        share_saved = {name: arms[name].get("teacher_tokens_saved", 0.0) for name in spent}
        drawn["teacher_tokens"] = plots.teacher_tokens(spent, share_saved, paint)
    if made:
        drawn["seconds"] = plots.seconds(seconds(run, made))
    return drawn


def first_weights(run: RunRecord, made: Mapping[Label, Made]) -> dict[str, list[pd.DataFrame]]:
    """Pass rates and weights of the first stage: weighting to one table a seed."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for scheme in dict.fromkeys(a.weighting for a in run.arms):
        names = [a.name for a in run.arms if a.weighting == scheme]
        found = [next((made[k] for n in names if (k := Label(n, seed, "weights")) in made), None) for seed in run.seeds]
        if any(found):
            tables[scheme] = [pd.read_parquet(m.file("pass_rates.parquet")) for m in found if m]
    return tables


def by_rate(table: pd.DataFrame, bins: int, column: str | None = None) -> Array:
    """Problems, or the sum of a column, by pass rate rounded to k / bins: [bins + 1]; unknown pass rates left out."""
    rate = table["pass_rate"].to_numpy(float)
    known = ~np.isnan(rate)
    values = table[column].to_numpy(float) if column else np.ones(len(table))
    return np.bincount(np.rint(rate[known] * bins).astype(int), values[known], bins + 1).astype(np.float64)


def trained(made: Mapping[Label, Made], arm: str, seed: int) -> list[Made]:
    return [m for m in of_seed(made, arm, seed) if m.entry.stage == "train"]


def loss_curves(stages: Sequence[Made]) -> plots.Curves:
    """Divergence a token by stage and step of one student."""
    curves: dict[str, dict[int, float]] = {}
    for m in stages:
        curve = curves.setdefault(m.entry.step.removeprefix("train_"), {})
        lines = map(json.loads, m.file("metrics.jsonl").read_text().splitlines())
        curve |= {line["step"]: line["kl_per_token"] for line in lines}
    return curves


def seconds(run: RunRecord, made: Mapping[Label, Made]) -> dict[str, dict[str, float]]:
    """Seconds by row (what all arms share, the base student, each arm) and step, mean over the row's seeds."""
    rows: dict[str, dict[str, float]] = {}
    for name, arm in {"shared by all": None, BASE: BASE, **{a.name: a.name for a in run.arms}}.items():
        mine = [m for m in made.values() if m.entry.arm == arm]
        seeds = len({m.entry.seed for m in mine} - {None})
        row: dict[str, float] = {}
        for m in mine:
            row[m.entry.step] = row.get(m.entry.step, 0.0) + m.manifest.seconds / (1 if m.entry.seed is None else seeds)
        if row:
            rows[name] = row
    return rows
