"""Compiled layers: the same numbers but for rounding, and the same bits when a run goes on."""

from pathlib import Path

import pytest
from harness import Chain, kill_at
from test_sharding import elsewhere, lines

from paced.stage import Spec, execute


def compiled(chain: Chain, home: Path) -> Spec:
    spec = elsewhere(chain, "train_forward", home, 256)
    training = spec.config["training"] | {"compile": True, "gradient_checkpointing": True}
    return spec.model_copy(update={"config": spec.config | {"training": training}})


def test_compiled_layers_give_the_losses_of_others_and_go_on_to_the_bit(chain: Chain, tmp_path: Path) -> None:
    whole = execute(compiled(chain, tmp_path / "whole"), lambda event: None)
    for mine, theirs in zip(lines(whole), lines(chain.refs["train_forward"]), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    spec = compiled(chain, tmp_path / "killed")
    kill_at(spec, "paced.distill.train:save_checkpoint", 2)
    again = execute(spec, lambda event: None)
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
