"""``make gpu-check`` in small and on a CPU: what is compared there is computed, and a check that fails is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT

from benchmarks import gpu_check


def test_every_check_on_a_cpu(tmp_path: Path) -> None:
    """All but two, which run the same stages once more; those that load no other libraries than these tests, here."""
    out = tmp_path / "check.json"
    command = [sys.executable, "-m", "benchmarks.gpu_check", str(out), "--device", "cpu", "--small", "--only", "step"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "step: done\n"
    step = json.loads(out.read_text())["checks"]["step"]
    assert [line["step"] for line in step["steps"]] == [1, 2]
    assert 0.5 < step["memory planned to measured"] < 2
    assert gpu_check.matmul("cpu", True)["tflops"] > 0
    found = gpu_check.losses("cpu", True)
    errors = found["relative errors of loss, gradient of states, of weight"]
    assert set(errors) == {"float32", "bfloat16"} and not found["wrong"]
    assert 0 < max(max(e) for e in errors["float32"].values()) < min(max(e) for e in errors["bfloat16"].values())
    assert set(gpu_check.loss_head("cpu", True)["to the bare products"]) >= {"sparse forward_kl bfloat16"}
    sampled = gpu_check.engine("cpu", True)
    assert sampled["engine"]["tokens"] > 0 < sampled["generate"]["tokens"]


def test_a_wrong_number_and_a_check_that_dies_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a device that is not there, each check fails by itself; a loss beyond its bar is named."""
    out = tmp_path / "check.json"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "argv", ["gpu_check", str(out), "--device", "cuda", "--small", "--only", "matmul"])
    assert gpu_check.main() == 1
    assert capsys.readouterr().out == f"matmul: wrong, see {out}\n"
    assert "CUDA" in json.loads(out.read_text())["checks"]["matmul"]["wrong"]
    monkeypatch.setattr(gpu_check, "BARS", {"float32": 1e-9, "bfloat16": 1.0})
    wrong = gpu_check.losses("cpu", True)["wrong"]
    assert wrong and all(line.startswith("float32: ") for line in wrong)
