"""The report's problems to read: spread over pass rates, each text from the store, nothing in it run as HTML."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from paced.config import Weights
from paced.config.label import Label
from paced.report.examples import PROBLEMS, examples, spread
from paced.report.reading import LONGEST, reading
from paced.report.record import Made, RunArm, RunRecord
from paced.stage import Job, Spec
from paced.storage.artifacts import read_manifest
from paced.storage.runs import Entry
from paced.storage.store import Collection
from paced.storage.tables import ANSWERS, PASS_RATES, ROLLOUTS, SAMPLES, TARGETS
from paced.storage.tables import PROBLEMS as PROBLEMS_TABLE

HOSTILE = "<script>alert('x')</script> & more"
SEED = 3


class Small:
    """Twelve problems: problem i is solved in i of 11 samples. Two samples before, one after, an answer of some."""

    def __init__(self, home: Path):
        self.home, self.made = home, dict[Label, Made]()
        self.names = [f"p{i:02}" for i in range(12)]
        texts = [{"problem_id": name, "question": f"{HOSTILE} {name}", "gold": f"gold {name}"} for name in self.names]
        prepared = Label(seed=SEED, step="prepare")
        self.add("prepare", prepared, lambda job: job.write("problems.parquet", texts, PROBLEMS_TABLE))
        rates = [
            {"problem_id": n, "pass_rate": i / 11 if i < 11 else None, "weight": float(0 < i < 11)}
            for i, n in enumerate(self.names)
        ]
        weighed = Label("paced", SEED, "weights")
        self.add("weights", weighed, lambda job: job.write("pass_rates.parquet", rates, PASS_RATES))
        self.sampled(Label(seed=SEED, step="rollouts"), "before", self.names, 3)
        self.sampled(Label("paced", SEED, "rescore"), "first", self.names[:6], 1)
        self.sampled(Label("paced", SEED, "sample_0"), "after", self.names[:4], 1)
        self.answered()
        entries = [m.entry for m in self.made.values()]
        arms = [RunArm(name="paced", scheme="beta", schedule="two_stage")]
        self.run = RunRecord(name="r", status="completed", seeds=[SEED], arms=arms, weights=Weights(), stages=entries)

    def add(self, stage: str, label: Label, fill: Any) -> None:
        job = Job(Spec(stage=stage, home=str(self.home), config={"label": str(label)}))
        fill(job)
        ref = job.finish()
        entry = Entry(
            label=label, stage=stage, arm=label.arm or None, seed=label.seed, path=ref.path, identity=ref.identity
        )
        self.made[label] = Made(entry, read_manifest(ref.folder))

    def sampled(self, label: Label, kind: str, names: Sequence[str], number: int) -> None:
        about = {"tokens": "sha256:t", "of": str(label)}
        rows = [
            {"sample_key": f"{n}.{k}", "problem_id": n, "sample_index": k, "response": f"{kind} {n}.{k} {HOSTILE}"}
            for n in names
            for k in reversed(range(number))
        ]
        part = Collection(self.home, "samples", about, SAMPLES, "sha256:t").write(rows)
        verdicts = {0: "correct", 1: "wrong", 2: "unknown"}
        told = [
            {
                **{k: row[k] for k in ("problem_id", "sample_index", "sample_key")}, "part": part,
                "verdict": verdicts[row["sample_index"]], "finish": "length" if row["sample_index"] else "stop",
            }
            for row in rows
        ]  # fmt: skip

        def fill(job: Job) -> None:
            job.write_json("samples.json", about)
            job.write("rollouts.parquet", told, ROLLOUTS)

        self.add("rollouts", label, fill)

    def answered(self) -> None:
        about = {"tokens": "sha256:t"}
        rows = [
            {"sample_key": f"t.{n}", "problem_id": n, "sample_index": 0, "response": "x" * (LONGEST + 5)}
            for n in self.names[1:11]
        ]
        part = Collection(self.home, "targets", about, TARGETS, "sha256:t").write(rows)
        told = [
            {"problem_id": r["problem_id"], "sample_index": 0, "target_key": r["sample_key"], "part": part}
            | {"verdict": "correct"}
            for r in rows
        ]

        def fill(job: Job) -> None:
            job.write_json("targets.json", about)
            job.write("answers.parquet", told, ANSWERS)

        self.add("teacher", Label("paced", SEED, "teacher"), fill)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return Small(tmp_path_factory.mktemp("small"))


def test_texts_are_those_of_the_problem(small: Small) -> None:
    found = examples(small.run, small.made)
    assert [round(11 * e.pass_rate) for e in found] == sorted(round(11 * e.pass_rate) for e in found)
    assert len(found) == PROBLEMS and found[0].pass_rate == 0
    for example in found:
        name, number = example.gold.removeprefix("gold "), round(11 * example.pass_rate)
        assert name == f"p{number:02}" and example.question.endswith(name)
        assert [(r.text.split(" <")[0], r.verdict, r.cut) for r in example.before] == [
            (f"before {name}.0", "correct", False), (f"before {name}.1", "wrong", True),
        ]  # fmt: skip
        last = ["after"] if number < 4 else ["first"] if number < 6 else []
        assert [r.text.split(" ")[0] for r in example.after] == last
        assert len(example.teacher) == (number > 0) == (example.weight > 0)


def test_problems_are_spread_over_pass_rates() -> None:
    rates = [0.0] * 500 + [0.5] * 3 + [1.0] * 40 + [None]
    table = pd.DataFrame({"problem_id": [f"{i:03}" for i in range(len(rates))], "pass_rate": rates})
    chosen = {name: rates[int(name)] for name in spread(table)}
    assert len(chosen) == PROBLEMS and list(chosen) == sorted(chosen)
    assert {rate: list(chosen.values()).count(rate) for rate in (0.0, 0.5, 1.0)} == {0.0: 3, 0.5: 3, 1.0: 4}
    assert spread(table[:1]) == ["000"] and spread(table[-1:]) == []


def test_the_page_is_light_and_runs_nothing(small: Small) -> None:
    html = reading(examples(small.run, small.made))
    assert "<script" not in html and html.count("&lt;script&gt;") > 10
    assert html.count("<details") == PROBLEMS and html.count("<details class=\"sample\" open") == 1
    assert "(5 more characters)" in html and "x" * (LONGEST + 1) not in html
    assert len(html) < 60_000 and "http" not in html
    assert reading([]) == ""


def test_what_was_collected_is_left_out(small: Small) -> None:
    store = small.home / "store"
    shutil.move(store, small.home / "away")
    assert examples(small.run, small.made) == []
    shutil.move(small.home / "away", store)
    without = {label: made for label, made in small.made.items() if label.step != "teacher"}
    assert all(e.teacher == [] and e.before for e in examples(small.run, without))
    assert examples(small.run, {}) == []
