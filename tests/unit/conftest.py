"""A small model folder, a verifier, and a way to run one stage on artifacts made by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from paced.verify import Verifier


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import Qwen3ForCausalLM

    from paced.tiny.checkpoints import PLANS, architecture, tokenizer

    path = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    Qwen3ForCausalLM(architecture(PLANS["student"]._replace(hidden=32, layers=1, mlp=32))).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def verifier() -> "Iterator[Verifier]":
    from paced.verify import Verifier

    with Verifier(1) as one:
        yield one
