"""A random model of the tiny world's architecture, as a folder and loaded."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, Qwen3ForCausalLM

from paced.config import Model
from paced.models import Tokenizer, load_model
from paced.tiny.checkpoints import PLANS, architecture, tokenizer


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights large enough that next-token distributions are far from uniform."""
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = architecture(PLANS["student"]._replace(hidden=32, layers=2, mlp=48))
    config.initializer_range = 0.3
    Qwen3ForCausalLM(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tokens(folder: Path) -> Tokenizer:
    return Tokenizer(folder)


@pytest.fixture
def model(folder: Path) -> PreTrainedModel:
    return load_model(folder, Model(path=str(folder)), torch.device("cpu"))
