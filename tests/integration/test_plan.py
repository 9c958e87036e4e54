"""``paced plan``: sizes to the byte, memory against a real run, and every recipe."""

import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from harness import ROOT, SMALL, TINY, Chain, Finished, told
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from paced.config import Training
from paced.config.reading import load_data, load_recipe
from paced.errors import ConfigError, DataError
from paced.planning.footprint import (
    checkpoint_bytes,
    host_memory,
    model_bytes,
    sampling_memory,
    scoring_memory,
    shape,
    training_memory,
)
from paced.planning.plan import Assumptions, plan, problems_in, training_processes
from paced.planning.preflight import bytes_stored

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def test_sizes_are_exact(chain: Chain) -> None:
    recipe = load_recipe(TINY, SMALL)
    student, folder = shape(recipe.student.path), Path(recipe.student.path)
    assert model_bytes(student, "float32") == (folder / "model.safetensors").stat().st_size
    trained = chain.refs["train_forward"].folder
    assert model_bytes(student, "float32") == (trained / "model" / "model.safetensors").stat().st_size
    assert checkpoint_bytes(student, weights=False) == (trained / "state.safetensors").stat().st_size


def test_shapes_of_models_that_are_not_there() -> None:
    # Parameters as the model cards give them: 0.6 B, 1.7 B, 8.2 B and 14.8 B.
    known = {"Qwen3-0.6B": 596_049_920, "Qwen3-1.7B": 1_720_574_976, "Qwen3-8B-GRPO": 8_190_735_360}
    known |= {"Qwen2.5-Coder-0.5B-Instruct": 494_032_768, "Qwen2.5-Coder-1.5B-Instruct": 1_543_714_304}
    for name, parameters in known.items():
        assert shape(f"models/{name}").parameters == parameters
    eight = shape("models/Qwen3-8B")
    assert (eight.layers, eight.kv_width, eight.vocabulary) == (36, 2048, 151_936)
    assert model_bytes(eight, "bfloat16") == pytest.approx(2 * eight.parameters, rel=1e-4)
    with pytest.raises(DataError, match=r"models/unheard-of has no config\.json, and no model of that name is known"):
        shape("models/unheard-of")


def test_a_model_with_eyes_is_planned_as_the_text_model_it_is_used_as(tmp_path: Path) -> None:
    text: dict[str, Any] = {
        "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    }  # fmt: skip
    eyes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Gemma3Config(text_config=text, vision_config=eyes | {"image_size": 28, "patch_size": 14})
    config.save_pretrained(tmp_path)
    found = shape(str(tmp_path))
    real = Gemma3ForConditionalGeneration(config)
    assert found.tensors == {name: tuple(p.shape) for name, p in real.named_parameters()}
    assert (found.multiplied, found.layers, found.context) == (found.parameters, 4, 256)  # tied by the class's default
    assert training_memory(found, Training(), "float32", 64, None)["activations of a micro-batch"] > 0
    assert scoring_memory(found, "float32", 64)["forward pass"] > 0


def test_memory_is_that_of_a_real_run(first_run: Finished) -> None:
    """Within 15% of the peak of each process that loaded a model (prompts and responses as long as they were)."""
    recipe = load_recipe(TINY, SMALL)
    student, teacher = shape(recipe.student.path), shape(recipe.teacher_model.path)
    rows = min(recipe.runtime.sample_rows, recipe.runtime.part_problems * recipe.rollouts.samples)
    sampled = host_memory(sampling_memory(student, "float32", recipe.rollouts.sampling, 20, rows))
    forward = host_memory(training_memory(student, recipe.training, "float32", 80, None))
    reverse = host_memory(training_memory(student, recipe.training, "float32", 80, (teacher, "float32")))
    part = recipe.runtime.part_problems
    judged = host_memory(sampling_memory(student, "float32", recipe.evaluation.sampling, 20, part))
    answered = max(
        host_memory(sampling_memory(teacher, "float32", recipe.answers.sampling, 20, part)),
        host_memory(scoring_memory(teacher, "float32", 80)),
    )
    for label, planned in (
        ("0/rollouts", sampled), ("paced/0/teacher", answered), ("paced/0/evaluate", judged),
        ("paced/0/train_forward", forward), ("two_stage/0/train_reverse_0", reverse),
    ):  # fmt: skip
        measured = first_run.stages[label]["counts"]["peak_memory"]
        assert planned == pytest.approx(measured, rel=0.15), label


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_plans(recipe: Path) -> None:
    changes = ("student.path=models/Qwen3-0.6B",) if recipe.stem == "smollm2_self" else ()
    planned = plan(load_recipe(recipe, changes), "H100", 8, Assumptions())
    assert all(row.operations > 0 and row.seconds > 0 and row.memory for row in planned.rows)
    assert any(row.stage.startswith("train") for row in planned.rows)


def test_tokens_follow_from_the_recipe() -> None:
    # 3,072 problems x 8 samples x 28 tokens (half of 56), for each of 3 seeds.
    rows = {row.stage: row for row in plan(load_recipe(TINY), "A100", 1, Assumptions()).rows}
    assert rows["rollouts"].tokens == 3 * 3072 * 8 * 28
    # An arm weighs uniformly, so the teacher answers every problem; 6 two-stage rounds' students keep their moments.
    assert rows["teacher answers"].tokens == 3 * 3072 * 28
    assert "teacher targets" in rows


@pytest.mark.parametrize("changes", [(), ("training.lora_rank=4",), ("runtime.processes=3", "seeds=[0, 1]")])
def test_plan_and_preflight_store_the_same(changes: tuple[str, ...]) -> None:
    """Every round of stage 2 but the last leaves what the next one goes on with."""
    recipe = load_recipe(TINY, changes)
    planned = plan(recipe, "A100", 1, Assumptions(response=1, kept=1))
    student, counts = planned.models["student"], {"arithmetic": 576, "sorting": 192}
    stored = sum(row.stored for row in planned.rows)
    training = 2 * planned.checkpoint + planned.copied
    found = bytes_stored(recipe, student, 3072, counts)
    assert found == pytest.approx(stored + recipe.runtime.processes * training, rel=1e-9)
    rows = {row.stage: row for row in planned.rows}
    rank = recipe.training.lora_rank
    between = model_bytes(student, "float32") + checkpoint_bytes(student, rank > 0, rank)
    last = model_bytes(student, "float32")
    assert rows["train forward KL (two_stage)"].stored == len(recipe.seeds) * between
    assert rows["train reverse KL (two_stage)"].stored == len(recipe.seeds) * (between + last)


def test_training_is_spread_over_the_processes_of_the_accelerate_file(tmp_path: Path) -> None:
    file = tmp_path / "accelerate.yaml"
    spread = load_recipe(TINY, (f"runtime.accelerate={file}",))
    assert training_processes(spread, 4) == 4  # nothing to read
    file.write_text("num_processes: 2")
    assert [training_processes(spread, gpus) for gpus in (1, 4)] == [1, 2]
    hours = {}
    for name, recipe in (("one", load_recipe(TINY)), ("two", spread)):
        rows = plan(recipe, "A100", 8, Assumptions()).rows
        hours[name] = sum(row.seconds for row in rows if row.stage.startswith("train "))
    assert hours["one"] == pytest.approx(2 * hours["two"])


def test_problems_are_counted_as_they_will_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "mmlu.zip", "w") as archive:
        for name in ("astronomy_dev", "astronomy_test", "law_test", "law_val"):
            archive.writestr(f"{name}.csv", "Which?,a,b,c,d,A\n")
    found = load_data("mmlu", str(tmp_path / "mmlu.zip"))
    assert problems_in(found, "data") == 2
    assert problems_in(found.model_copy(update={"subjects": ("law",)}), "data") == 1
    monkeypatch.setenv("PACED_HOME", str(tmp_path))
    (tmp_path / "hub").mkdir()
    pd.DataFrame({"question": ["1 + 1?"], "answer": ["2"]}).to_parquet(tmp_path / "hub" / "me--sums--train.parquet")
    assert problems_in(load_data("table", "hub:me/sums:train"), "data") == 1


def test_a_scoring_pass_that_capture_may_save_is_a_bound() -> None:
    capture = ("teacher.engine={kind: vllm}", "answers.capture=true")
    rows = {row.stage for row in plan(load_recipe(TINY, capture), "A100", 1, Assumptions()).rows}
    assert "teacher targets, at most" in rows and "teacher targets" not in rows


def test_the_command_says_what_does_not_fit(tmp_path: Path) -> None:
    recipe = str(ROOT / "recipes" / "qwen3_14b_to_8b.yaml")
    outcome = told(tmp_path / "home", "plan", recipe, "--gpu", "A100-40", "--gpus", "1")
    assert outcome.status == 0, outcome.err
    assert "does not fit" in outcome.out
    assert "most of it: AdamW moments, fp32, 65.5 GB. Change training.gradient_checkpointing" in outcome.out
    refused = told(tmp_path / "home", "plan", recipe, "--kept", "2")
    assert (refused.status, refused.err) == (1, "error: --kept 2.0: must lie between 0 and 1\n")
    with pytest.raises(ConfigError, match="--gpu B1: unknown; known are A10G"):
        plan(load_recipe(TINY), "B1", 8, Assumptions())


def test_the_plan_in_the_documentation(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reproduce.md").read_text()
    _, _, shown = page.partition("`paced plan recipes/qwen3_14b_to_8b.yaml`:\n\n")
    outcome = told(tmp_path / "home", "plan", str(ROOT / "recipes" / "qwen3_14b_to_8b.yaml"))
    lines = [line.strip() for line in outcome.out.splitlines() if line]
    assert outcome.status == 0 and len(lines) > 10
    assert lines == [line.strip() for line in shown.splitlines() if line][: len(lines)]


def test_an_uncounted_data_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data: mine\.jsonl is not there to be counted: set data\.problems"):
        plan(load_recipe(TINY, ("data={source: table, path: mine.jsonl}",)), "H100", 8, Assumptions())
