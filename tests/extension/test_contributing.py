"""CONTRIBUTING's "How to add", followed literally in a copy of the sources: one of each kind, and one run with all."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import ROOT, SMALL, TINY, environment

from paced.tiny.world import tasks

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
CATALOG = "paced/config/catalog.py"


class Step(NamedTuple):
    """What the guide says to write: code at the end of a file, or a record in a table."""

    file: str
    code: str
    table: str = ""


STEPS = {
    "A loss": (
        Step("paced/losses/divergences.py", """
def total_variation(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    q = log_q.exp()
    half_sign = (q - log_p.exp()).sign() / 2
    return (q - log_p.exp()).abs().sum(-1) / 2, q * (half_sign - (q * half_sign).sum(-1, keepdim=True))
"""),
        Step(CATALOG, '"total_variation": LossRecord("paced.losses.divergences:total_variation", "total variation"),',
             "LOSSES"),
    ),
    "A weighting": (
        Step("paced/weighting.py", """
def peak(correct: Array, wrong: Array, settings: Settings) -> Array:
    rate = correct / np.maximum(correct + wrong, 1)
    return np.exp(-((rate - settings["centre"]) ** 2) / 0.1)
"""),
        Step(CATALOG, '"peak": WeightingRecord("paced.weighting:peak", "peak", "#c2417c", options={"centre": 0.5}),',
             "WEIGHTINGS"),
    ),
    "A data source": (
        Step("paced/data/layouts.py", """
def prompts(path: Path, data: Data) -> Iterator[Problem]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        yield Problem(f"{path}:{number}", line, working(line), None, None, line)
"""),
        Step(CATALOG, '"prompts": SourceRecord("paced.data.layouts:prompts", "a prompt a line", verifier="verbatim"),',
             "SOURCES"),
    ),
    "A verifier": (
        Step("paced/verify/verbatim.py", """
def verbatim(response: str, gold: str, question: str) -> bool:
    return response == gold
"""),
        Step(CATALOG, '"verbatim": VerifierRecord("paced.verify.verbatim:verbatim", "word for word"),', "VERIFIERS"),
    ),
    "An engine": (
        Step("paced/sampling/engines/named.py", """
from paced.sampling.engines.transformers import TransformersEngine

class NamedEngine(TransformersEngine):
    name = "named"
"""),
        Step("paced/sampling/sampler.py", """
def named_engine(sampler: Sampler) -> SamplingEngine:
    from paced.sampling.engines.named import NamedEngine

    return NamedEngine(sampler.model, sampler.tokenizer, sampler.job.runtime.sample_rows)
"""),
        Step(CATALOG, '"named": EngineRecord("paced.sampling.sampler:named_engine", in_process=True),', "ENGINES"),
    ),
}  # fmt: skip


def paragraph(kind: str) -> str:
    """What the guide says of one kind."""
    found = re.search(rf"^\*\*{kind}\.\*\*(.*?)\n\n", GUIDE, re.MULTILINE | re.DOTALL)
    assert found, kind
    return found[1]


@pytest.mark.parametrize("kind", STEPS)
def test_the_guide_names_every_place_that_is_changed(kind: str) -> None:
    named = re.findall(r"`(paced/[\w/.]+|[A-Z]+)`", paragraph(kind))
    for step in STEPS[kind]:
        assert any(step.file == place or (place.endswith("/") and step.file.startswith(place)) for place in named), step
        assert not step.table or step.table in named


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources with the steps of all kinds taken."""
    root = tmp_path_factory.mktemp("contribution") / "sources"
    for folder in ("paced", "tasks", "flows", "deployments", "recipes", "src"):
        skipped = shutil.ignore_patterns("__pycache__", "paced_*.egg-info", "*.egg-info")
        shutil.copytree(ROOT / folder, root / folder, symlinks=True, ignore=skipped)
    for step in (step for steps in STEPS.values() for step in steps):
        file = root / step.file
        text = file.read_text() if file.exists() else ""
        if step.table:
            text, times = re.subn(rf"^({step.table} = {{\n)", rf"\g<1>    {step.code}\n", text, flags=re.MULTILINE)
            assert times == 1, step.table
        else:
            text += "\n" + step.code
        file.write_text(text)
    return root


def command(copy: Path, *arguments: str, env: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    env = environment(copy.parent / "home", {"PYTHONPATH": str(copy / "src"), **env})
    words = [sys.executable, "-m", "paced_deployments.cli", *arguments]
    return subprocess.run(words, cwd=copy.parent, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(copy: Path, prefect: Mapping[str, str]) -> dict[str, Any]:
    """The small recipe with one of each kind; what the run folder says of it."""
    data = copy.parent / "prompts.txt"
    data.write_text("\n".join(task.prompt for task in islice(tasks(5, {1: 1, 2: 2, 3: 3}), 40)))
    small = [a for a in SMALL if not a.startswith(("data.", "arms", "training.steps", "training.warmup", "consol"))]
    changes = (
        *small, "training.steps=4", "training.warmup=1", "consolidation={steps: 2, rounds: 1}",
        f"data={{source: prompts, path: {data}}}", "student.engine.kind=named", "weights.options={centre: 0.4}",
        "evaluation.benchmarks.1.data.verifier=verbatim", "evaluation.benchmarks.0.data.problems=16",
        "arms=[{name: peak, scheme: peak, schedule: two_stage, loss: total_variation}]",
    )  # fmt: skip
    done = command(copy, "run", str(TINY), *(word for c in changes for word in ("--set", c)), env=prefect)
    assert done.returncode == 0, done.stderr
    folder = next((copy.parent / "home" / "runs").iterdir())
    record = json.loads((folder / "run.json").read_text())
    for stage in record["stages"]:
        stage["path"] = str(copy.parent / "home" / stage["path"])
    manifests = {s["label"]: json.loads((Path(s["path"]) / "manifest.json").read_text()) for s in record["stages"]}
    configs = {label: manifest["config"] for label, manifest in manifests.items()}
    return {"folder": folder, "configs": configs, "stages": record["stages"]}


def test_a_loss(run: dict[str, Any]) -> None:
    assert run["configs"]["peak/0/train_forward"]["loss"] == "total_variation"
    assert "extensions" not in run["configs"]["peak/0/train_forward"]
    assert (run["folder"] / "figures" / "losses.png").exists()


def test_a_weighting(run: dict[str, Any]) -> None:
    import numpy as np
    import pandas as pd

    path = next(s["path"] for s in run["stages"] if s["label"] == "peak/0/weights")
    table = pd.read_parquet(Path(path) / "pass_rates.parquet")
    expected = np.exp(-((table["pass_rate"].to_numpy(float) - 0.4) ** 2) / 0.1)
    np.testing.assert_allclose(table["raw_weight"], expected)
    assert (run["folder"] / "figures" / "weights.png").exists()


def test_a_data_source_and_its_verifier(run: dict[str, Any]) -> None:
    import pandas as pd

    assert run["configs"]["0/prepare"]["data"]["source"] == "prompts"
    path = next(s["path"] for s in run["stages"] if s["label"] == "0/rollouts")
    table = pd.read_parquet(Path(path) / "rollouts.parquet")
    assert {"correct", "wrong"} == set(table["verdict"])


def test_an_engine(run: dict[str, Any]) -> None:
    assert run["configs"]["0/rollouts"]["engine"] == "named"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("weights.options={centre: 1}", "weights.options: centre has no effect: no arm uses a scheme with this option"),
        ("arms=[{name: a, scheme: peak, exponents: [1, 1]}]", "exponents has no effect with scheme 'peak'"),
        ("arms=[{name: a, loss: total_variation, jsd_share: 0.5}]", "jsd_share has no effect with loss 'total_var"),
        ("student.engine={kind: named, url: http://x}", "url has no effect with kind 'named': remove it, or use kind"),
    ],
)
def test_checks_know_them(copy: Path, change: str, says: str) -> None:
    done = command(copy, "run", str(TINY), "--set", change)
    assert done.returncode == 1 and says in done.stderr, done.stderr


def test_help_names_them(copy: Path) -> None:
    text = command(copy, "ablate", "--help").stdout
    assert "total_variation" in text and "peak" in text
