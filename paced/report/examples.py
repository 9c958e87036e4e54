"""Problems to read: question, gold, the teacher's answer, the student's before and after. Imports no torch.

Ten training problems of a run's first seed and last arm, from those that the student never solves to those it always
does; texts come from the stores of samples and targets.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from paced.config.label import Label
from paced.errors import CacheError
from paced.report.record import Made, RunRecord
from paced.storage.store import Collection
from paced.storage.tables import SAMPLES, TARGETS

PROBLEMS, RESPONSES = 10, 2  # how many problems, and responses of each kind to each


class ReadResponse(NamedTuple):
    """A text, whether it is right, and whether the token limit cut it off."""

    text: str
    verdict: str
    cut: bool


class Example(NamedTuple):
    """One problem; ``after`` is empty where the arm samples no training problems once it is trained."""

    question: str
    gold: str
    pass_rate: float
    weight: float
    teacher: list[ReadResponse]
    before: list[ReadResponse]
    after: list[ReadResponse]


def examples(run: RunRecord, made: Mapping[Label, Made]) -> list[Example]:
    """What there is to show; nothing where a stage or a part of the stores is gone."""
    arms, seed = [arm for arm in run.arms if arm.scheme], run.seeds[0]
    if not arms:
        return []
    arm = arms[-1].name
    shared = {step: made.get(Label(seed=seed, step=step)) for step in ("prepare", "rollouts")}
    prepared, sampled, weighed = shared["prepare"], shared["rollouts"], made.get(Label(arm, seed, "weights"))
    if prepared is None or sampled is None or weighed is None:
        return []
    rates = pd.read_parquet(weighed.file("pass_rates.parquet"))
    chosen = spread(rates)
    own = [made[e.label] for e in run.stages if e.label in made and e.label.student == Label(arm, seed)]
    later = [stage for stage in own if stage.manifest.kind == "rollouts"]
    try:
        before = responses(sampled, chosen)
        after: dict[str, list[ReadResponse]] = {}
        for stage in later:  # the last that has drawn a problem counts
            after |= responses(stage, chosen)
        asked = made.get(Label(arm, seed, "teacher"))
        answers = responses(asked, chosen) if asked else {}
    except CacheError:  # collected since, or damaged, which 'paced cache verify' tells of
        return []
    about = pd.read_parquet(prepared.file("problems.parquet"), columns=["problem_id", "question", "gold"])
    texts = {p: (q, g) for p, q, g in zip(about["problem_id"], about["question"], about["gold"], strict=True)}
    figures = {p: (r, w) for p, r, w in zip(rates["problem_id"], rates["pass_rate"], rates["weight"], strict=True)}
    return [
        Example(question, gold, float(rate), float(weight), answers.get(p, []), before.get(p, []), after.get(p, []))
        for p in chosen
        for question, gold in [texts[p]]
        for rate, weight in [figures[p]]
    ]


def spread(rates: pd.DataFrame) -> list[str]:
    """Problems whose pass rates are spread over those there are, the lowest first."""
    known = pd.DataFrame(rates[rates["pass_rate"].notna()]).sort_values(["pass_rate", "problem_id"])
    rate, ids = known["pass_rate"].to_numpy(float), known["problem_id"].tolist()
    free = np.ones(len(ids), bool)
    for wanted in np.linspace(0, 1, min(PROBLEMS, len(ids))):
        free[np.where(free, np.abs(rate - wanted), np.inf).argmin()] = False
    return [name for name, left in zip(ids, free, strict=True) if not left]


def responses(stage: Made, problems: Sequence[str]) -> dict[str, list[ReadResponse]]:
    """The first responses to each of some problems: of a stage of rollouts the student's, else the teacher's."""
    rolled = stage.manifest.kind == "rollouts"
    table, kind, schema = ("rollouts", "samples", SAMPLES) if rolled else ("answers", "targets", TARGETS)
    about = json.loads(stage.file(f"{kind}.json").read_text())
    found = pd.read_parquet(stage.file(f"{table}.parquet"), filters=[("problem_id", "in", list(problems))])
    found = found.sort_values(["problem_id", "sample_index"]).groupby("problem_id").head(RESPONSES)
    store = Collection(Path(stage.entry.path).parents[2], kind, about, schema, about["tokens"])
    keys = list(zip(found["sample_key" if rolled else "target_key"], found["part"], strict=True))
    texts = [row["response"] for row in store.rows(keys, ["response"])] if keys else []
    cut = found["finish"] == "length" if rolled else np.zeros(len(found), bool)
    told: dict[str, list[ReadResponse]] = {}
    for problem, text, verdict, short in zip(found["problem_id"], texts, found["verdict"], cut, strict=True):
        told.setdefault(problem, []).append(ReadResponse(text, verdict, bool(short)))
    return told
