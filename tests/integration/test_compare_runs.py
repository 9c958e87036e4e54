"""``paced compare`` and ``paced evaluate`` on real runs: paired tables, what they refuse, what they leave in MLflow."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pandas as pd
import pyarrow.parquet as pq
import pytest
from harness import TINY, Finished, Outcome, Server, finished, mlflow_server, paced, run_arguments, told
from mlflow import MlflowClient
from mlflow.entities import Run

from paced.errors import ConfigError, DataError
from paced.evaluation.compare_runs import comparison, judged
from paced.stage import execute
from paced.storage.files import read_record, write_record
from paced.storage.identity import file_digest
from paced.storage.runs import read_recipe, write_recipe
from paced_tasks.addresses import RUNS
from paced_tasks.journal import PARENT
from paced_tasks.registry import located

PAIRED = re.compile(r"^(\S+) - (\S+) +(accuracy|retention) +([+-][\d.]+) +\[([+-][\d.]+), ([+-][\d.]+)\]", re.MULTILINE)


class Compared(NamedTuple):
    outcome: Outcome
    server: Server
    env: dict[str, str]
    names: tuple[str, str]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, first_run: Finished, alpha_run: Finished) -> Iterator[Compared]:
    """Two runs that differ in one exponent, sent to a real MLflow server and compared."""
    folder = tmp_path_factory.mktemp("compared")
    with mlflow_server(folder / "mlflow.db", folder / "log") as server:
        home, env = first_run.home, {"MLFLOW_TRACKING_URI": server.url}
        names = first_run.folder.name, alpha_run.folder.name
        for name in names:
            replayed = told(home, "mlflow-replay", name, env=env)
            assert replayed.status == 0, replayed.err
        outcome = paced(home, "compare", *names, env=env)
        assert outcome.status == 0, outcome.err
        yield Compared(outcome, server, env, names)


def rates(run: Finished, label: str, benchmark: str) -> pd.Series:
    scores = pd.read_parquet(Path(run.stages[f"{label}/evaluate"]["path"]) / "scores.parquet")
    scores = scores[(scores["benchmark"] == benchmark) & (scores["verdict"] != "unknown")]
    return (scores["verdict"] == "correct").groupby(scores["problem_id"]).mean()


def test_differences_are_those_of_the_scores(compared: Compared, first_run: Finished, alpha_run: Finished) -> None:
    runs = dict(zip(compared.names, (first_run, alpha_run), strict=True))
    one, two = compared.names
    arms = ("paced", "two_stage")
    found = {(a, b, metric): float(points) for a, b, metric, points, _, _ in PAIRED.findall(compared.outcome.out)}
    pairs = {(f"{run}:{arm}", "base") for run in runs for arm in arms} | {(f"{two}:{a}", f"{one}:{a}") for a in arms}
    assert {pair[:2] for pair in found} == pairs
    assert len(found) == 2 * len(pairs)
    for (a, b, metric), points in found.items():
        sides: list[pd.Series] = []
        for name in (a, b):
            run, _, arm = name.rpartition(":")
            label = "base" if arm == "base" else f"{arm}/0"
            benchmark = "arithmetic" if metric == "accuracy" else "sorting"
            sides.append(rates(runs.get(run, first_run), label, benchmark))
        assert points == pytest.approx(100 * (sides[0] - sides[1]).mean(), abs=0.051)


def comparisons(server: Server) -> list[Run]:
    return MlflowClient(server.url).search_runs(["1"], "tags.`paced.flow` = 'compare'")


def test_what_it_leaves_in_mlflow(compared: Compared, first_run: Finished) -> None:
    client = MlflowClient(compared.server.url)
    (run,) = comparisons(compared.server)
    assert run.info.run_name == "compare: " + ", ".join(compared.names)
    assert run.info.status == "FINISHED"
    assert json.loads(run.data.tags["paced.compared"]) == list(compared.names)
    ids = json.loads(run.data.tags["paced.compared.runs"])
    names = [client.get_run(i).data.tags["paced.run"] for i in ids]
    assert names == list(compared.names)
    assert {client.get_run(i).data.tags["paced.label"] for i in ids} == {PARENT}
    table = json.loads(Path(client.download_artifacts(run.info.run_id, "comparisons.json")).read_text())
    rows = pd.DataFrame(table["data"], columns=table["columns"])
    assert Counter(rows["metric"]) == {"accuracy": 6, "retention": 6}
    base = first_run.summary["arms"]["base"]["accuracy"]
    for name, key in (("accuracy", "mean"), ("accuracy_low", "low"), ("accuracy_high", "high")):
        assert run.data.metrics[f"base/{name}"] == pytest.approx(base[key])
    assert "paired differences" in run.data.tags["mlflow.note.content"]
    link = next(line.split()[1] for line in compared.outcome.out.splitlines() if line.startswith("compare "))
    assert unquote(link) == f'{compared.server.url}/#/compare-runs?runs={json.dumps(ids)}&experiments=["1"]&{RUNS}'
    assert link in run.data.tags["mlflow.note.content"]
    assert " " not in link
    page = next(line.split()[1] for line in compared.outcome.out.splitlines() if line.startswith("table "))
    assert page.endswith(f"{run.info.run_id}?{RUNS}")


def test_again_is_the_same_run(compared: Compared, first_run: Finished) -> None:
    again = paced(first_run.home, "compare", *compared.names, env=compared.env)
    assert again.out == compared.outcome.out
    assert len(comparisons(compared.server)) == 1
    shutil.rmtree(first_run.home / "comparisons")  # nothing here remembers it: it is found by its tags
    assert paced(first_run.home, "compare", *compared.names, env=compared.env).status == 0
    assert len(comparisons(compared.server)) == 1


def test_a_server_that_is_away(compared: Compared, first_run: Finished) -> None:
    """The table is printed all the same, and the command says what to do."""
    env = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    outcome = told(first_run.home, "compare", *compared.names, env=env)
    assert outcome.status == 0
    assert PAIRED.findall(outcome.out) == PAIRED.findall(compared.outcome.out)
    assert "did not take the comparison: the same command sends it later" in outcome.out


def edited(run: Finished, folder: Path, name: str) -> Path:
    """A copy of a run's folder under another name, artifacts of its evaluations included."""
    copy = folder / name
    shutil.copytree(run.folder, copy)
    record = read_record(copy / "run.json")
    record["name"] = name
    for stage in record["stages"]:
        if stage["stage"] == "evaluate":
            place = folder / "artifacts" / stage["label"].replace("/", ".")
            shutil.copytree(run.home / stage["path"], place)
            stage["path"] = str(place)
    write_record(copy / "run.json", record)
    return copy


def rewritten(copy: Path, change: str, value: object) -> None:
    """Set ``a/b`` in the manifest of every evaluation of a copied run; ``~`` stands for a slash in a name."""
    for manifest in (copy.parent / "artifacts").glob("*/manifest.json"):
        content = read_record(manifest)
        *path, last = (key.replace("~", "/") for key in change.split("/"))
        node = content
        for key in path:
            node = node[key]
        node[last] = value
        write_record(manifest, content)


@pytest.mark.parametrize(
    ("change", "value", "words"),
    [
        ("config/sampling/temperature", 1.0, r"evaluation.sampling.temperature differs \(0.7 and 1.0\)"),
        ("config/samples/arithmetic", 4, r"evaluation.samples.arithmetic differs \(1 and 4\)"),
        (
            "inputs/benchmark~sorting",
            "sha256:0123456789abcdef",
            r"benchmark/sorting differs \(problems \w+ and problems",
        ),
    ],
)
def test_runs_judged_differently_are_refused(
    first_run: Finished, tmp_path: Path, change: str, value: object, words: str
) -> None:
    other = edited(first_run, tmp_path, "other")
    rewritten(other, change, value)
    outcome = told(first_run.home, "compare", first_run.folder.name, str(other))
    assert (outcome.status, outcome.out) == (1, "")
    (line,) = outcome.err.splitlines()
    assert re.search(f"runs {first_run.folder.name} and other cannot be compared, because {words}", line), line


def test_the_same_base_must_have_the_same_scores(first_run: Finished, tmp_path: Path) -> None:
    other = edited(first_run, tmp_path, "other")
    folder = tmp_path / "artifacts" / "base.evaluate"
    scores = pq.read_table(folder / "scores.parquet")
    pq.write_table(scores.slice(1), folder / "scores.parquet")
    manifest = read_record(folder / "manifest.json")
    for file in manifest["files"]:
        path = folder / file["name"]
        file |= {"sha256": file_digest(path), "bytes": path.stat().st_size}
    write_record(folder / "manifest.json", manifest)
    outcome = told(first_run.home, "compare", first_run.folder.name, str(other))
    assert (outcome.status, outcome.out) == (1, "")
    assert "scored the same base student differently" in outcome.err


def test_other_refusals(first_run: Finished, tmp_path: Path) -> None:
    name = first_run.folder.name
    outcome = told(first_run.home, "compare", name, name)
    assert outcome.err == f"error: compare takes two or more different runs, got: {name}, {name}\n"
    assert told(first_run.home, "compare", name, "nowhere").err.startswith("error: no run 'nowhere' in ")
    other = edited(first_run, tmp_path, "other")
    (other / "run.json").write_text(json.dumps({"name": "other", "status": "failed"}))
    outcome = told(first_run.home, "compare", name, str(other))
    assert outcome.err.startswith("error: run other: it is failed; finish it with 'paced run' before comparing")


def test_a_diagnosis_judges_no_student(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"name": "x", "status": "completed", "stages": []}))
    shutil.copy(TINY, tmp_path / "recipe.yaml")
    with pytest.raises(ConfigError, match=f"^run {tmp_path.name}: no student was judged in it"):
        judged(tmp_path)


def test_runs_without_a_seed_in_common_are_paired_by_problem(first_run: Finished, tmp_path: Path) -> None:
    """The same scores under another seed: every difference between the two runs is zero."""
    other = edited(first_run, tmp_path, "other")
    write_recipe(other, read_recipe(other).model_copy(update={"seeds": (7,)}))
    record = read_record(other / "run.json")
    for stage in record["stages"]:
        stage["label"] = stage["label"].replace("/0/", "/7/")
    write_record(other / "run.json", record)
    outcome = told(first_run.home, "compare", first_run.folder.name, str(other))
    assert outcome.status == 0, outcome.err
    assert "the runs share no seed: differences are paired by problem alone" in outcome.out
    between = [pair for pair in PAIRED.findall(outcome.out) if pair[1] != "base"]
    assert len(between) == 4
    assert all(float(x) == 0 for pair in between for x in pair[3:])


@pytest.fixture(scope="module")
def evaluation(first_run: Finished, alpha_run: Finished, prefect: Mapping[str, str]) -> Finished:
    """The student that the first run has registered, judged beside the base; no teacher has to be there."""
    arguments = ["evaluate", *run_arguments("teacher.path=gone")[1:], "--model", "models:/tiny/1"]
    return finished(first_run.home, paced(first_run.home, *arguments, env=prefect))


def test_an_evaluation_finds_what_the_run_found(evaluation: Finished, first_run: Finished) -> None:
    """The same problems, samples and intervals, and not one of them computed again."""
    assert set(evaluation.stages) == {
        "benchmark/arithmetic", "benchmark/sorting", "base/evaluate", "model/0/evaluate", "compare",
    }  # fmt: skip
    assert evaluation.stages["base/evaluate"]["cached"]
    judged = evaluation.stages["model/0/evaluate"]["counts"]
    assert (judged["reused"], judged["computed"]) == (64, 0)
    scores = evaluation.summary["arms"]["model"]
    known = first_run.summary["arms"]["two_stage"]
    assert {k: scores[k] for k in ("accuracy", "by_level", "retention", "truncated")} == {
        k: known[k] for k in ("accuracy", "by_level", "retention", "truncated")
    }
    found = [c | {"a": "two_stage"} for c in evaluation.summary["comparisons"]]
    assert found == [c for c in first_run.summary["comparisons"] if (c["a"], c["b"]) == ("two_stage", "base")]
    assert "what a student cost" not in evaluation.outcome.out
    assert "schedule" not in scores and "steps" not in scores


def test_an_evaluation_in_mlflow(evaluation: Finished) -> None:
    client = MlflowClient(f"sqlite:///{evaluation.home / 'mlflow' / 'mlflow.db'}")
    runs = client.search_runs(["1"], f"tags.`paced.run` = '{evaluation.folder.name}'")
    found = {r.data.tags["paced.label"]: r for r in runs}
    assert set(found) == {PARENT, "base", "model/0", *evaluation.stages}
    version = client.get_model_version("tiny", "1")
    parent = found[PARENT].data
    assert (parent.tags["paced.flow"], parent.tags["paced.model.identity"]) == ("evaluate", version.tags["model"])
    assert parent.params["model"] == found["model/0"].data.params["model"] == version.tags["model"]
    assert not [key for key in parent.params if key.startswith(("training", "weights", "arms", "data", "rollouts"))]
    assert parent.metrics["model/accuracy"] == pytest.approx(evaluation.summary["arms"]["model"]["accuracy"]["mean"])
    assert "steps" not in found["model/0"].data.metrics
    assert client.search_model_versions("name = 'tiny-evaluation'") == []


def test_an_evaluation_beside_a_run(evaluation: Finished, first_run: Finished) -> None:
    spec, _, _ = comparison([first_run.folder, evaluation.folder], first_run.home)
    result = json.loads((execute(spec, lambda event: None).folder / "comparison.json").read_text())
    pair = (f"{evaluation.folder.name}:model", f"{first_run.folder.name}:two_stage")
    ((difference, low, high),) = {
        (c["difference"], c["low"], c["high"]) for c in result["comparisons"] if (c["a"], c["b"]) == pair
    }
    assert difference == low == high == 0


def test_models_that_are_not_there(evaluation: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    outcome = told(evaluation.home, "evaluate", *run_arguments()[1:], "--model", "nowhere")
    assert outcome.err.startswith("error: --model: model folder nowhere does not exist")
    for model, says in (
        ("models:/tiny@champion", "tiny has no version 'champion' at sqlite.* .there are: /1, /2"),
        ("models:/other/1", "other has no version '1' at sqlite.* .there are: no such model"),
        ("models:/tiny", "a registered model is models:/NAME@champion or models:/NAME/VERSION"),
        ("models:/../x/1", "is no name of a model|a registered model is models:/NAME"),
    ):
        with pytest.raises(ConfigError, match=says):
            located(model, evaluation.home)
    with pytest.raises(DataError, match=r"has no config\.json"):
        located(str(evaluation.home), evaluation.home)
