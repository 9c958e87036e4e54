"""Model folders: what is missing, broken or not supported is one line; a supported one is what it says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    HyperCLOVAXConfig,
    HyperCLOVAXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from paced.config import Model, Runtime
from paced.errors import ConfigError, DataError
from paced.models import (
    Tokenizer,
    check_length,
    context_length,
    device_of,
    head,
    hidden_states,
    load_model,
    projection,
    same_tokens,
    vocabulary,
)

CPU = torch.device("cpu")


def load(folder: Path, **options: Any) -> PreTrainedModel:
    return load_model(folder, Model(path=str(folder), **options), CPU)


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(model_folder, tmp_path / "model")


def edit_json(name: str, **values: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        tree = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps(tree))

    return change


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def drop_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refused(attempt: Callable[[], object], folder: Path, says: str, kind: type[Exception] = DataError) -> None:
    with pytest.raises(kind, match=says) as error:
        attempt()
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sound_folder(model_folder: Path, dtype: str) -> None:
    model, tokenizer = load(model_folder, dtype=dtype), Tokenizer(model_folder)
    assert not model.training
    assert str(head(model).weight.dtype) == f"torch.{dtype}"
    assert (tokenizer.eos, tokenizer.size, context_length(model_folder)) == (1, 27, 96)
    ids = tokenizer.prompt(json.dumps([{"role": "user", "content": "5+1="}]))
    assert tokenizer.text([*ids, 1]) == "5+1=<eos>"
    long = torch.tensor([ids + [0] * 7])  # right padding changes nothing to its left
    torch.testing.assert_close(hidden_states(model, long)[0, : len(ids)], hidden_states(model, torch.tensor([ids]))[0])


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda f: (f / "chat_template.jinja").unlink(), "has no chat template: add chat_template.jinja"),
        (cut("tokenizer.json", 60), "tokenizer.*cannot be loaded"),
        (cut("config.json", 60), "cannot be loaded"),
        (edit_json("tokenizer_config.json", eos_token=None), "no end-of-sequence token"),
    ],
)
def test_tokenizers_that_cannot_be_used(folder: Path, harm: Callable[[Path], object], says: str) -> None:
    harm(folder)
    refused(lambda: Tokenizer(folder), folder, says)


@pytest.mark.parametrize(
    "harm",
    [
        cut("model.safetensors", 5000),
        cut("model.safetensors", 4),
        cut("config.json", 60),
        lambda f: (f / "config.json").unlink(),
        lambda f: (f / "model.safetensors").unlink(),
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        edit_json("config.json", model_type="unheard_of"),
        edit_json("config.json", hidden_size=64),
        edit_json("config.json", num_hidden_layers=2, layer_types=["full_attention"] * 2),  # one layer has no weights
        drop_a_tensor,
    ],
)
def test_models_that_cannot_be_loaded(folder: Path, harm: Callable[[Path], object]) -> None:
    harm(folder)
    says = "cannot be loaded|lacks weights, among them model.layers|11 tensors have another size"
    refused(lambda: load(folder), folder, says)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers(folder: Path, value: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    refused(lambda: load(folder), folder, "not finite: its weights are damaged")


def test_broken_configuration_is_found_before_the_weights(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    context_length.cache_clear()
    refused(lambda: context_length(folder), folder, "configuration.*cannot be loaded")


def test_other_token_maps_are_named(folder: Path, model_folder: Path) -> None:
    student = Tokenizer(model_folder)
    same_tokens(student, Tokenizer(folder))
    tree = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tree["model"]["vocab"]
    vocabulary["3"], vocabulary["7"] = vocabulary["7"], vocabulary["3"]
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match="token '3' is 5 for the student, 9 for the teacher"):
        same_tokens(student, Tokenizer(folder))
    vocabulary["3"], vocabulary["7"] = vocabulary["7"], vocabulary["3"]
    vocabulary["z"] = 27
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match="token 'z' is None for the student, 27 for the teacher"):
        same_tokens(student, Tokenizer(folder))


def test_ids_that_are_left_out(folder: Path) -> None:
    """The size is that of the ids, not their number: else the ids above it would never be drawn, here eos."""
    tree = json.loads((folder / "tokenizer.json").read_text())
    tree["model"]["vocab"]["<eos>"] = tree["added_tokens"][1]["id"] = 30
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    tokenizer = Tokenizer(folder)
    assert (tokenizer.eos, tokenizer.size) == (30, 31)


def test_prompts_that_leave_no_room(model_folder: Path, folder: Path) -> None:
    check_length([1] * 40, 56, model_folder, "q")
    refused(
        lambda: check_length([1] * 41, 56, model_folder, "Why?"),
        model_folder,
        "41 tokens .* 56 .* context of 96 .*Why.*lower max_new_tokens",
    )
    edit_json("config.json", max_position_embeddings=0)(folder)
    context_length.cache_clear()
    check_length([1] * 5000, 5000, folder, "q")  # a configuration that names no limit


@pytest.mark.parametrize(("stated", "context"), [({"max_position_embeddings": 96}, 96), ({}, 131_072)])
def test_a_language_model_inside_another(tmp_path: Path, stated: dict[str, int], context: int) -> None:
    """Gemma 3 from 4B on; its published configuration leaves out what is its class's default."""
    inner = {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34} | stated
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": inner}))
    assert (context_length(tmp_path), vocabulary(tmp_path)) == (context, 262_208)


SMALL = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.3, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (
            Gemma2Config(
                **SMALL, head_dim=16, query_pre_attn_scalar=16, attn_logit_softcapping=1.0, final_logit_softcapping=5.0
            ),
            Gemma2ForCausalLM,
        ),
        (GraniteConfig(**SMALL, logits_scaling=8.0), GraniteForCausalLM),
        (HyperCLOVAXConfig(**SMALL, logits_scaling=8.0), HyperCLOVAXForCausalLM),
        (CohereConfig(**SMALL, logit_scale=0.0625), CohereForCausalLM),
        (LlamaConfig(**SMALL, tie_word_embeddings=False), LlamaForCausalLM),
    ],
    ids=["soft-capped", "divided", "multiplied by what others divide by", "multiplied", "plain, untied"],
)
def test_heads(tmp_path: Path, config: PreTrainedConfig, kind: type[PreTrainedModel]) -> None:
    torch.manual_seed(0)
    made = kind(config).eval()
    made.save_pretrained(tmp_path)
    model, ids = load(tmp_path), torch.arange(9)[None]
    assert head(model).weight.shape == (32, 32)
    known = projection(model, 30).logits(hidden_states(model, ids))
    torch.testing.assert_close(known, model(input_ids=ids).logits[..., :30])
    made.set_attn_implementation("eager")  # the one that does all that a configuration asks for
    torch.testing.assert_close(known, made(input_ids=ids).logits[..., :30])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda() -> None:
    with pytest.raises(ConfigError, match=r"runtime\.device: cuda"):
        device_of(Runtime(device="cuda"))
    assert device_of(Runtime()) == CPU
