"""What a study found: its claims decided, as tables, a picture and an entry for a log. Imports no torch.

Every number follows from the artifacts of the study's runs: the stage 'compare' pairs the arms on the hold-out
problems, and Holm's procedure corrects for all claims on all terms together (paced.statistics.holm).
"""

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from paced.config.label import BASE, Label
from paced.config.stages import compare_config
from paced.config.study import Protocol, Trained
from paced.errors import ConfigError
from paced.evaluation.compare import by_problem
from paced.evaluation.compare_runs import Judged, judged, same_base, same_conditions
from paced.report import plots
from paced.report.record import read
from paced.report.summary import behind
from paced.report.tables import aligned, amount, bracket, mean_and_range, points, verdicts
from paced.stage import Spec, execute, spec_of
from paced.statistics import holm, p_value
from paced.storage.artifacts import Ref, open_file, read_manifest
from paced.storage.files import replacing, write_record
from paced.storage.identity import Commit, digest, short
from paced.storage.tables import Row

WORDS = {"better": "holds", "worse": "does not hold", "undecided": "undecided"}
PREFLIGHT = Label(step="preflight")


class Cost(NamedTuple):
    """FLOPs of making a student, mean of the seeds: what its steps take, and what comes before them."""

    once: float
    steps: float

    @property
    def whole(self) -> float:
        return self.once + self.steps


class Scored(NamedTuple):
    """The students that were trained on one set of terms, and the scores of each by its label, the base's too."""

    trained: list[Trained]
    runs: dict[str, Judged]
    scores: dict[str, Ref]


class Study(NamedTuple):
    """A study's result: rows of ``arms`` and of ``claims``, counts a problem, and when scores were made."""

    arms: list[Row]
    claims: list[Row]
    scores: pd.DataFrame
    first: datetime.datetime
    last: datetime.datetime


def costs(folder: Path) -> dict[str, Cost]:
    """What each arm of a run cost, in FLOPs, evaluation and prompts not counted.

    A token costs a model of P parameters 2 P to read or write, and 6 P to learn from. The teacher writes an answer and
    reads it once more for its targets; in stage 2 it reads what the student wrote.
    """
    run, made = read(folder)
    models = json.loads(made[PREFLIGHT].file("preflight.json").read_text())
    student, teacher = (models[role]["parameters"] for role in ("student", "teacher"))
    found: dict[str, Cost] = {}
    for arm in run.arms:
        total = {"once": 0.0, "steps": 0.0}
        for stage in (m for seed in run.seeds for m in behind(made, arm, seed)):
            tokens, purpose = stage.count("tokens"), stage.entry.label.purpose
            if stage.entry.stage == "rollouts":
                total["steps" if purpose == "sample" else "once"] += 2 * student * tokens
            elif stage.entry.stage == "teacher":
                total["once"] += 4 * teacher * stage.count("teacher_tokens")
            elif stage.entry.stage == "train":
                total["steps"] += (6 * student + 2 * teacher * (purpose == "train_reverse")) * tokens
        found[arm.name] = Cost(*(flops / len(run.seeds) for flops in total.values()))
    return found


def equal_cost(spent: dict[str, Cost], steps: dict[str, int]) -> dict[str, int]:
    """The steps with which each arm costs as much as the dearest one does with the ``steps`` that they took."""
    most = max(cost.whole for cost in spent.values())
    return {arm: max(steps[arm], round(steps[arm] * (most - cost.once) / cost.steps)) for arm, cost in spent.items()}


def scored(trained: list[Trained], home: Path) -> Scored:
    """Where the scores of these students lie.

    Raises:
        ConfigError: their runs were not judged in the same way, or began with different students.
    """
    runs = {name: judged(home / "runs" / name) for name in dict.fromkeys(t.run for t in trained)}
    first, *others = runs.values()
    for other in others:
        same_conditions(first, other)
        if not same_base(first, other):
            raise ConfigError("settings: all arms of a study begin with the same student; these do not")
    scores = {str(Label(BASE, 0)): first.base}
    for student in trained:
        run = runs[student.run]
        scores |= {str(label): ref for label, ref in run.students.items() if label.arm == student.arm}
    return Scored(trained, runs, scores)


def study(protocol: Protocol, trained: Sequence[Trained], home: Path) -> Study:
    """The result of a study whose arms are trained."""
    arms: list[Row] = []
    claims: list[Row] = []
    tables: list[pd.DataFrame] = []
    retention = [b.name for b in protocol.holdout if b.retention]
    for equal in protocol.equal:
        here = scored([t for t in trained if t.equal == equal], home)
        spec = comparison(protocol, here, home)
        found = json.loads(open_file(execute(spec, lambda event: None), "comparison.json").read_text())
        spent = {t.arm: costs(home / "runs" / t.run)[t.arm] for t in here.trained}
        for name, scores in found["arms"].items():
            own = next((t for t in here.trained if t.arm == name), None)
            about: Row = {"rate": own.rate, "steps": own.steps, "flops": spent[name].whole} if own else {}
            arms.append({"equal": equal, "arm": name} | about | {k: scores.get(k) for k in ("accuracy", "retention")})
        table = counts(here.scores).assign(equal=equal)
        tables.append(table)
        pairs = {(c["a"], c["b"], c["metric"]): c for c in found["comparisons"]}
        for claim in protocol.claims:
            chosen = pd.DataFrame(table[table["benchmark"].isin(retention) == (claim.metric == "retention")])
            effect = {"effect": effect_size(chosen, claim.a, claim.b)}
            claims.append({"equal": equal, **claim.model_dump(), **pairs[claim.a, claim.b, claim.metric], **effect})
    made = [datetime.datetime.fromisoformat(read_manifest(ref.folder).created) for ref in scores_of(trained, home)]
    return Study(arms, decided(claims), pd.concat(tables, ignore_index=True), min(made), max(made))


def scores_of(trained: Sequence[Trained], home: Path) -> list[Ref]:
    """Every artifact that holds scores on the hold-out problems."""
    runs = [judged(home / "runs" / name) for name in {t.run for t in trained}]
    return [ref for run in runs for ref in (run.base, *run.students.values())]


def comparison(protocol: Protocol, here: Scored, home: Path) -> Spec:
    """The stage 'compare' on one set of terms: the pairs that claims are about, and each arm beside the base."""
    pairs = dict.fromkeys([*((c.a, c.b) for c in protocol.claims), *((arm.name, BASE) for arm in protocol.arms)])
    recipe = next(iter(here.runs.values())).recipe
    return spec_of(compare_config(recipe, pairs), home=str(home), inputs=here.scores)


def counts(scores: dict[str, Ref]) -> pd.DataFrame:
    """Samples and right ones of every arm, seed and problem."""
    found: list[pd.DataFrame] = []
    for name, ref in scores.items():
        table = by_problem(pd.read_parquet(open_file(ref, "scores.parquet"), dtype_backend="pyarrow"))
        label = Label.parse(name)
        found.append(table.assign(arm=label.arm, seed=label.seed))
    columns = ["arm", "seed", "benchmark", "problem_id", "level", "samples", "known", "correct"]
    return pd.DataFrame(pd.concat(found, ignore_index=True)[columns])


def effect_size(table: pd.DataFrame, a: str, b: str) -> float | None:
    """The mean over seeds of the difference of two arms' accuracies in its standard deviations over seeds (Cohen's d of
    pairs); None with one seed, or without any spread.
    """
    known = pd.DataFrame(table[table["known"] > 0])
    rates = known["correct"].to_numpy(float) / known["known"].to_numpy(float)
    arms, seeds = known["arm"].to_numpy(str), known["seed"].to_numpy(int)
    first, second = (
        np.array([rates[(arms == arm) & (seeds == seed)].mean() for seed in np.unique(seeds[arms == arm])])
        for arm in (a, b)
    )
    gaps = first - second  # the base's one score stands beside each seed
    return float(gaps.mean() / gaps.std(ddof=1)) if len(gaps) > 1 and np.ptp(gaps) > 0 else None


def decided(claims: Sequence[Row]) -> list[Row]:
    """The claims with their p-values, corrected for all of them, and whether each holds."""
    apart = [{key: c[key] - c["above"] for key in ("difference", "low", "high")} for c in claims]
    corrected = holm([p_value(**gap) for gap in apart])
    return [
        claim | {"p": p, "verdict": WORDS[word]}
        for claim, p, word in zip(claims, corrected, verdicts(apart), strict=True)
    ]


def cells(found: Study) -> tuple[list[list[str]], list[list[str]]]:
    """The tables of arms and of claims, each with its heading."""
    arms = [["equal", "arm", "learning rate", "steps", "FLOPs", "accuracy, %", "95%", "retention, %", "95%"]]
    for row in found.arms:
        own = [f"{row['rate']:g}", str(row["steps"]), amount(row["flops"])] if "rate" in row else ["", "", ""]
        shares = [mean_and_range(row[metric]) for metric in ("accuracy", "retention")]
        arms.append([row["equal"], row["arm"], *own, *shares[0], *shares[1]])
    claims = [["equal", "claim", "a - b", "of", "above", "difference, points", "95%", "effect", "p", "verdict"]]
    for row in found.claims:
        effect = "" if row["effect"] is None else f"{row['effect']:+.1f}"
        numbers = [points(row["above"]), points(row["difference"]), bracket(row), effect, f"{row['p']:.3f}"]
        pair = f"{row['a']} - {row['b']}"
        claims.append([row["equal"], row["says"], pair, row["metric"], *numbers, row["verdict"]])
    return arms, claims


def text(found: Study) -> str:
    """Both tables for the terminal."""
    arms, claims = cells(found)
    return f"{aligned(arms, left=(0, 1))}\n\n{aligned(claims, left=(0, 1, 2, 3, 9))}"


def entry(protocol: Protocol, file: Path, found: Study, commit: Commit | None) -> str:
    """A dated entry in Markdown; a draft's without a protocol's commit says that it is one.

    Raises:
        ConfigError: scores on the hold-out problems are older than the protocol.
    """
    if commit and found.first < commit.time:
        raise ConfigError(
            f"{file} was committed at {commit.time.isoformat()}, and scores on its hold-out problems were made at "
            f"{found.first.isoformat()}: it may have been written after a look at them. Take other hold-out problems, "
            "or say --draft"
        )
    size = found.scores.groupby("benchmark")["problem_id"].nunique().to_dict()
    told = f"commit {commit.name} of {commit.time.date()}" if commit else "a draft: not committed before it was run"
    rates = "as the recipe has it"
    if chosen := protocol.learning_rate:
        among = ", ".join(f"{rate:g}" for rate in chosen.candidates)
        rates = f"for each arm the best of {among} on {', '.join(b.name for b in chosen.validation)}"
    return f"""## {found.last.date()}: study {protocol.name}{"" if commit else " (draft)"}

{protocol.question} Protocol `{file}`, {told}. By `paced study {file}`: {len(protocol.seeds)} seeds, hold-out problems
{", ".join(f"{n:,} of {name}" for name, n in size.items())}; learning rate {rates}. A claim holds, or does not, if its
difference is above, or below, what it says with an interval that leaves that out after Holm's correction for all
{len(found.claims)} claims together; the intervals shown are of 95% each, over seeds and problems. Effect: the
difference in its standard deviations over seeds. FLOPs: those of sampling, teacher and training, a seed.

{grid(cells(found)[1])}

![The differences with their intervals](images/study_{protocol.name}.png)

{grid(cells(found)[0])}
"""


def grid(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first row its heading."""
    heading, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([heading, "|" + "---|" * len(rows[0]), *body])


def write(protocol: Protocol, found: Study, trained: Sequence[Trained], home: Path) -> Path:
    """Write picture, raw numbers and ``study.json`` into the study's folder, which is returned."""
    settings = protocol.model_dump(mode="json")
    folder = home / "studies" / f"{protocol.name}-{short(digest(settings), 8)}"
    several = len(protocol.equal) > 1
    labels = [f"{c['says']}{', at equal ' + c['equal'] if several else ''}" for c in found.claims]
    figure = plots.claims([c | {"label": label} for c, label in zip(found.claims, labels, strict=True)])
    saved: dict[str, Callable[[Path], object]] = {
        f"study_{protocol.name}.png": lambda path: path.write_bytes(plots.rendered(figure, "png")),
        f"{protocol.name}.parquet": lambda path: found.scores.to_parquet(path, index=False),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, save in saved.items():
        with replacing(folder / name) as temporary:
            save(temporary)
    write_record(
        folder / "study.json",
        {"protocol": settings, "trained": [t._asdict() for t in trained], "arms": found.arms, "claims": found.claims},
    )
    return folder


def best_rate(arm: str, folders: Mapping[float, Path]) -> float:
    """The learning rate, of those that runs were made with, at which an arm is most accurate; of equals the least."""
    return max(sorted(folders), key=lambda rate: judged(folders[rate]).summary["arms"][arm]["accuracy"]["mean"])
