"""What a folder holds is taken whole or refused; what is stored is the trained model, whatever config.json says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import configuration, make
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from paced.config import Model, Training
from paced.distill.checkpoints import State, save_model
from paced.distill.objectives import TrainingSample
from paced.distill.student import Student, check_recomputed, recompute_activations
from paced.errors import ConfigError, DataError, EngineError
from paced.losses import exact, forward_kl
from paced.models import empty_model, head, layers, load_model
from paced.models.checks import check_ends, check_files, ignored, logit_divisor
from paced.planning.footprint import shape
from paced.planning.models import check_rows
from paced.planning.rehearsal import LAYERS, SMALL, Rehearsal, rehearse, small_config
from paced.storage.identity import model_identity

CPU = torch.device("cpu")
Harm = Callable[[Path], object]


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("untied"), tie_word_embeddings=False)


@pytest.fixture
def folder(untied: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(untied, tmp_path / "model")


def load(folder: Path) -> Any:
    return load_model(folder, Model(path=str(folder)), CPU)


def store(model: Any, folder: Path, target: Path) -> None:
    save_model(model, State(model, torch.optim.AdamW(model.parameters())).weights(torch.float32), folder, target)


def edit(name: str, **values: Any) -> Harm:
    def change(folder: Path) -> None:
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Harm:
    def harm(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})

    return harm


def stale(folder: Path) -> None:
    """An index of new shards beside the one file of an older save."""
    shutil.copyfile(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors")
    names = load_file(folder / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def classifier(folder: Path) -> None:
    config = configuration("gpt2", num_labels=3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def adapter(folder: Path) -> None:
    """As peft stores one; transformers loads it with the model, and says nothing."""
    plain = AutoModelForCausalLM.from_pretrained(folder)
    config = LoraConfig(r=2, target_modules=["q_proj"], base_model_name_or_path=str(folder))
    get_peft_model(plain, config).save_pretrained(str(folder))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (adapter, "an adapter beside its weights .adapter_config.json"),
        (stale, "both model.safetensors and model.safetensors.index.json, which names other files: remove the one"),
        (
            tensors(lambda t: t.update({f"model.layers.{i}.mlp.more.weight": torch.ones(3, 4) for i in range(11)})),
            r"11 tensors have no place in the model .* among them model.layers.0.mlp.more.weight \(3 x 4\)",
        ),
        (
            tensors(lambda t: t.update({"model.embed_tokens.weight": torch.ones(40, 32)})),
            "one tensor has another size than config.json says, among them model.embed_tokens.weight: 40 x 32 in the "
            "file, 32 x 32 in the model",
        ),
        (classifier, r"one tensor has no place .* score.weight \(3 x 32\)"),
        (edit("config.json", quantization_config={"quant_method": "of_mine"}), "names quant_method .of_mine., which"),
    ],
    ids=["adapter", "stale file", "left over", "rows", "classifier", "quantized"],
)
def test_weights_that_are_not_one_plain_model(folder: Path, harm: Harm, says: str) -> None:
    """Said alike when the model is loaded, and before, from names and sizes alone."""
    harm(folder)
    for attempt in (load, lambda f: empty_model(f, Model(path=str(f)))):
        with pytest.raises(DataError, match=says) as error:
            attempt(folder)
        assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_weight_may_be_left_over(folder: Path) -> None:
    tensors(lambda t: t.update({"model.position_ids": torch.arange(9), "model.mask": torch.ones(2, 2) > 0}))(folder)
    load(folder)


def test_weights_that_the_model_s_own_code_leaves_out_are_told(tmp_path: Path) -> None:
    """A head that predicts further tokens, which transformers does not use."""
    folder = make("ernie4_5_moe", tmp_path)
    tensors(lambda t: t.update({"model.mtp_block.0.weight": torch.ones(2, 2)}))(folder)
    assert ignored(folder, empty_model(folder, Model(path=str(folder)))) == {"model.mtp_block.0.weight": (2, 2)}


@pytest.mark.parametrize("said", [True, False])
def test_an_output_projection_of_its_own_is_stored(folder: Path, tmp_path: Path, said: bool) -> None:
    """Though the configuration says that it is the embedding: it is not, in the file."""
    edit("config.json", tie_word_embeddings=said)(folder)
    model = load(folder)
    with torch.no_grad():
        head(model).weight.mul_(1.5)
    store(model, folder, tmp_path / "s")
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "s")
    assert not torch.equal(again.lm_head.weight, again.model.embed_tokens.weight)
    ids = torch.tensor([[5, 9, 3, 7]])
    torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits)
    assert shape(str(tmp_path / "s")).tied is False


def test_a_tied_projection_stays_tied(tmp_path: Path) -> None:
    model = load(make("llama", tmp_path / "tied", tie_word_embeddings=True))
    store(model, tmp_path / "tied", tmp_path / "s")
    assert "lm_head.weight" not in load_file(tmp_path / "s" / "model.safetensors")
    assert json.loads((tmp_path / "s" / "config.json").read_text())["tie_word_embeddings"] is True


def test_companions_go_with_the_stored_student(folder: Path, tmp_path: Path) -> None:
    names = (
        "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "chat_template.json",
        "additional_chat_templates/tool_use.jinja", "LICENSE", "LICENSE.txt", "NOTICE", "spiece.model", "vocab.txt",
        "qwen.tiktoken",
    )  # fmt: skip
    (folder / "additional_chat_templates").mkdir()
    for name in (*names, "README.md", "optimizer.pt"):
        (folder / name).write_text(name)
    model = load(folder)
    store(model, folder, tmp_path / "s")
    assert [name for name in names if (tmp_path / "s" / name).read_text() != name] == []
    assert not (tmp_path / "s" / "README.md").exists() and not (tmp_path / "s" / "optimizer.pt").exists()


@pytest.mark.parametrize("name", ["vocab.txt", "spiece.model", "qwen.tiktoken", "additional_chat_templates/a.jinja"])
def test_every_tokenizer_file_is_in_the_identity(folder: Path, name: str) -> None:
    before = model_identity(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    assert model_identity(folder) != before


def test_recomputing_gives_the_same_loss_or_training_does_not_begin(tmp_path: Path) -> None:
    """Dropout of OPT's own layers is off; noise that comes with gradients is found before the first step."""
    model = load(make("opt", tmp_path, dropout=0.5, attention_dropout=0.5))
    samples, shares = [TrainingSample([5, 9, 3], [4, 6, 2], 1.0, 0)], torch.ones(3)

    def divergence(logits: torch.Tensor, rows: slice) -> torch.Tensor:
        return exact(forward_kl, logits, torch.zeros_like(logits))

    student = Student(model, 27, "float32")
    plain = student(samples, shares, divergence)[1]
    recompute_activations(model)
    values = student(samples, shares, divergence)[1]
    assert torch.equal(values, plain)
    check_recomputed(student, samples, values, divergence)
    layer = layers(model)[0]
    own = layer.forward
    layer.forward = lambda *a, **k: own(*a, **k) * (1.1 if torch.is_grad_enabled() else 1)
    noisy = student(samples, shares, divergence)[1]
    with pytest.raises(EngineError, match=r"with gradients and .* without: set training.gradient_checkpointing"):
        check_recomputed(student, samples, noisy, divergence)


def test_logits_that_no_number_gives(tmp_path: Path) -> None:
    own, products = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[2.0, 4.0, 8.0]])
    config = configuration("llama")
    assert logit_divisor("m", own, products, config) == 2.0  # its key-value heads, layers
    with pytest.raises(ConfigError, match="nor that times a number of its configuration"):
        logit_divisor("m", own.square(), products, config)
    with pytest.raises(ConfigError, match="nor that times a number"):
        logit_divisor("m", own * 0.7123, products, config)


@pytest.mark.parametrize("end", [-1, 99, [1, -1]])
def test_ends_that_are_no_tokens(folder: Path, end: Any) -> None:
    with pytest.raises(DataError, match=r"eos_token_id (-1|99) of its generation configuration is no token's"):
        check_ends(folder, end, 26)
    check_ends(folder, [0, 26], 26)


def test_a_teacher_of_fewer_rows(folder: Path) -> None:
    check_rows(32, folder)
    with pytest.raises(ConfigError, match=r"has 32 rows of ids .* tokenizer 33 ids"):
        check_rows(33, folder)


def test_a_model_that_cannot_be_run_is_refused(folder: Path) -> None:
    edit("config.json", rope_parameters={"rope_type": "of_mine"})(folder)
    with pytest.raises(ConfigError, match=r"a model of its config.json cannot be run"):
        rehearse(folder, Model(path=str(folder)), Rehearsal(True, None))


def test_what_is_never_stored_need_not_be_storable(folder: Path) -> None:
    """A teacher's generation configuration may be one that the library will not write."""
    edit("config.json", pad_token_id=-1)(folder)
    assert rehearse(folder, Model(path=str(folder)), Rehearsal(True, None)) == ""
    with pytest.raises(ConfigError, match="storing it fails"):
        rehearse(folder, Model(path=str(folder)), Rehearsal(True, Training()))


def test_the_configuration_is_read_anew(folder: Path) -> None:
    """A rehearsal is remembered, but not for another configuration in the same place."""
    role = Rehearsal(False, None)
    assert rehearse(folder, Model(path=str(folder)), role) == ""
    edit("config.json", model_type="bert", is_decoder=False)(folder)
    with pytest.raises(ConfigError):
        rehearse(folder, Model(path=str(folder)), role)


# Published: Qwen3-30B-A3B 30.5 B parameters, 3.3 B active; Mixtral 8x7B 46.7 and 12.9.
QWEN3_30B = {
    "num_experts": 128, "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "head_dim": 128,
    "num_key_value_heads": 4, "moe_intermediate_size": 768, "num_experts_per_tok": 8, "vocab_size": 151_936,
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "settings", "whole", "active", "cached"),
    [
        ("qwen3_moe", QWEN3_30B, 30.5, 3.35, 2 * 4 * 128),
        ("mixtral", {}, 46.7, 12.9, 2 * 8 * 128),
    ],
)
def test_mixtures_of_experts_are_planned(
    tmp_path: Path, architecture: str, settings: dict[str, Any], whole: float, active: float, cached: int
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": architecture} | settings))
    found = shape(str(tmp_path))
    assert found.parameters / 1e9 == pytest.approx(whole, rel=2e-3)
    assert found.active / 1e9 == pytest.approx(active, rel=2e-3)
    assert found.kv_width == cached
    assert found.multiplied == found.active - found.vocabulary * found.hidden  # the embedding is looked up


def test_a_compressed_cache_is_planned_as_it_is(tmp_path: Path) -> None:
    """DeepSeek-V3 keeps 512 + 64 numbers a token and layer, whatever its heads."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "deepseek_v3", "num_hidden_layers": 2}))
    assert shape(str(tmp_path)).kv_width == 512 + 64


@pytest.mark.parametrize("architecture", ["llama", "qwen3_moe", "gemma3_text", "gpt2", "deepseek_v3", "falcon", "phi3"])
def test_a_small_model_is_of_the_same_kind(architecture: str) -> None:
    """Of the sizes that models are published in: a few million parameters, each kind of layer, heads of one size."""
    from transformers import CONFIG_MAPPING

    config: Any = CONFIG_MAPPING[architecture]()
    small: Any = small_config(config, SMALL, LAYERS)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(small)
    assert sum(p.numel() for p in model.parameters()) < 1e8
    assert type(small) is type(config)
    assert set(getattr(small, "layer_types", None) or ()) == set(getattr(config, "layer_types", None) or ())
    assert getattr(small, "head_dim", 0) == getattr(config, "head_dim", 0)


def test_files_are_checked_where_there_is_no_configuration(tmp_path: Path) -> None:
    check_files(tmp_path)
