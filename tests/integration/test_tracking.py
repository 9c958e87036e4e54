"""MLflow: one parent run, one child a stage, whatever is retried, repeated or unreachable."""

import getpass
import json
import os
import re
import signal
import socket
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from harness import (
    COMMIT,
    STAGES,
    STUDENTS,
    Command,
    Finished,
    Outcome,
    Server,
    commits_since,
    finished,
    mlflow_server,
    paced,
    run_arguments,
    stages_of,
)  # fmt: skip
from mlflow import MlflowClient
from mlflow.entities import Run

from paced_tasks.addresses import CHARTS, VIEW_TAG, experiment_tags
from paced_tasks.journal import PARENT, Journal
from paced_tasks.replay import replay
from paced_tasks.tracking import Tracker


def tracked(client: MlflowClient, name: str) -> dict[str, Run]:
    """Label -> MLflow run, of one PACED run; fails on a second run of a label and on a lost child."""
    experiment = client.get_experiment_by_name("paced")
    assert experiment
    runs = client.search_runs([experiment.experiment_id], f"tags.`paced.run` = '{name}'")
    assert Counter(r.data.tags["paced.label"] for r in runs) == Counter([PARENT, *STAGES, *STUDENTS])
    found = {r.data.tags["paced.label"]: r for r in runs}
    parent = found[PARENT].info.run_id
    assert {r.data.tags.get("mlflow.parentRunId") for label, r in found.items() if label != PARENT} == {parent}
    assert {r.info.status for r in runs} == {"FINISHED"}
    return found


def check_steps(client: MlflowClient, runs: dict[str, Run], run: Finished) -> None:
    """Every training step's every metric is there, once, and is the artifact's own number."""
    for label, stage in run.stages.items():
        if stage["stage"] != "train":
            continue
        lines = [json.loads(line) for line in (Path(stage["path"]) / "metrics.jsonl").read_text().splitlines()]
        for key in set(lines[0]) - {"step"}:
            history = client.get_metric_history(runs[label].info.run_id, f"{label.rpartition('/')[2]}/{key}")
            assert sorted((m.step, m.value) for m in history if m.step) == [(x["step"], x[key]) for x in lines]


def test_what_mlflow_holds(second_run: Finished) -> None:
    """After the same command twice."""
    client = MlflowClient(f"sqlite:///{second_run.home / 'mlflow' / 'mlflow.db'}")
    runs = tracked(client, second_run.folder.name)

    parent = runs[PARENT]
    assert parent.data.params["weights.alpha"] == "1.0"
    assert parent.data.params["data.problems"] == "100"
    assert parent.data.params["arms.two_stage.schedule"] == "two_stage"
    accuracy = second_run.numbers()["arms"]["two_stage"]["accuracy"]["mean"]
    assert parent.data.metrics["two_stage/accuracy"] == pytest.approx(accuracy)
    kept = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert {"recipe.yaml", "report.html", "summary.json", "levels.png"} <= kept
    path = client.download_artifacts(parent.info.run_id, "summary.json")
    assert json.loads(Path(path).read_text())["arms"] == second_run.summary["arms"]

    for name, key in (("accuracy", "mean"), ("accuracy_low", "low"), ("accuracy_high", "high")):
        share = second_run.summary["arms"]["paced"]["accuracy"][key]
        assert parent.data.metrics[f"paced/{name}"] == pytest.approx(share)
    assert {i.dataset.name for i in parent.inputs.dataset_inputs} == {
        "problems", "benchmark/arithmetic", "benchmark/sorting",
    }  # fmt: skip

    check_steps(client, runs, second_run)
    train = runs["paced/0/train_forward"]
    assert train.data.params["training.learning_rate"] == "0.0005"
    assert {i.dataset.name for i in train.inputs.dataset_inputs} == {"problems"}
    scores = runs["paced/0/evaluate"]
    assert {i.dataset.name for i in scores.inputs.dataset_inputs} == {"benchmark/arithmetic", "benchmark/sorting"}
    for label, stage in second_run.stages.items():
        path = client.download_artifacts(runs[label].info.run_id, "manifest.json")
        assert json.loads(Path(path).read_text())["identity"] == stage["identity"]

    versions = [v for v in client.search_model_versions("name = 'tiny'") if v.tags["run"] == second_run.folder.name]
    assert [v.tags["identity"] for v in versions] == [second_run.stages["two_stage/0/train_reverse_1"]["identity"]]


def test_what_a_run_was_made_from(second_run: Finished) -> None:
    """Tags name recipe, commit, data and models; params are what decides the result and has an effect, nothing else."""
    client = MlflowClient(f"sqlite:///{second_run.home / 'mlflow' / 'mlflow.db'}")
    parent = tracked(client, second_run.folder.name)[PARENT]
    tags, params = parent.data.tags, parent.data.params
    manifest = json.loads((Path(second_run.stages["paced/0/teacher"]["path"]) / "manifest.json").read_text())
    assert tags["paced.data"] == second_run.stages["0/prepare"]["identity"] == manifest["inputs"]["problems"]
    assert tags["paced.student.identity"] == manifest["inputs"]["student"] == params["student.identity"]
    assert tags["paced.teacher.identity"] == manifest["inputs"]["teacher"]
    assert (tags["paced.flow"], tags["paced.recipe"]) == ("distill", "tiny")
    assert tags["paced.commit"].removesuffix("-dirty") in commits_since(COMMIT)
    idle = ("runtime", "decontamination", "weights.low", "data.shots", "data.path", "student.path", "student.engine.")
    assert [key for key in params if key.startswith(idle)] == []
    assert "None" not in params.values()
    assert re.search(r"\(http://127.0.0.1:4200/runs/flow-run/[0-9a-f-]{36}\)", tags["mlflow.note.content"])


def test_what_the_list_of_runs_shows(second_run: Finished) -> None:
    """Columns that matter, who and what has made a run; and of its problem sets rows, levels, columns and digest."""
    client = MlflowClient(f"sqlite:///{second_run.home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("paced")
    assert experiment and experiment_tags().items() <= experiment.tags.items()
    parent = tracked(client, second_run.folder.name)[PARENT]
    shown = json.loads(experiment.tags[VIEW_TAG])["selectedColumns"]
    columns = {name.split("`")[1] for name in shown if name.startswith("metrics.")}
    assert columns and columns | CHARTS.keys() <= parent.data.metrics.keys()
    student = tracked(client, second_run.folder.name)["two_stage/0"]  # which the run registers
    for metric in (metric for metric, kind in CHARTS.items() if kind == "LINE"):
        whole, own = (client.get_metric_history(run.info.run_id, metric) for run in (parent, student))
        assert sorted((m.step, m.value) for m in whole) == sorted((m.step, m.value) for m in own)
    (gain,) = (
        c
        for c in second_run.summary["comparisons"]
        if (c["a"], c["b"], c["metric"]) == ("two_stage", "base", "accuracy")
    )
    for name, value in (("gain", gain["difference"]), ("gain_low", gain["low"]), ("gain_high", gain["high"])):
        assert parent.data.metrics[name] == pytest.approx(value)
    assert parent.data.metrics["accuracy"] == parent.data.metrics["two_stage/accuracy"]
    assert parent.data.tags["mlflow.user"] == parent.data.tags["paced.submitter"] == getpass.getuser()
    assert parent.data.tags["paced.worker"] == f"{getpass.getuser()}@{socket.gethostname()}"
    assert parent.data.tags["mlflow.source.name"] == "paced distill"

    problems = {i.dataset.name: i.dataset for i in parent.inputs.dataset_inputs}["problems"]
    profile = json.loads(problems.profile)
    table = pd.read_parquet(Path(second_run.stages["0/prepare"]["path"]) / "problems.parquet")
    assert profile["num_rows"] == len(table)
    assert profile["levels"] == {str(level): n for level, n in Counter(table["level"].tolist()).items()}
    assert profile["digest"] == second_run.stages["0/prepare"]["identity"]
    assert [c["name"] for c in json.loads(problems.schema)["mlflow_colspec"]] == list(table.columns)


def test_the_view_of_an_older_release(second_run: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run brings it up to date, and leaves alone what kind somebody has said the experiment is of."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = MlflowClient(f"sqlite:///{second_run.home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("paced")
    assert experiment
    chosen = experiment_tags() | {"mlflow.experimentKind": "finetuning"}
    client.set_experiment_tag(experiment.experiment_id, VIEW_TAG, "{}")
    client.set_experiment_tag(experiment.experiment_id, "mlflow.experimentKind", "finetuning")
    assert Tracker(second_run.folder, second_run.home, second_run.folder.name).opens()
    found = client.get_experiment(experiment.experiment_id).tags
    for key, tag in experiment_tags().items():
        client.set_experiment_tag(experiment.experiment_id, key, tag)  # as the other tests expect it
    assert chosen.items() <= found.items()


def test_a_run_for_each_student(second_run: Finished) -> None:
    client = MlflowClient(f"sqlite:///{second_run.home / 'mlflow' / 'mlflow.db'}")
    runs = tracked(client, second_run.folder.name)
    for arm in ("paced", "two_stage"):
        student = runs[f"{arm}/0"]
        scores = pd.read_parquet(Path(second_run.stages[f"{arm}/0/evaluate"]["path"]) / "scores.parquet")
        right = (scores["verdict"] == "correct").groupby(scores["benchmark"]).mean()
        assert student.data.metrics["accuracy"] == pytest.approx(right["arithmetic"])
        assert student.data.metrics["retention"] == pytest.approx(right["sorting"])
        assert student.data.metrics["accuracy_low"] <= right["arithmetic"] <= student.data.metrics["accuracy_high"]
        assert ("consolidation.rounds" in student.data.params) == (arm == "two_stage")
    steps = {
        stage: sorted(m.step for m in client.get_metric_history(runs["two_stage/0"].info.run_id, f"{stage}/loss"))
        for stage in ("train_forward", "train_reverse")
    }
    assert steps == {"train_forward": [1, 2, 3, 4], "train_reverse": [5, 6, 7, 8]}  # both rounds in one curve
    links = runs[PARENT].data.tags["mlflow.note.content"]
    assert all(runs[label].info.run_id in links for label in STUDENTS)


class Troubled(NamedTuple):
    """A run in which a stage process was killed, and then MLflow's server."""

    run: Finished
    server: Server
    replayed: Outcome


@pytest.fixture(scope="module")
def troubled(
    tmp_path_factory: pytest.TempPathFactory, first_run: Finished, prefect_pages: Server
) -> Iterator[Troubled]:
    folder = tmp_path_factory.mktemp("troubled")
    home = folder / "home"
    journal = home / "runs" / first_run.folder.name / "journal" / "paced.0.train_forward.jsonl"
    (folder / "server").mkdir()
    with mlflow_server(folder / "server" / "mlflow.db", folder / "server" / "log") as server:
        env = {"MLFLOW_TRACKING_URI": server.url, "PREFECT_API_URL": prefect_pages.url + "/api"}
        command = Command(home, *run_arguments(), env=env)
        os.kill(next(iter(command.until(lambda: stages_of(home), "a stage process runs"))), signal.SIGKILL)
        command.until(lambda: journal.exists() and '"metrics"' in journal.read_text(), "the first metric")
        server.stop(signal.SIGKILL)
        run = finished(home, command.finish())
        server.start()
        yield Troubled(run, server, paced(home, "mlflow-replay", run.folder.name, env=env))


def test_a_killed_stage_process_is_tried_again(troubled: Troubled, first_run: Finished, prefect_pages: Server) -> None:
    run = troubled.run
    assert run.outcome.err.count("died (signal 9)") == 1
    # PREFECT_API_URL names a server of the user's: the run is there, and it has started none of its own.
    assert not (run.home / "prefect" / "server.log").exists()
    flows = {"flow_runs": {"name": {"like_": run.folder.name}, "state": {"name": {"any_": ["Completed"]}}}}
    # The first run, the same command again, this one.
    assert json.loads(ask(prefect_pages, "flow_runs/count", flows)) == 3
    assert run.numbers() == first_run.numbers()
    assert run.bits == first_run.bits


def ask(server: Server, path: str, question: Any) -> bytes:
    """What Prefect's server answers."""
    url = f"{server.url}/api/{path}"
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(question).encode(), {"Content-Type": "application/json"})
    ) as answer:
        return answer.read()


def test_a_server_that_goes_away(troubled: Troubled, prefect_pages: Server) -> None:
    """The run ends well with one warning; the replay fills the gap; a second one changes nothing."""
    run, server = troubled.run, troubled.server
    warnings = [line for line in run.outcome.err.splitlines() if "MLflow" in line]
    assert len(warnings) == 1
    assert f"paced mlflow-replay {run.folder.name}" in warnings[0]
    assert "Traceback" not in run.outcome.err
    told = json.loads(ask(prefect_pages, "logs/filter", {"logs": {"level": {"ge_": 30}}}))
    assert [log["message"] for log in told if "does not take what is logged" in log["message"]]  # on the run's page
    assert troubled.replayed.status == 0, troubled.replayed.err
    total = len(STAGES) + len(STUDENTS) + 1
    assert troubled.replayed.out.startswith(f"{total} of {total} tracked runs complete at {server.url}")

    client = MlflowClient(server.url)
    runs = tracked(client, run.folder.name)
    check_steps(client, runs, run)
    assert "report.html" in {f.path for f in client.list_artifacts(runs[PARENT].info.run_id)}
    assert len(client.search_model_versions("name = 'tiny'")) == 1


def test_replaying_twice_and_from_the_middle(troubled: Troubled, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent is not sent again, also when nothing remembers that it was."""
    run, server = troubled.run, troubled.server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    total = len(STAGES) + len(STUDENTS) + 1
    assert replay(run.folder, run.home) == (total, total)
    (run.folder / "mlflow.json").unlink()
    assert replay(run.folder, run.home) == (total, total)

    client = MlflowClient(server.url)
    check_steps(client, tracked(client, run.folder.name), run)
    assert len(client.search_model_versions("name = 'tiny'")) == 1


def test_half_a_journal_is_enough(troubled: Troubled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Live: some of a stage's metrics are sent, the rest follows; a line cut by a kill does no harm."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", troubled.server.url)
    tracker, journal = Tracker(tmp_path, tmp_path, "live"), Journal(tmp_path, "stage")
    Journal(tmp_path, PARENT).begin({}, {"a": {"b": [1, 2]}})
    journal.begin({}, {})
    journal.metrics(1, {"loss": 3.0})
    assert tracker.flush("stage")
    with journal.path.open("a") as file:
        file.write('{"kind": "metrics", "st')
    journal.metrics(2, {"loss": 2.0, "other": float("inf")})
    journal.metrics(2, {"loss": 2.0})
    journal.end("FINISHED")
    assert tracker.flush("stage")

    runs: dict[str, Any] = tracker.state()["runs"]
    client = MlflowClient(troubled.server.url)
    history = client.get_metric_history(runs["stage"]["id"], "loss")
    assert [(m.step, m.value) for m in history] == [(1, 3.0), (2, 2.0)]
    assert client.get_run(runs["stage"]["id"]).info.status == "FINISHED"
    assert tracker.flush(PARENT)
    assert client.get_run(runs[PARENT]["id"]).data.params == {"a.b": "[1, 2]"}
