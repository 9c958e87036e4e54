"""Training on two processes, parameters sharded over them: the losses and weights of one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from harness import ROOT, Chain, kill_at
from safetensors.torch import load_file

from paced.distill.launch import launch
from paced.errors import DataError, EngineError
from paced.stage import Job, Spec, execute
from paced.storage.artifacts import Ref

CONFIGURATION = str(ROOT / "recipes" / "accelerate" / "fsdp_2cpu.yaml")


def lines(ref: Ref) -> list[dict[str, float]]:
    return [json.loads(line) for line in (ref.folder / "metrics.jsonl").read_text().splitlines()]


def elsewhere(chain: Chain, stage: str, home: Path, micro_batch_tokens: int) -> Spec:
    """The stage again in a home of its own that has the samples and targets, with small micro-batches."""
    shutil.copytree(chain.home / "store", home / "store")
    spec = chain.specs[stage]
    training = spec.config["training"] | {"micro_batch_tokens": micro_batch_tokens}
    return spec.model_copy(update={"home": str(home), "config": spec.config | {"training": training}})


def sharded(spec: Spec, configuration: str = CONFIGURATION) -> Spec:
    return spec.model_copy(update={"runtime": spec.runtime.model_copy(update={"accelerate": configuration})})


@pytest.mark.parametrize(("stage", "tokens"), [("train_forward", 64), ("train_reverse", 4096)])
def test_two_processes_give_the_losses_of_one(chain: Chain, stage: str, tokens: int, tmp_path: Path) -> None:
    """With 64 tokens a micro-batch their number is often odd; with 4096 one process has none of its own."""
    spec = elsewhere(chain, stage, tmp_path, tokens)
    if stage == "train_forward":  # it also goes on from a checkpoint of one process
        kill_at(spec, "paced.distill.train:save_checkpoint", 2)
    events: list[dict[str, object]] = []

    two = execute(sharded(spec), events.append)

    log = [e["message"] for e in events if e["event"] == "log"]
    assert log == (["resuming at step 2 of 6"] if stage == "train_forward" else [])
    steps = [e for e in events if e["event"] == "metric"]
    assert len(steps) == (4 if log else 6)  # told once, not by each process
    # With the same micro-batches: another split rounds otherwise, and AdamW's first step magnifies that near g = 0.
    one = execute(elsewhere(chain, stage, tmp_path / "one", tokens), lambda event: None)
    for mine, theirs in zip(lines(two), lines(one), strict=True):
        assert mine == pytest.approx(theirs, rel=2e-5, abs=1e-9)
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=5e-6)
    for name in ("model/model.safetensors", "state.safetensors"):
        if (one.folder / name).exists():
            ours, expected = load_file(two.folder / name), load_file(one.folder / name)
            assert ours.keys() == expected.keys()
            assert all(ours[k].shape == expected[k].shape for k in ours)
            # Sums in another order: a five-hundredth of the least step that AdamW makes at full learning rate.
            worst = max((ours[k].double() - expected[k].double()).abs().max().item() for k in ours)
            assert worst < 0.002 * spec.config["training"]["learning_rate"]
    assert (two.folder / "model" / "config.json").read_bytes() == (one.folder / "model" / "config.json").read_bytes()


@pytest.mark.parametrize(("stage", "loss"), [("train_forward", "akl"), ("train_reverse", "jsd")])  # each of both KLs
def test_two_processes_give_the_gradient_of_one(chain: Chain, stage: str, loss: str, tmp_path: Path) -> None:
    """That of a first step, up to a factor: AdamW's first moment, which starts at 0."""

    def gradient(home: Path, several: bool) -> dict[str, torch.Tensor]:
        spec = elsewhere(chain, stage, home, 64)
        config = spec.config | {"loss": loss, "jsd_share": 0.3 if loss == "jsd" else None, "steps": 1, "more": True}
        inputs = {name: ref for name, ref in spec.inputs.items() if name != "state"}
        spec = spec.model_copy(update={"config": config, "inputs": inputs})
        made = execute(sharded(spec) if several else spec, lambda event: None)
        state = load_file(made.folder / "state.safetensors")
        return {k: v.double() for k, v in state.items() if k.startswith("exp_avg.")}

    one, two = gradient(tmp_path / "one", False), gradient(tmp_path / "two", True)
    assert one.keys() == two.keys()
    length = sum(v.square().sum().item() for v in one.values()) ** 0.5
    apart = sum((v - two[k]).square().sum().item() for k, v in one.items()) ** 0.5
    assert length > 0
    assert apart < 1e-6 * length


@pytest.mark.parametrize("kind", ["FSDP", "'NO'"])  # which accelerate starts by torchrun, and by itself
def test_one_process_gives_the_bits_of_none(kind: str, chain: Chain, tmp_path: Path) -> None:
    """A host with one device: num_processes: 1 launches once."""
    text = Path(CONFIGURATION).read_text().replace("num_processes: 2", "num_processes: 1").replace("FSDP", kind)
    (tmp_path / "one.yaml").write_text(text)
    spec = elsewhere(chain, "train_forward", tmp_path, 4096)
    alone = execute(sharded(spec, str(tmp_path / "one.yaml")), lambda event: None)
    one = chain.refs["train_forward"]
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (alone.folder / name).read_bytes() == (one.folder / name).read_bytes()


def error(kind: str, message: str) -> str:
    return json.dumps({"event": "error", "type": kind, "message": message})


@pytest.mark.parametrize(
    ("said", "kind", "says"),
    [
        ([error("DataError", "why"), error("Stopped", "resumes"), error("EngineError", "late")], DataError, "^why$"),
        ([error("Stopped", "resumes"), error("DataError", "why")], DataError, "^why$"),
        ([error("Stopped", "resumes")], EngineError, "ended with status 1; its output is in the stage's log"),
        (["3", '{"a": 1}', "[2]", '"b"', "{"], EngineError, "ended with status 1"),
    ],
)
def test_how_a_launch_fails(
    said: list[str], kind: type[Exception], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Told is what failed first, not that the others were stopped for it; what is no event is passed on as text."""
    launcher, events = tmp_path / "launcher", list[dict[str, object]]()
    step = {"event": "progress", "done": 1}
    lines = [json.dumps(step), *said]
    launcher.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\nexit 1\n")
    launcher.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(launcher))
    with pytest.raises(kind, match=says):
        launch(Job(Spec(stage="train", home=str(tmp_path)), events.append), Path(CONFIGURATION))
    assert events == [step]
    assert capfd.readouterr().err.splitlines() == [line for line in said if '"event"' not in line]


def test_recomputed_activations_change_no_bit(chain: Chain, tmp_path: Path) -> None:
    spec = elsewhere(chain, "train_forward", tmp_path, 4096)
    training = spec.config["training"] | {"gradient_checkpointing": True}
    again = execute(spec.model_copy(update={"config": spec.config | {"training": training}}), lambda event: None)
    one = chain.refs["train_forward"]
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (again.folder / name).read_bytes() == (one.folder / name).read_bytes()
