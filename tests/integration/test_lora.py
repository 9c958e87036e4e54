"""Adapters instead of all weights: what they may change, how they go on, what they take."""

import json
from pathlib import Path

import pytest
import torch
from harness import Chain, kill_at
from safetensors.torch import load_file
from test_sharding import elsewhere, lines, sharded
from torch import Tensor

from paced.planning.footprint import checkpoint_bytes, shape
from paced.stage import Spec, execute
from paced.storage.artifacts import Ref

RANK = 2


def adapted(chain: Chain, stage: str, home: Path, **config: object) -> Spec:
    spec = elsewhere(chain, stage, home, 4096)
    training = spec.config["training"] | {"lora_rank": RANK, "learning_rate": 0.01}
    return spec.model_copy(update={"config": spec.config | {"training": training} | config})


def weights(ref: Ref) -> dict[str, Tensor]:
    """Of a trained student, or of the folder that a user gave."""
    folder = ref.folder / "model" if ref.kind == "train" else ref.folder
    return load_file(folder / "model.safetensors")


def changes(after: Ref, before: Ref) -> dict[str, Tensor]:
    """What was added to each weight that is not what it was."""
    new, old = weights(after), weights(before)
    assert new.keys() == old.keys()
    return {name: new[name] - old[name] for name in new if not torch.equal(new[name], old[name])}


def test_two_stages_add_one_product_of_low_rank_to_the_linear_layers(chain: Chain, tmp_path: Path) -> None:
    spec = adapted(chain, "train_forward", tmp_path)
    first = execute(spec, lambda event: None)
    start = spec.inputs["model"]
    # The adapters add nothing at first; then they do.
    all_weights = lines(chain.refs["train_forward"])
    assert lines(first)[0]["loss"] == pytest.approx(all_weights[0]["loss"], rel=1e-6)
    assert lines(first)[-1]["loss"] != pytest.approx(all_weights[-1]["loss"], rel=1e-3)

    # The second stage goes on with the adapters of the first: no second product beside theirs.
    second = adapted(chain, "train_reverse", tmp_path / "second")
    inputs = second.inputs | {"model": first, "state": first}
    final = execute(second.model_copy(update={"inputs": inputs}), lambda event: None)
    assert changes(final, first)
    for student in (first, final):
        found = changes(student, start)
        assert {name.split(".")[-2] for name in found} == {
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
        }  # fmt: skip
        for delta in found.values():
            sizes = torch.linalg.svdvals(delta.double())
            assert sizes[RANK - 1] > 1e-4 * sizes[0] > 10 * sizes[RANK]


def test_killed_it_ends_with_the_same_bits(chain: Chain, tmp_path: Path) -> None:
    whole = execute(adapted(chain, "train_forward", tmp_path / "whole"), lambda event: None)
    spec = adapted(chain, "train_forward", tmp_path / "killed")
    kill_at(spec, "paced.distill.train:save_checkpoint", 2)
    (checkpoint,) = (tmp_path / "killed").glob("work/*/checkpoint-*/state.safetensors")
    assert all(".lora_" in name for name in load_file(checkpoint) if name != "rng")
    student = shape(str(spec.inputs["model"].folder))
    assert checkpoint.stat().st_size == checkpoint_bytes(student, True, RANK)
    again = execute(spec, lambda event: None)
    for name in ("metrics.jsonl", "model/model.safetensors", "state.safetensors"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_two_processes_give_the_losses_of_one(chain: Chain, dtype: str, bound: float, tmp_path: Path) -> None:
    """In bf16, too, where frozen weights and adapters of one layer have different precisions."""
    one = execute(adapted(chain, "train_forward", tmp_path / "one", dtype=dtype), lambda event: None)
    two = execute(sharded(adapted(chain, "train_forward", tmp_path / "two", dtype=dtype)), lambda event: None)
    for mine, theirs in zip(lines(two), lines(one), strict=True):
        assert abs(mine["loss"] / theirs["loss"] - 1) < bound
    assert changes(two, one).keys() <= changes(one, chain.specs["train_forward"].inputs["model"]).keys()


def test_frozen_weights_of_bf16_come_back_to_the_bit(chain: Chain, tmp_path: Path) -> None:
    """Two stages in bf16; the second must find the weights that the first has frozen, under what was added."""
    spec = adapted(chain, "train_forward", tmp_path, dtype="bfloat16")
    first = execute(spec, lambda event: None)
    state, merged = load_file(first.folder / "state.safetensors"), weights(first)
    before = weights(spec.inputs["model"])
    for name in before:
        layer = f"weight.{name.removesuffix('.weight')}.lora_"
        if f"{layer}A.default.weight" in state:
            added = state[f"{layer}B.default.weight"] @ state[f"{layer}A.default.weight"] * 2
            back = (merged[name] - added).bfloat16()
            assert torch.equal(back, before[name].bfloat16())
    assert json.loads((first.folder / "manifest.json").read_text())["config"]["training"]["lora_rank"] == RANK
