"""Journals: what is noted again, what is not, and what MLflow's own store then holds."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import TINY
from mlflow import MlflowClient

from paced.config.label import BASE, Label
from paced.config.reading import load_recipe
from paced.storage.artifacts import Ref, commit, describe
from paced_tasks import pipeline, record
from paced_tasks.journal import PARENT, Journal
from paced_tasks.replay import replay
from paced_tasks.run import Run
from paced_tasks.tracking import Tracker


def figures(journal: Journal, name: str) -> list[float]:
    """Every value noted of a metric, in order."""
    return [e["values"][name] for e in journal.entries() if e["kind"] == "metrics" and name in e["values"]]


def stage(journal: Journal, identity: str, loss: float) -> bool:
    noted = journal.begin({"paced.identity": identity}, {"model": identity}, identity)
    for step in (1, 2):
        journal.metrics(step, {"loss": loss / step})
    journal.end("FINISHED")
    return noted


def test_only_of_another_identity_all_is_noted_anew(tmp_path: Path) -> None:
    """A file was replaced and then put back: the same run each time."""
    noted = [stage(Journal(tmp_path, "s"), identity, loss) for identity, loss in (("a", 4), ("a", 4), ("b", 6))]
    assert noted == [True, False, True]
    assert figures(Journal(tmp_path, "s"), "loss") == [4, 2, 6, 3]
    back = Journal(tmp_path, "s")
    assert back.finished()
    assert back.begin({}, {}, "a") and not back.finished()
    back.metrics(2, {"loss": 2})
    assert figures(back, "loss") == [4, 2, 6, 3, 2]


def test_mlflow_shows_the_figures_of_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same MLflow run, whose parameters it lets nobody change."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "runs" / "r"
    tracker, journal = Tracker(folder, tmp_path, "r"), Journal(folder, "s")
    Journal(folder, PARENT).begin({}, {})
    for identity, loss in (("a", 4), ("b", 6)):
        stage(journal, identity, loss)
        assert tracker.flush("s", wait=True)
    client, run_id = MlflowClient(tracker.uri), tracker.state()["runs"]["s"]["id"]
    data = client.get_run(run_id).data
    assert (data.metrics["loss"], data.tags["paced.identity"], data.params) == (3, "b", {"model": "a"})
    assert [m.value for m in client.get_metric_history(run_id, "loss")] == [4, 2, 6, 3]
    with journal.path.open("r+") as file:  # a first line that was cut
        rest = file.read()[30:]
        file.seek(0)
        file.truncate()
        file.write(rest)
    assert replay(folder, tmp_path) == (2, 2)


@pytest.mark.parametrize("cut", ["{", '{"kind": "metrics", "values": {"x": 1}', '{"kind": "metrics", "st'])
def test_a_line_that_was_cut_says_nothing(cut: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path, "s")
    journal.begin({}, {})
    with journal.path.open("a") as file:
        file.write(cut)
    journal.metrics(1, {"x": 2.0})
    assert [e["kind"] for e in journal.entries()] == ["begin", "damaged", "metrics"]
    assert figures(journal, "x") == [2.0]


def scored(home: Path, accuracy: float) -> Ref:
    """An artifact of stage evaluate, as it comes of a benchmark that is replaced."""
    folder = home / "artifacts" / "evaluate" / str(accuracy)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps({"arithmetic": {"mean": accuracy}}))
    return commit(
        folder, kind="evaluate", identity=f"sha256:{accuracy}", inputs={"model": "sha256:m"}, config={}, algorithm=1,
        counts={}, files=[describe(folder / "evaluation.json")], seconds=1.0,
    )  # fmt: skip


def test_a_run_tracks_what_its_stages_are_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all of it is found: the stage's figures, the student's and the run's own."""
    run = Run(name="r", home=str(tmp_path), recipe=load_recipe(TINY))
    values: list[float] = []

    def built(_folder: Path) -> Any:
        share = dict.fromkeys(("mean", "low", "high"), values[-1])
        return {"arms": {"base": {"accuracy": share}}, "comparisons": []}, {}

    def finish(_run: Run, _journal: Journal, rows: Any, summary: Any) -> None:
        student = {"label": Label(BASE), "identity": "m", "path": "", "cost": {}, "benchmarks": {}}
        record.student_journal(run, student | summary["arms"]["base"], rows)

    monkeypatch.setattr("paced.report.build", built)
    monkeypatch.setattr("paced.report.write_summary", lambda folder: built(folder)[0])
    monkeypatch.setattr(record, "finish", finish)
    monkeypatch.setattr(pipeline, "create_table_artifact", lambda *_, **__: None)
    monkeypatch.setattr(pipeline.Pipeline, "_tell", lambda *_: None)
    (run.folder / "report.html").parent.mkdir(parents=True)
    (run.folder / "report.html").touch()
    for accuracy in (0.25, 0.25, 0.5, 0.25):
        values.append(accuracy)
        stages = pipeline.Pipeline(run, keep=False)
        stages.__enter__()
        ref = scored(tmp_path, accuracy)
        future = SimpleNamespace(state=SimpleNamespace(is_final=lambda: True), result=lambda ref=ref, **_: ref)
        stages._submitted.append(pipeline.Submitted(Label(BASE, step="evaluate"), future))  # type: ignore[arg-type]
        stages._close()
    for label, name in (
        ("base/evaluate", "evaluate/arithmetic/accuracy"), ("base", "accuracy"), (PARENT, "base/accuracy"),
    ):  # fmt: skip
        assert figures(Journal(run.folder, label), name) == [0.25, 0.5, 0.25], label


def test_a_figure_may_be_no_number(tmp_path: Path) -> None:
    """A loss that became infinite is noted, and its line is not taken for a damaged one."""
    journal = Journal(tmp_path, "stage")
    journal.metrics(1, {"loss": float("inf"), "norm": float("nan")})
    [entry] = journal.entries()
    assert entry["kind"] == "metrics" and entry["values"]["loss"] == float("inf")
