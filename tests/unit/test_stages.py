"""The wall between tasks and stages: a misspelt or missing key, or a wrong type, is refused as it is written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from paced.config import Recipe, Weights
from paced.config.reading import load_recipe
from paced.config.stages import (
    CompareConfig,
    ComparedBenchmark,
    DiagnoseConfig,
    Draw,
    EvaluateConfig,
    PreflightConfig,
    PrepareConfig,
    RolloutsConfig,
    StageConfig,
    TeacherConfig,
    WeightsConfig,
    model_fields,
)
from paced.stage import STAGES, spec_of
from paced_tasks.train import learning_fields, training_config

ROOT = Path(__file__).parent.parent.parent
RECIPE: Recipe = load_recipe(ROOT / "recipes" / "tiny.yaml")
STUDENT = model_fields(RECIPE, RECIPE.student)
SAMPLING = RECIPE.rollouts.sampling

CONFIGS: dict[str, StageConfig] = {
    "prepare": PrepareConfig(data=RECIPE.data, split="train", decontamination=None),
    "preflight": PreflightConfig(recipe=RECIPE),
    "rollouts": RolloutsConfig(**STUDENT, samples=8, sampling=SAMPLING, seed=0),
    "weights": WeightsConfig(scheme="beta", weights=Weights()),
    "teacher": TeacherConfig(
        **STUDENT, answers=RECIPE.answers, seed=0, privileged=False, student_trust_remote_code=False
    ),
    "train": training_config(RECIPE, RECIPE.arms[0], "forward", 0, 0, 8, 0, False),
    "evaluate": EvaluateConfig(**STUDENT, samples={"main": 4}, sampling=SAMPLING, seed=0),
    "diagnose": DiagnoseConfig(
        **learning_fields(RECIPE, RECIPE.arms[0], "reverse", 0),
        reduction="sequence",
        gradient_checkpointing=False,
        samples=8,
        weights=Weights(),
    ),
    "compare": CompareConfig(benchmarks=(ComparedBenchmark(name="main"),), pairs=(("paced", "base"),)),
}


def test_every_stage_has_a_configuration_of_its_own() -> None:
    assert {name: type(config) for name, config in CONFIGS.items()} == {n: s.config for n, s in STAGES.items()}
    assert len({stage.config for stage in STAGES.values()}) == len(STAGES)
    for name, config in CONFIGS.items():
        assert spec_of(config, home="home", inputs={}).stage == name


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_reads_is_what_its_task_built(stage: str) -> None:
    """Through the JSON of the spec, and the same JSON comes out again: the identity is that of the object."""
    config = CONFIGS[stage]
    settings = json.loads(json.dumps(spec_of(config, home="home", inputs={}).config))
    assert type(config).model_validate(settings).settings() == config.settings() == settings


@pytest.mark.parametrize("stage", STAGES)
def test_misspelt_and_missing_keys_are_refused(stage: str) -> None:
    kind, settings = type(CONFIGS[stage]), CONFIGS[stage].settings()
    for key in settings:
        misspelt: dict[str, Any] = {k + "s" if k == key else k: v for k, v in settings.items()}
        with pytest.raises(ValidationError, match=f"{key}s\n  Extra inputs"):
            kind.model_validate(misspelt)
        with pytest.raises(ValidationError, match=f"{key}\n  Field required"):
            kind.model_validate({k: v for k, v in settings.items() if k != key})


def test_only_what_was_given_enters_the_identity() -> None:
    """A field left at its default is absent; a section that was given is whole, but for what changes no result."""
    plain = RolloutsConfig(**STUDENT, samples=8, sampling=SAMPLING, seed=0)
    assert plain.settings().keys() == {*STUDENT, "samples", "sampling", "seed"}
    assert plain.settings()["sampling"] == SAMPLING.model_dump()
    given = RolloutsConfig(**STUDENT, samples=8, sampling=SAMPLING, seed=0, first=None)
    assert given.settings() == plain.settings() | {"first": None}
    drawn = RolloutsConfig(**STUDENT, samples=1, sampling=SAMPLING, seed=0, draw=Draw(seed=0, start=8, number=4))
    assert drawn.settings()["draw"] == {"seed": 0, "start": 8, "number": 4}
    assert CONFIGS["weights"].settings()["weights"].keys() == {"normalise", "alpha", "beta", "shrinkage"}
    assert CONFIGS["diagnose"].settings()["weights"].keys() == Weights().model_dump().keys()
    assert "runtime" not in CONFIGS["preflight"].settings()["recipe"]


SNIPPETS = {
    "misspelt": 'WeightsConfig(scheme="beta", weights=Weights(), wieghts=Weights())',
    "missing": 'RolloutsConfig(**FIELDS, samples=8, sampling=Sampling())',
    "wrong type": 'WeightsConfig(scheme=1, weights=Weights())',
    "misspelt in what stages share": 'fields: ModelFields = {"dtyp": "float32", "thinking": None}',
    "missing in what stages share": 'TeacherConfig(**FIELDS, answers=Answers(), privileged=True)',
}  # fmt: skip
RIGHT = """
from paced.config import Answers, Sampling, Weights
from paced.config.stages import ModelFields, RolloutsConfig, TeacherConfig, WeightsConfig

FIELDS: ModelFields = {"dtype": "float32", "thinking": None, "trust_remote_code": False}
WeightsConfig(scheme="beta", weights=Weights())
RolloutsConfig(**FIELDS, samples=8, sampling=Sampling(), seed=0)
"""


def test_the_type_checker_finds_wrong_keys(tmp_path: Path) -> None:
    """One run for all snippets: every one has an error on its own line, and what is right has none."""
    file = tmp_path / "snippets.py"
    file.write_text(RIGHT + "\n".join(SNIPPETS.values()) + "\n")
    project = {"include": ["snippets.py"], "extraPaths": [str(ROOT / "src")], "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(project))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(tmp_path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=300).stdout)
    lines = {e["range"]["start"]["line"] for e in found["generalDiagnostics"] if e["severity"] == "error"}
    first = RIGHT.count("\n")
    assert lines == set(range(first, first + len(SNIPPETS))), found["generalDiagnostics"]
