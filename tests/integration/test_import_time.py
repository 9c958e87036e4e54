"""What the user waits for before anything starts, and what may import what."""

import resource
import subprocess
import sys

import pytest
from harness import BIN, ROOT


def best_of(command: list[str], tries: int = 3) -> float:
    """Processor seconds of the fastest try: what a quiet machine takes, whatever else this one does."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(tries))


def test_help_answers_at_once() -> None:
    assert best_of([str(BIN / "paced"), "--help"]) < 1.0


def test_a_flow_is_imported_at_once() -> None:
    """Beyond what importing Prefect costs, which is not ours to change."""
    prefect = best_of([sys.executable, "-c", "from prefect import flow, task"])
    assert best_of([sys.executable, "-c", "import paced_flows.distill"]) - prefect < 1.0


@pytest.mark.parametrize("module", ["paced_flows.distill", "paced_deployments.cli"])
def test_no_flow_imports_torch(module: str) -> None:
    check = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers', 'mlflow', 'vllm'}} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_the_layers_hold() -> None:
    result = subprocess.run([str(BIN / "lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
