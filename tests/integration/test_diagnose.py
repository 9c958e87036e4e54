"""The diagnosis on the tiny world: gradients are those that training takes, whatever they are computed beside."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch
from harness import Chain, Finished, contents, finished, paced, run_arguments
from mlflow import MlflowClient

from paced.config import Model
from paced.config.stages import DiagnoseConfig
from paced.diagnosis.diagnose import Sketch, gradient
from paced.distill.objectives import make_objective
from paced.distill.student import Student, coefficients, denominator
from paced.models import Tokenizer, load_model
from paced.stage import Job, Spec, execute
from paced_tasks.journal import PARENT


@pytest.fixture(scope="module")
def spec(chain: Chain) -> Spec:
    return chain.specs["diagnose"]


def test_gradients_do_not_depend_on_parts(spec: Spec, chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.home / "store", tmp_path / "store")
    runtime = spec.runtime.model_copy(update={"part_problems": 33})
    again = execute(spec.model_copy(update={"runtime": runtime, "home": str(tmp_path)}), lambda event: None)
    assert contents(again.folder) == contents(chain.refs["diagnose"].folder)


def learning_from_rollouts(chain: Chain) -> Spec:
    """The diagnosis of an arm that begins with reverse KL."""
    spec = chain.specs["diagnose"]
    inputs = {name: ref for name, ref in spec.inputs.items() if name != "answers"}
    inputs |= {"rollouts": chain.refs["rollouts"], "teacher": chain.specs["train_reverse"].inputs["teacher"]}
    config = spec.config | {"objective": "reverse", "loss": "reverse_kl"}
    return spec.model_copy(update={"config": config, "inputs": inputs})


def test_every_sampled_problem_has_a_gradient_of_reverse_kl(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.home / "store", tmp_path / "store")
    spec = learning_from_rollouts(chain).model_copy(update={"home": str(tmp_path)})
    found = execute(spec, lambda event: None)
    table = pd.read_parquet(found.folder / "gradients.parquet")
    weighed = pd.read_parquet(spec.inputs["weights"].folder / "pass_rates.parquet")
    assert set(table["problem_id"]) == set(weighed["problem_id"][weighed["weight"] > 0])
    assert (table["loss"] > 0).all() and (table["norm"] > 0).all()
    assert json.loads((found.folder / "diagnosis.json").read_text())["objective"] == "reverse"


@pytest.mark.parametrize("objective", ["forward", "reverse"])
def test_gradients_sum_to_that_of_a_training_step(chain: Chain, objective: str) -> None:
    """Sixteen problems in two padded micro-batches, as a step takes them, and one by one."""
    spec = chain.specs["diagnose"] if objective == "forward" else learning_from_rollouts(chain)
    config, job = DiagnoseConfig.model_validate(spec.config), Job(spec, lambda event: None)
    folder = spec.inputs["model"].folder
    tokenizer, device = Tokenizer(folder), torch.device("cpu")
    model = load_model(folder, Model(path=str(folder)), device)
    student = Student(model, tokenizer.size, "float32")
    weights = job.table("weights", "pass_rates.parquet").assign(weight=1.0)
    source = make_objective(job, config, tokenizer, weights, device)
    sketch = Sketch(512, 0)
    alone = [gradient(student, source, item, "sequence", sketch) for item in range(16)]

    samples = [source.sample(item, 0) for item in range(16)]
    whole = denominator(samples, "sequence")
    for batch in (samples[:9], samples[9:]):
        shares = torch.tensor(coefficients(batch, whole, "sequence"))
        student(batch, shares, source.divergence(batch))[0].backward()
    step = sketch([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(torch.stack([g for g, _ in alone]).mean(0), step, atol=1e-6, rtol=1e-4)


@pytest.fixture(scope="module")
def diagnosis(alpha_run: Finished, prefect: Mapping[str, str]) -> Finished:
    arguments = ["diagnose", *run_arguments()[1:]]
    return finished(alpha_run.home, paced(alpha_run.home, *arguments, env=prefect))


def test_problems_of_weight_zero_are_measured_too(diagnosis: Finished, first_run: Finished) -> None:
    """Every problem that the teacher answers; what a run has sampled and answered is not paid again."""
    counts = {label.rpartition("/")[2]: stage["counts"] for label, stage in diagnosis.stages.items()}
    assert diagnosis.stages["0/rollouts"]["cached"]
    weights = pd.read_parquet(Path(first_run.stages["paced/0/weights"]["path"]) / "pass_rates.parquet")
    kept = int((weights["weight"] > 0).sum())
    assert (counts["teacher"]["reused"], counts["teacher"]["computed"]) == (kept, 100 - kept)
    assert counts["diagnose"]["problems"] == counts["teacher"]["problems"]
    assert counts["diagnose"]["problems"] + counts["diagnose"]["without_gradient"] == 100
    table = pd.read_parquet(Path(diagnosis.stages["0/diagnose"]["path"]) / "gradients.parquet")
    found = diagnosis.summary["diagnosis"]
    for row in found["bins"]:
        own = table[(table["pass_rate"] - row["pass_rate"]).abs() < 1e-9]
        assert len(own) == row["problems"]
        # E |g|^2 = ||mu||^2 + tr Sigma, whichever way the two are told apart.
        assert (own["norm"] ** 2).mean() == pytest.approx(row["signal"] + row["noise"], rel=1e-4)
    assert {0.0, 1.0} <= {row["pass_rate"] for row in found["bins"]}
    assert set(found["efficiency"]) == {"uniform", "hard_filter", "beta", "fitted"}
    assert all(0 <= e["mean"] <= 1 for e in found["efficiency"].values())
    assert "Beta kernel fitted to it" in diagnosis.outcome.out


def test_a_diagnosis_in_mlflow(diagnosis: Finished) -> None:
    client = MlflowClient(f"sqlite:///{diagnosis.home / 'mlflow' / 'mlflow.db'}")
    runs = client.search_runs(["1"], f"tags.`paced.run` = '{diagnosis.folder.name}'")
    found = {r.data.tags["paced.label"]: r for r in runs}
    assert set(found) == {PARENT, *diagnosis.stages}
    parent = found[PARENT]
    told = diagnosis.summary["diagnosis"]
    curve = {m.step: m.value for m in client.get_metric_history(parent.info.run_id, "snr")}
    assert curve == {round(100 * b["pass_rate"]): pytest.approx(b["snr"]) for b in told["bins"]}
    assert parent.data.metrics["alpha"] == pytest.approx(told["fit"]["alpha"]["mean"])
    assert parent.data.metrics["efficiency/uniform"] == pytest.approx(told["efficiency"]["uniform"]["mean"])
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} >= {"snr.json", "snr.png", "report.html"}
    assert not [key for key in parent.data.params if key.startswith(("training", "arms", "evaluation"))]
