"""The report of a synthetic run: what the summary says, and that a page is drawn from whatever is there."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import ROOT
from matplotlib.figure import Figure

from paced import weighting
from paced.config import Weights
from paced.config.reading import load_recipe
from paced.config.stages import WeightsConfig
from paced.errors import CacheError, DataError
from paced.evaluation.compare import compare
from paced.report import build, plots, table, write_summary
from paced.report.lengths import alarms, length
from paced.report.page import PICTURES, data_grid
from paced.report.record import read
from paced.report.summary import draw, summarise
from paced.report.tables import amount, headline, markdown, tables, verdicts
from paced.stage import STAGES, Job, Spec
from paced.storage.artifacts import Ref
from paced.storage.files import read_record, write_record
from paced.storage.runs import write_recipe
from paced.storage.tables import PASS_RATES, SCORES

ARMS = (
    ("paced", "beta", "two_stage"),
    ("paced_forward", "beta", "forward"),
    ("paced_reverse", "beta", "reverse"),
    ("uniform", "uniform", "two_stage"),
    ("hard_filter", "hard_filter", "two_stage"),
)
SECONDS = {"rollouts": 20, "teacher": 6, "train": 7, "evaluate": 4}
SKILL = (0.86, 0.76, 0.29, 0.10, 0.03, 0.001)  # of the base student, by level


class Synthetic:
    """Writes the artifacts and the run.json of a run with made-up numbers of a realistic size."""

    def __init__(self, root: Path, seeds: Sequence[int] = (0, 1, 2), arms: Any = ARMS, problems: int = 240):
        self.home, self.folder = root / "home", root / "runs" / "trial"
        self.seeds, self.arms, self.problems = seeds, arms, problems
        self.rng = np.random.default_rng(0)
        self.stages: list[dict[str, Any]] = []

    def artifact(
        self, stage: str, config: dict[str, Any], counts: dict[str, float], fill: Any = None, **inputs: Ref
    ) -> Ref:
        named = {name.replace("__", "/"): ref for name, ref in inputs.items()}
        job = Job(Spec(stage=stage, home=str(self.home), config=config, inputs=named))
        if fill:
            fill(job)
        job.counts |= counts
        job.began -= SECONDS.get(stage, 0.1)
        return job.finish()

    def add(self, label: str, ref: Ref, arm: str | None = None, seed: int | None = None) -> Ref:
        self.stages.append(
            {
                "label": label,
                "stage": ref.kind,
                "arm": arm,
                "seed": seed,
                "path": ref.path,
                "identity": ref.identity,
                "cached": label.startswith("benchmark/"),
                "seconds": 0.1,
                "counts": {},
            }
        )
        return ref

    def pass_rates(self, scheme: str, correct: np.ndarray) -> list[dict[str, Any]]:
        config = WeightsConfig(scheme=scheme, weights=Weights())  # pyright: ignore
        raw = weighting.raw_weights(correct.astype(float), 8.0 - correct, config)
        weight = weighting.normalised(raw, "kept")
        return [
            {
                "problem_id": f"t{i}", "samples": 8, "correct": int(c), "wrong": int(8 - c), "unknown": 0,
                "truncated": 0, "pass_rate": c / 8, "low": 0.0, "high": 1.0, "raw_weight": raw[i], "weight": weight[i],
            }
            for i, c in enumerate(correct)
        ]  # fmt: skip

    def scores(self, gain: float, forgotten: float) -> Any:
        rows: list[dict[str, Any]] = []
        skills = [("main", level + 1, min(skill + gain * (1 - skill), 1)) for level, skill in enumerate(SKILL)]
        for benchmark, level, skill in [*skills, ("sorting", None, 0.93 - forgotten)]:
            for i in range(self.problems // 6):
                rate = np.random.default_rng([i, level or 0]).beta(8 * skill + 0.01, 8 * (1 - skill) + 0.01)
                rows += [
                    {
                        "benchmark": benchmark, "problem_id": f"{level}-{i}", "level": level, "sample_index": k,
                        "response": "", "tokens": 20, "finish": "stop",
                        "verdict": "correct" if self.rng.random() < rate else "wrong",
                    }
                    for k in range(4)
                ]  # fmt: skip
        return lambda job: job.write("scores.parquet", rows, SCORES)

    def losses(self, first: int, steps: int, level: float) -> Any:
        def fill(job: Job) -> None:
            lines = [
                {
                    "step": first + i + 1, "loss": 0.0, "gradient_norm": 1.0, "learning_rate": 1e-4, "mean_weight": 1,
                    "kl_per_token": level * float(np.exp(-(first + i) / 30) + 0.1) * self.rng.lognormal(0, 0.15),
                    "tokens": 900,
                }
                for i in range(steps)
            ]  # fmt: skip
            job.folder.mkdir(parents=True)
            (job.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            job.add("metrics.jsonl")

        return fill

    def write(self, status: str = "completed", stages: int | None = None) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        run = {
            "name": "trial",
            "home": str(self.home),
            "status": status,
            "seeds": list(self.seeds),
            "arms": [{"name": n, "scheme": scheme, "schedule": schedule} for n, scheme, schedule in self.arms],
            "weights": Weights().model_dump(),
            "stages": self.stages[:stages],
            "log": [],
        }
        (self.folder / "run.json").write_text(json.dumps(run))
        return self.folder

    def run(self) -> "Synthetic":
        """Every stage of every arm and seed, in the order a run makes them."""
        evaluations: dict[str, Ref] = {}
        for name in ("main", "sorting"):
            self.add(f"benchmark/{name}", self.artifact("prepare", {"data": name}, {"problems": 240}))
        base = self.artifact("evaluate", {"of": "base"}, {"tokens": 9000, "computed": 1120}, self.scores(0, 0))
        evaluations["base__0"] = self.add("base/evaluate", base, "base")
        for seed in self.seeds:
            self.add(f"{seed}/prepare", self.artifact("prepare", {"seed": seed}, {"problems": 512}), None, seed)
            counts = {"tokens": 90_000, "samples": 4096, "truncated": 41, "reused": 0, "computed": 4096}
            rolled = self.add(f"{seed}/rollouts", self.artifact("rollouts", {"seed": seed}, counts), None, seed)
            correct = self.rng.choice(9, 512, p=np.array([1937, 260, 168, 112, 83, 85, 106, 134, 185]) / 3070)
            for arm, scheme, schedule in self.arms:
                evaluations[f"{arm}__{seed}"] = self.train(arm, scheme, schedule, seed, rolled, correct)
        pairs = [("paced", "uniform"), ("paced", "hard_filter"), ("paced", "paced_forward"), ("paced", "base")]
        pairs = [[*pair] for pair in pairs if {*pair} <= {"base", *(arm[0] for arm in self.arms)}]
        config = {"benchmarks": [{"name": "main"}, {"name": "sorting", "retention": True}], "pairs": pairs}
        self.add("compare", self.artifact("compare", config, {}, compare, **evaluations))
        return self

    def train(self, arm: str, scheme: str, schedule: str, seed: int, rolled: Ref, correct: np.ndarray) -> Ref:
        def stage(step: str, kind: str, counts: dict[str, float], fill: Any = None, **more: Any) -> None:
            config = {"step": step, "scheme": scheme, "seed": seed, **more}
            self.add(f"{arm}/{seed}/{step}", self.artifact(kind, config, counts, fill), arm, seed)

        rows = self.pass_rates(scheme, correct)
        stage("weights", "weights", {}, lambda job: job.write("pass_rates.parquet", rows, PASS_RATES))
        kept = sum(row["weight"] > 0 for row in rows)
        forward, reverse = {"forward": (60, 0), "reverse": (0, 60), "two_stage": (36, 24)}[schedule]
        if forward:
            counts = {"teacher_tokens": 24 * kept, "tokens": 24 * kept, "computed": 2 * kept}
            # arms of one scheme share this artifact, as they share their first weights
            stage("teacher", "teacher", counts)
            losses = self.losses(0, forward, 0.5)
            stage("train_forward", "train", {"steps": forward, "tokens": 900 * forward}, losses, arm=arm)
        if forward and reverse:
            counts = {"tokens": 30_000, "samples": 1024, "truncated": 10, "computed": 1024}
            stage("rescore", "rollouts", counts, arm=arm)
            stage("reweight", "weights", {}, arm=arm)
        for number in range(2 if reverse else 0):
            steps = reverse // 2
            counts = {"tokens": 800 * steps, "samples": 32 * steps, "truncated": steps // 4, "computed": 32 * steps}
            stage(f"sample_{number}", "rollouts", counts, arm=arm)
            losses = self.losses(forward + number * steps, steps, 0.35)
            stage(f"train_reverse_{number}", "train", {"steps": steps, "tokens": 800 * steps}, losses, arm=arm)
        gain = {"beta": 0.12, "uniform": 0.05, "hard_filter": 0.07}[scheme]
        counts = {"tokens": 9000, "reused": 0, "computed": 1120}
        stage("evaluate", "evaluate", counts, self.scores(gain, 0.06 if forward else 0.03), arm=arm)
        return Ref(**{k: v for k, v in self.stages[-1].items() if k in ("path", "identity")}, kind="evaluate")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    synthetic = Synthetic(tmp_path_factory.mktemp("whole"), problems=120).run()
    synthetic.write()
    return synthetic


def test_the_summary_carries_scores_and_costs(whole: Synthetic) -> None:
    summary = write_summary(whole.folder)
    assert read_record(whole.folder / "summary.json") == summary
    assert list(summary["arms"]) == ["base", *(arm[0] for arm in ARMS)]
    compared = next(s for s in whole.stages if s["label"] == "compare")
    comparison = json.loads((Path(compared["path"]) / "comparison.json").read_text())
    for name, arm in summary["arms"].items():
        for metric in ("accuracy", "by_level", "retention"):
            assert arm[metric] == comparison["arms"][name][metric]
    assert set(summary["arms"]["paced"]["accuracy"]) == {"mean", "low", "high", "problems", "samples", "seeds"}
    assert summary["comparisons"] == comparison["comparisons"]


def test_costs_by_hand(whole: Synthetic) -> None:
    arms = write_summary(whole.folder)["arms"]
    cost = {name: {key: arm[key] for key in ("sampled_tokens", "train_tokens", "steps")} for name, arm in arms.items()}
    assert cost["base"] == {"sampled_tokens": 0, "train_tokens": 0, "steps": 0}
    # shared rollouts 90,000, rescoring 30,000, on-policy samples 24 x 800
    assert cost["paced"] == {"sampled_tokens": 139_200, "train_tokens": 36 * 900 + 24 * 800, "steps": 60}
    assert cost["paced_forward"] == {"sampled_tokens": 90_000, "train_tokens": 60 * 900, "steps": 60}
    assert cost["paced_reverse"] == {"sampled_tokens": 90_000 + 48_000, "train_tokens": 48_000, "steps": 60}
    assert cost["uniform"]["sampled_tokens"] == 49_200  # its first weights need no pass rates
    assert arms["uniform"]["teacher_tokens"] == 24 * 512
    assert arms["uniform"]["teacher_tokens_saved"] == 0
    assert arms["paced"]["teacher_tokens_saved"] == pytest.approx(1 - arms["paced"]["teacher_tokens"] / (24 * 512))
    assert arms["paced"]["teacher_tokens"] == arms["paced_forward"]["teacher_tokens"] > 0
    assert (arms["paced_reverse"]["teacher_tokens"], "teacher_tokens_saved" in arms["paced_reverse"]) == (0, False)


def test_stages_say_what_was_reused(whole: Synthetic) -> None:
    stages = {s["name"]: s for s in write_summary(whole.folder)["stages"]}
    assert len(stages) == len(whole.stages)
    assert set(stages["0/rollouts"]) == {"name", "identity", "cached", "reused", "computed", "seconds"}
    assert (stages["0/rollouts"]["reused"], stages["0/rollouts"]["computed"]) == (0, 4096)
    assert (stages["benchmark/main"]["cached"], stages["0/rollouts"]["cached"]) == (True, False)
    assert stages["paced/0/teacher"]["identity"] == stages["paced_forward/0/teacher"]["identity"]


def test_only_seconds_and_cached_differ_between_two_runs_of_one_recipe(tmp_path: Path) -> None:
    def stable(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: stable(v) for k, v in value.items() if k not in ("seconds", "cached")}
        return [stable(v) for v in value] if isinstance(value, list) else value

    arms = ARMS[:1]
    first = write_summary(Synthetic(tmp_path / "a", (0,), arms, 60).run().write())
    again = Synthetic(tmp_path / "b", (0,), arms, 60).run()
    for stage in again.stages:
        stage |= {"cached": True, "seconds": 9.0}
    assert stable(write_summary(again.write())) == stable(first)


def test_the_page_stands_alone(whole: Synthetic) -> None:
    build(whole.folder)
    text = (whole.folder / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "<script" not in text and "http" not in re.sub(r'"data:[^"]*"', "", text)
    assert text.count("<img") == len(PICTURES.keys() - {"snr"})  # which a diagnosis has
    first = text
    build(whole.folder)
    assert (whole.folder / "report.html").read_text() == first


def test_the_page_says_what_was_left_out_of_the_data() -> None:
    rejected = {"empty": 0, "benchmark": 3, "script": 0, "length": 0, "conflict": 0, "duplicate": 1, "gold": 0}
    found = {"problems": 30, "exact": 2, "overlap": 1, "training_exact": 2, "training_overlap": 1}
    clean = {"rows": 1204, "distinct": 1200, "usable": 1200, "problems": 64, "rejected": rejected}
    against = {"words": 13, "share": 0.3, "benchmarks": {"<aime>": found}}
    shown = data_grid({"0/train": clean | {"decontamination": against}, "1/train": clean | {"decontaminated": False}})
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", shown)
    assert cells[:11] == ["0/train", "1,204", "1,200", "-", "3", "-", "-", "-", "1", "-", "1,200"]
    assert cells[-6:] == ["&lt;aime&gt;", "30", "2", "2", "1", "1"]
    assert "at least 30% of their 13-grams" in shown
    assert '<p class="bad">1/train: decontamination was off' in shown


def test_lengths_are_watched_wherever_a_student_answers(whole: Synthetic) -> None:
    arms = write_summary(whole.folder)["arms"]
    stages = {name: [s["stage"] for s in arm["lengths"]] for name, arm in arms.items()}
    assert stages["base"] == ["evaluation"]
    assert stages["paced_forward"] == ["rollouts", "evaluation"]
    assert stages["paced"] == ["rollouts", "rescore", "sample_0", "sample_1", "evaluation"]
    first = arms["paced"]["lengths"][0]
    assert first == {"stage": "rollouts", "samples": 3 * 4096, "mean_tokens": 90_000 / 4096, "truncated": 41 / 4096}
    last = {"samples": 3 * 4 * 120, "mean_tokens": 20, "truncated": 0}
    assert arms["paced"]["lengths"][-1] == {"stage": "evaluation"} | last


def lengths_of(**stages: tuple[int, int]) -> list[dict[str, Any]]:
    """Of 1,000 samples each, from mean length and number cut off."""
    return [length(name, [{"samples": 1000, "tokens": 1000 * t, "truncated": c}]) for name, (t, c) in stages.items()]


@pytest.mark.parametrize(
    ("schedule", "stages", "says"),
    [
        ("two_stage", {"sample_0": (100, 20), "sample_1": (149, 60), "evaluation": (400, 60)}, ""),
        ("two_stage", {"sample_0": (100, 20), "sample_1": (100, 20), "sample_2": (160, 20)}, "arm: sample 2: responses "
         "of 160 tokens on average, the first round's 100"),
        ("two_stage", {"sample_0": (100, 20), "sample_1": (100, 80)}, "arm: sample 1: 8% of responses met the token "
         "limit, the first round's 2%"),
        ("reverse", {"sample_0": (100, 20), "evaluation": (160, 20)}, "arm: evaluation: responses of 160 tokens on "
         "average, the base student's 100"),
        ("two_stage", {"sample_0": (100, 20), "evaluation": (100, 90)}, "arm: evaluation: 9% of responses met the "
         "token limit, the base student's 2%"),
        ("forward", {"evaluation": (400, 100)}, ""),
        ("forward", {"rollouts": (400, 110)}, "rollouts: 11% of 1000 responses met the token limit, and one without"),
    ],
)  # fmt: skip
def test_an_alarm_where_stage_2_inflates_lengths(schedule: str, stages: dict[str, Any], says: str) -> None:
    base = {"lengths": lengths_of(evaluation=(100, 20))}
    lines = alarms({"base": base, "arm": {"schedule": schedule, "lengths": lengths_of(**stages)}})
    assert len(lines) == bool(says)
    assert all(line.startswith(says) for line in lines)


def test_few_samples_raise_no_alarm_by_chance() -> None:
    few = [length(f"sample_{r}", [{"samples": 20, "tokens": 400, "truncated": cut}]) for r, cut in ((0, 1), (1, 4))]
    lines = alarms({"base": {"lengths": []}, "arm": {"schedule": "reverse", "lengths": few}})
    assert [line for line in lines if "first round" in line] == []


def test_an_alarm_is_seen_on_the_page_and_in_the_terminal(tmp_path: Path) -> None:
    synthetic = Synthetic(tmp_path, (0,), ARMS[:1], 60).run()
    for stage in synthetic.stages:
        if stage["label"].endswith("sample_1"):
            manifest = read_record(Path(stage["path"]) / "manifest.json")
            manifest["counts"]["tokens"] *= 3
            write_record(Path(stage["path"]) / "manifest.json", manifest)
    summary, _ = build(synthetic.write())
    assert len(summary["warnings"]) == 1
    assert "WARNING: paced: sample 1: responses of 75 tokens on average, the first round's 25" in table(summary)
    page = (synthetic.folder / "report.html").read_text()
    assert '<p class="bad">paced: sample 1: responses of 75 tokens' in page
    assert "<td>75.0<small>0.8% cut off</small></td>" in page


def test_every_picture_is_a_figure(whole: Synthetic) -> None:
    drawn = build(whole.folder)[1]
    assert set(drawn) == PICTURES.keys() - {"snr"}
    assert all(isinstance(figure, Figure) for figure in drawn.values())
    bars = drawn["pass_rates"].axes[0].patches
    assert sum(bar.get_height() for bar in bars) == pytest.approx(512)  # pyright: ignore
    (kernel,) = [line for line in drawn["pass_rates"].axes[1].get_lines() if line.get_label() == "beta"]
    x, y = np.asarray(kernel.get_xdata()), np.asarray(kernel.get_ydata())
    assert np.allclose(y, 4 * x * (1 - x))  # p (1 - p) over its peak of 1/4
    shares = [bar.get_height() for bar in drawn["weights"].axes[0].patches]  # pyright: ignore
    assert sum(shares) == pytest.approx(3)  # one a scheme


def test_every_stage_takes_its_part_of_the_time() -> None:
    figure = plots.seconds({"shared by all": {"preflight": 2, "rollouts": 1, "diagnose": 30}})
    assert [text.get_text() for text in figure.axes[0].texts] == ["33 s"]
    trained, drawn = {"train"}, {"train_forward", "train_reverse", "rescore", "reweight", "sample"}
    assert plots.STEPS.keys() == STAGES.keys() - trained | drawn


@pytest.mark.parametrize(
    ("chosen", "forward", "reverse"),
    [
        ({"one": None, "two": None}, "forward KL", "reverse KL"),
        ({"one": "jsd", "two": "jsd"}, "JSD", "JSD"),
        ({"one": None, "two": "akl"}, "forward KL, AKL", "reverse KL"),  # only the first has a second stage
    ],
)
def test_a_panel_names_the_losses_of_its_arms(chosen: dict[str, str | None], forward: str, reverse: str) -> None:
    curves = {"one": [{"forward": {1: 0.5}, "reverse": {2: 0.4}}], "two": [{"forward": {1: 0.5}}]}
    figure = plots.losses(curves, chosen, plots.colours(["base", *curves]))
    assert [axes.get_title("left") for axes in figure.axes] == [
        f"stage 1: {forward} on the teacher's answers", f"stage 2: {reverse} on own samples",
    ]  # fmt: skip


def test_the_terminal_table_is_aligned(whole: Synthetic) -> None:
    summary = write_summary(whole.folder)
    text = table(summary)
    scores, costs, pairs = text.split("\n\n")
    lines = scores.splitlines()
    assert len(lines) == len(costs.splitlines()) - 1 == 1 + 1 + len(ARMS)
    assert len({len(line) for line in lines}) == 1
    assert max(map(len, text.splitlines())) <= 120
    paced = summary["arms"]["paced"]
    assert f"{100 * paced['accuracy']['mean']:.1f}" in next(line for line in lines if line.startswith("paced "))
    assert f" {-100 * paced['teacher_tokens_saved']:.0f}% " in costs
    assert len(pairs.splitlines()) == 1 + len(summary["comparisons"])
    assert "undecided" in pairs and "better" in pairs


def test_the_tables_as_markdown(whole: Synthetic) -> None:
    summary = write_summary(whole.folder)
    lines = [line for line in markdown(summary).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row for row in rows if not row[0].startswith("---")] == [
        list(row) for found in tables(summary) for row in found.rows
    ]
    assert [row for row in rows if row[0].startswith("---")] == [
        ["---" if i in found.left else "---:" for i in range(len(found.rows[0]))] for found in tables(summary)
    ]


def test_a_run_in_a_line() -> None:
    base = {"accuracy": {"mean": 0.4, "low": 0.36, "high": 0.44}}
    arm = {"accuracy": {"mean": 0.515, "low": 0.477, "high": 0.552}}
    gained = {"a": "two_stage", "b": "base", "metric": "accuracy", "difference": 0.118, "low": 0.092, "high": 0.144}
    summary = {"arms": {"base": base, "two_stage": arm}, "comparisons": [{**gained, "metric": "retention"}, gained]}
    assert headline(summary) == "two_stage: accuracy 51.5% [47.7, 55.2], +11.8 points on base [+9.2, +14.4]"
    assert headline({"arms": {"base": {}, "two_stage": {}}, "comparisons": []}) == ""  # nothing was judged


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.01, 0.02, "better"), (-0.02, -0.01, "worse"), (0.0, 0.1, "undecided"), (-1, 1, "undecided")],
)
def test_a_word_for_the_interval(low: float, high: float, word: str) -> None:
    assert verdicts([{"difference": (low + high) / 2, "low": low, "high": high}]) == [word]


def test_words_hold_for_all_differences_together() -> None:
    """What is decided alone is not among twenty, of which one would be by chance; what is clear stays."""
    just = {"difference": 0.018, "low": 0.004, "high": 0.032}
    clear = {"difference": -0.1, "low": -0.12, "high": -0.08}
    nothing = {"difference": 0.0, "low": -0.02, "high": 0.02}
    assert verdicts([just]) == ["better"]
    assert verdicts([just, clear, *[nothing] * 18]) == ["undecided", "worse", *["undecided"] * 18]


def test_amounts() -> None:
    counts = (0, 940, 999.6, 3712, 34_149, 139_200, 999_600, 1_204_000, 5.44e9)
    shown = ["0", "940", "1.00 k", "3.71 k", "34.1 k", "139 k", "1.00 M", "1.20 M", "5.44 G"]
    assert [amount(count) for count in counts] == shown


def test_hostile_names_are_shown_not_run(tmp_path: Path) -> None:
    name = '<script>alert("x")</script>$\\frac$'
    synthetic = Synthetic(tmp_path, (0,), [("paced", "beta", "forward")], 60).run()
    run = json.loads(synthetic.write().joinpath("run.json").read_text())
    text = json.dumps(run).replace('"trial"', json.dumps(name)).replace('"paced"', json.dumps(name))
    text = text.replace("paced/0/", name.replace("\\", "\\\\").replace('"', '\\"') + "/0/")
    (synthetic.folder / "run.json").write_text(text)
    summary, _ = build(synthetic.folder)
    assert summary["arms"][name]["steps"] == 60
    page = (synthetic.folder / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    pictures = [base64.b64decode(data).decode() for data in re.findall(r'base64,([^"]+)"', page)]
    assert pictures and not any("<script" in picture for picture in pictures)


@pytest.mark.parametrize("stages", [0, 1, 4, 5, 7, 9, 12])
def test_a_half_finished_run_shows_what_is_there(tmp_path: Path, stages: int) -> None:
    synthetic = Synthetic(tmp_path, (0, 1), ARMS[:2], 60).run()
    summary, _ = build(synthetic.write("failed", stages))
    assert summary["status"] == "failed"
    assert len(summary["stages"]) == stages
    assert "accuracy" not in summary["arms"]["paced"]
    assert "no scores" in table(summary)
    page = (synthetic.folder / "report.html").read_text()
    assert "There are no scores" in page
    assert ("<img" in page) == (stages > 0)
    assert "steps" not in summary["arms"]["paced_forward"]  # not begun is not free


def test_costs_are_of_finished_seeds(tmp_path: Path) -> None:
    synthetic = Synthetic(tmp_path, (0, 1), ARMS[:1], 60).run()
    cut = next(i for i, s in enumerate(synthetic.stages) if s["label"] == "paced/1/train_forward")
    assert write_summary(synthetic.write("failed", cut))["arms"]["paced"]["steps"] == 60


def test_an_artifact_that_is_gone_is_left_out(tmp_path: Path) -> None:
    synthetic = Synthetic(tmp_path, (0,), ARMS[:1], 60).run()
    folder = synthetic.write()
    places = {s["label"]: Path(s["path"]) for s in synthetic.stages}
    (places["paced/0/weights"] / "manifest.json").unlink()
    assert "pass_rates" not in build(folder)[1]
    assert len(write_summary(folder)["stages"]) == len(places)


def test_a_damaged_artifact_is_not_left_out(tmp_path: Path) -> None:
    synthetic = Synthetic(tmp_path, (0,), ARMS[:1], 60).run()
    (place,) = [Path(s["path"]) for s in synthetic.stages if s["label"] == "paced/0/train_forward"]
    (place / "metrics.jsonl").write_text("{}")
    with pytest.raises(CacheError, match="damaged"):
        build(synthetic.write())


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run folder"):
        build(tmp_path)


def test_the_report_needs_no_torch() -> None:
    code = "import sys, paced.report, paced.evaluation.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_report_says_what_the_run_was_made_from(tmp_path: Path) -> None:
    synthetic = Synthetic(tmp_path, (0,), ARMS[:1], 60).run()
    recipe = load_recipe(ROOT / "recipes" / "tiny.yaml", ("teacher.path=models/<teacher>",))
    write_recipe(synthetic.write(), recipe)
    build(synthetic.folder)
    page = (synthetic.folder / "report.html").read_text()
    assert f"<dt>Student</dt><dd>{recipe.student.path} (float32)</dd>" in page
    assert "<dt>Teacher</dt><dd>models/&lt;teacher&gt;</dd>" in page
    assert "<dt>Problems</dt><dd>tiny, generated: 3072 problems</dd>" in page
    assert "<dt>Benchmark sorting</dt><dd>tiny, generated: 192 problems</dd>" in page


def test_no_chart_of_levels_where_problems_have_none(whole: Synthetic) -> None:
    run, made = read(whole.folder)
    summary = summarise(run, made)
    assert "levels" in draw(run, made, summary)
    for arm in summary["arms"].values():
        arm.pop("by_level", None)
    drawn = draw(run, made, summary)
    assert "levels" not in drawn and "accuracy" in drawn


@pytest.mark.parametrize("steps", [2, 4])
def test_a_few_steps_are_drawn_as_they_are(steps: int) -> None:
    curve = {step: 1.0 / step for step in range(1, steps + 1)}
    figure = plots.losses({"paced": [{"forward": curve}]}, {"paced": None}, {"paced": "#000000"})
    mean = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert list(mean.get_ydata()) == list(curve.values())  # pyright: ignore
