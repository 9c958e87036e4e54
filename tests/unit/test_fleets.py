"""What a fleet is told, and what is refused before anything is paid for."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness import TINY

from paced.config import Engine, Fleet, Recipe
from paced.config.reading import load_recipe
from paced.errors import ConfigError
from paced.stage import Spec
from paced_tasks.fleets import kinds, slurm
from paced_tasks.fleets.base import CopyState, Member, Order
from paced_tasks.fleets.command import filled
from paced_tasks.fleets.local import groups
from paced_tasks.run import run_name

WRONG = {
    "local with a command": ({"command": ["sh"]}, "command has no effect with kind 'local'"),
    "slurm without its command": ({"kind": "slurm"}, "kind 'slurm' needs command: [sbatch, --gpus=1"),
    "a template without its placeholder": (
        {"kind": "command", "command": ["ssh", "gpu{index}"]}, "command lacks the placeholder {copy}",
    ),
    "local and here": ({"here": True}, "here has no effect with kind 'local'"),
    "here and alone_after": (
        {"kind": "command", "command": ["{copy}"], "here": True, "alone_after": 5},
        "alone_after has no effect with here",
    ),
    "no copies": ({"copies": 0}, "greater than or equal to 1"),
}  # fmt: skip


def recipe(**fleet: Any) -> Recipe:
    return load_recipe(TINY, ("runtime.device=auto", f"runtime.fleet={json.dumps({'copies': 2} | fleet)}"))


@pytest.mark.parametrize(("fleet", "words"), WRONG.values(), ids=WRONG)
def test_a_fleet_that_contradicts_itself(fleet: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=r"runtime\.fleet") as error:
        recipe(**fleet)
    assert words in str(error.value)


def test_a_fleet_is_no_part_of_what_a_run_is() -> None:
    assert run_name(recipe()) == run_name(load_recipe(TINY))


def test_what_cannot_work_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No store, too few GPUs, no Slurm, one that does not answer, nodes that do not have this host's disk."""
    monkeypatch.delenv("PACED_STORE", raising=False)
    with pytest.raises(ConfigError, match=r"runtime\.fleet: PACED_STORE is not set"):
        kinds.check(recipe())
    monkeypatch.setenv("PACED_STORE", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ConfigError, match="2 local copies, but the GPUs of this host serve 1"):
        kinds.check(recipe())
    monkeypatch.setenv("PATH", str(tmp_path))
    fleet = recipe(kind="slurm", command=["sbatch", "--gpus=1"])
    with pytest.raises(ConfigError, match=r"runtime\.fleet\.command: sbatch is not on PATH"):
        kinds.check(fleet)
    for name, said in {"sbatch": "", "squeue": "", "scancel": "", "sinfo": "echo away >&2; exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(slurm, "OWN", {slurm.file_system(tmp_path)})
    with pytest.raises(ConfigError, match=r"Slurm does not answer \(sinfo: away\)"):
        kinds.check(fleet)
    (tmp_path / "sinfo").write_text("#!/bin/sh\necho node1; echo node2.cluster\n")
    with pytest.raises(ConfigError, match="is a folder of this host's own disk, and Slurm's nodes are other hosts"):
        kinds.check(fleet)
    monkeypatch.setenv("PACED_STORE", "s3://bucket/prefix")
    monkeypatch.setattr(kinds, "shared", lambda: object())
    kinds.check(fleet)


def test_a_template_is_filled_word_by_word() -> None:
    """A copy's command line is one text for a shell; braces in it are its own."""
    fleet = Fleet(kind="command", copies=2, command=("ssh", "gpu{index}", "cd /work && {copy}"))
    member = Member(
        name="fleets/a", store="s3://b/it's", scratch=None, if_driver_dies="stop", identity="",
        spec=Spec(stage="rollouts", home="/h", config={"{index}": 1}), leases=False,
    )  # fmt: skip
    order = Order(fleet, member, 2, Path("logs"))
    ssh, host, line = filled(order, 1)
    assert (ssh, host) == ("ssh", "gpu1") and line.startswith("cd /work && ") and line.endswith(" 1")
    assert '{"{index}":1}' in line


def test_gpus_are_divided_among_local_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert groups("auto", Engine(kind="vllm", tensor_parallel=2)) == [["0", "1"], ["2", "3"]]
    assert len(groups("auto", Engine())) == 5
    assert groups("cpu", Engine()) == []


def test_states_of_slurm() -> None:
    names = ("RUNNING", "PENDING", "COMPLETED", "TIMEOUT")
    states = {name: slurm.state_of("7", 1, name, "Resources") for name in names}
    assert states == {
        "RUNNING": CopyState(True), "PENDING": CopyState(True, "PENDING (Resources)"), "COMPLETED": CopyState(False),
        "TIMEOUT": CopyState(False, "TIMEOUT in Slurm, job 7_1"),
    }  # fmt: skip
