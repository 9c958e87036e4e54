"""On a machine without a GPU: no stage that holds weights brings tensors of the CPU and of a device together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT, Chain

from paced.storage.artifacts import Ref

pytestmark = pytest.mark.slow

STAGES = ("teacher", "train_forward", "train_reverse", "diagnose", "evaluate")  # of them two draw samples


@pytest.fixture(scope="module")
def on_a_device(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A home in which each stage was run on the pretended device, from the CPU's inputs, and what went wrong."""
    folder = tmp_path_factory.mktemp("device")
    home, specs = folder / "home", {}
    for name in STAGES:
        spec = chain.specs[name].model_copy(update={"home": str(home / name)})
        shutil.copytree(chain.home / "store", home / name / "store")
        if name in ("teacher", "evaluate"):
            shutil.rmtree(home / name / "store" / ("targets" if name == "teacher" else "samples"))
        specs[name] = spec.model_dump(mode="json")
    (folder / "specs.json").write_text(json.dumps(specs))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "accelerator.py"), str(folder / "specs.json")],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return home, dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_on_a_device(name: str, on_a_device: tuple[Path, dict[str, str]]) -> None:
    assert on_a_device[1][name] == ""


def test_the_device_refuses_tensors_of_the_cpu(on_a_device: tuple[Path, dict[str, str]]) -> None:
    """Else all of the above would say nothing."""
    assert "expected all tensors to be on the same device, but found gpu and cpu" in on_a_device[1]["a sum of both"]


@pytest.mark.parametrize("name", ["train_forward", "train_reverse"])
def test_losses_on_a_device_are_those_of_the_cpu(
    name: str, chain: Chain, on_a_device: tuple[Path, dict[str, str]]
) -> None:
    """The sizes of blocks differ, and with them the last bits."""

    def losses(ref: Ref) -> list[float]:
        return [json.loads(line)["loss"] for line in (ref.folder / "metrics.jsonl").read_text().splitlines()]

    ref = chain.refs[name]
    found = ref.model_copy(update={"path": str(on_a_device[0] / name / ref.folder.relative_to(chain.home))})
    assert losses(found) == pytest.approx(losses(ref), rel=1e-4)
