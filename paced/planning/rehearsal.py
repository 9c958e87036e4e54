"""Every operation of a run, tried before the first one on a small random model of the same architecture.

What an architecture's code does is not to be read from its name or its configuration. So a model is built of the same
configuration with fewer and narrower layers, and the functions that the stages call are called on it: loaded, sampled,
scored, trained, stored and loaded again, in seconds and on the CPU. Each result is held against a plain forward pass.

Shapes: T tokens of a sequence, V ids of the small model.
"""

import contextlib
import functools
import shutil
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from paced.config import Model, Sampling, Training
from paced.distill.checkpoints import State, save_model
from paced.distill.objectives import TrainingSample
from paced.distill.student import Student, check_recomputed, recompute_activations
from paced.errors import ConfigError
from paced.losses import exact, forward_kl
from paced.models import load_model, lora, next_logits
from paced.models.scoring import scored
from paced.sampling.engines.base import Request
from paced.sampling.engines.transformers import TransformersEngine

# The library's names of what makes a model large, and how much of it a rehearsal needs. Heads keep their size, which
# rotary embeddings are made for; windows are short enough for a sequence here to leave them.
SMALL = {
    "vocab_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128,
    "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64, "num_experts": 8, "num_local_experts": 8,
    "n_routed_experts": 8, "num_experts_per_tok": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "max_position_embeddings": 128, "sliding_window": 8, "attention_chunk_size": 8,
}  # fmt: skip
WIDE = {"vocab_size": 64, "sliding_window": 8}  # of an architecture whose sizes depend on each other
LAYERS = 6
LARGEST = 100_000_000  # parameters of a model that is rehearsed
PROMPTS = ([5, 9, 3], [7, 4, 4, 20, 8, 6, 13, 3, 5, 17, 11], [10] * 5)
RANK = 2  # of adapters, at most
NEW = 21  # tokens drawn behind each prompt
CPU = torch.device("cpu")


class Rehearsal(NamedTuple):
    """What a run will do with a model."""

    sampled: bool  # by the transformers engine
    trained: Training | None


def rehearse(folder: Path, config: Model, role: Rehearsal) -> str:
    """Do with a small model of the folder's architecture what a run will do with the model itself.

    Returns:
        '' if all of it was done, else why there is no small model.

    Raises:
        ConfigError: with the first operation that fails or gives another result than a plain forward pass.
    """
    trained = role.trained
    matters = trained and Training(
        lora_rank=min(trained.lora_rank, RANK), gradient_checkpointing=trained.gradient_checkpointing
    )
    about = (folder / "config.json").read_text()
    return _rehearse(folder, about, config.trust_remote_code, role._replace(trained=matters))


@functools.lru_cache(maxsize=64)  # what it raises is not kept
def _rehearse(folder: Path, about: str, trust: bool, role: Rehearsal) -> str:
    """``about`` is the configuration as it stands now."""
    with tempfile.TemporaryDirectory() as name:
        trial = Trial(folder, Path(name))
        small, why = _small_model(folder, trust)
        if small is None:
            return why
        for file in folder.glob("*.py"):
            trial.first.mkdir(exist_ok=True)
            shutil.copyfile(file, trial.first / file.name)
        if not role.trained:  # it will not be stored, and may have a generation configuration that cannot be
            small.generation_config = GenerationConfig()
        with trial.trying("storing it"):
            small.save_pretrained(trial.first)
        own = Model(path=str(trial.first), trust_remote_code=trust)
        with trial.trying("loading it"):
            model = load_model(trial.first, own, CPU)
        size = model.config.get_text_config().vocab_size
        with trial.trying("scoring a batch"):
            _check_scores(model, size)
        if role.sampled:
            with trial.trying("sampling with engine.kind transformers (vllm may)"):
                _check_samples(load_model(trial.first, own, CPU), model, size)
        if role.trained:
            _rehearse_training(trial, own, role.trained, size)
    return ""


class Trial(NamedTuple):
    """Where a rehearsal takes place: the folder of the model, and that of the small ones."""

    folder: Path
    place: Path

    @property
    def first(self) -> Path:
        return self.place / "first"

    @property
    def last(self) -> Path:
        return self.place / "last"

    @contextlib.contextmanager
    def trying(self, what: str) -> Generator[None]:
        """Whatever an architecture's own code raises becomes one line."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            for small in (self.first, self.last):
                reason = reason.replace(f"model {small}: ", "").replace(str(small), str(self.folder))
            raise ConfigError(
                f"model {self.folder}: {what} fails, as a small model of its architecture shows: {reason}"
            ) from None


class Differs(Exception):
    """A result is not that of a plain forward pass."""


def _close(found: Tensor, plain: Tensor, what: str) -> None:
    scale = float(plain.std()) or 1.0
    gap = float((found - plain).abs().max())
    if not gap < 1e-3 * scale:  # a NaN is not
        raise Differs(f"{what} (by {gap:.2g}, where logits spread by {scale:.2g})")


def _ids(tokens: list[int], size: int) -> Tensor:
    return torch.tensor([[t % size for t in tokens]])


@torch.no_grad()
def _check_scores(model: PreTrainedModel, size: int) -> None:
    """That logits in a batch are those of a sequence alone: it is padded on the right, without a mask."""
    sequences = [([t % size for t in p], [t % size for t in range(3, 3 + NEW)]) for p in PROMPTS]
    for batch, hidden in scored(model, sequences):
        logits = next_logits(model, hidden, size)
        for i, found in zip(batch, logits.split([NEW] * len(batch)), strict=True):
            prompt, response = sequences[i]
            ids = torch.tensor([prompt + response])
            alone = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1, :size]
            _close(found, alone, "a sequence's logits depend on what else is in its batch, or behind it")


def _check_samples(sampled: PreTrainedModel, plain: PreTrainedModel, size: int) -> None:
    """That the most probable tokens which the engine draws are those of a plain forward pass."""

    class Ids(NamedTuple):
        size: int
        eos: int

    if sampled.generation_config:
        sampled.generation_config.eos_token_id = None
    engine = TransformersEngine(sampled, Ids(size, size), len(PROMPTS))  # pyright: ignore[reportArgumentType]
    prompts = [[t % size for t in p] for p in PROMPTS]
    requests = [Request(p, seed) for seed, p in enumerate(prompts)]
    responses = engine.sample(requests, Sampling(top_k=1, max_new_tokens=NEW), lambda done: None)
    for prompt, response in zip(prompts, responses, strict=True):
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor([[*prompt, *response.ids]]), use_cache=False).logits[0]
        logits = logits[len(prompt) - 1 : -1, :size]
        drawn = logits.gather(1, torch.tensor(response.ids)[:, None])[:, 0]
        _close(drawn, logits.amax(-1), "it draws other tokens than the most probable")


def _rehearse_training(trial: Trial, config: Model, training: Training, size: int) -> None:
    model = load_model(trial.first, config, CPU)
    if training.lora_rank:
        with trial.trying("training.lora_rank"):
            lora.adapt(model, training.lora_rank, training.adapter_alpha, torch.float32, None)
    trained = [p for p in model.parameters() if p.requires_grad]
    with trial.trying("training.gradient_checkpointing" if training.gradient_checkpointing else "training"):
        if training.gradient_checkpointing:
            recompute_activations(model)
        samples = [TrainingSample([t % size for t in p], [3, 4, 5, 6, 7], 1.0, 0) for p in PROMPTS]
        student, shares = Student(model, size, "float32"), torch.ones(5 * len(samples))

        def divergence(logits: Tensor, rows: slice) -> Tensor:
            return exact(forward_kl, logits, torch.zeros_like(logits))

        loss, values = student(samples, shares, divergence)
        check_recomputed(student, samples, values, divergence)
        loss.backward()
        if not all(bool(p.grad.isfinite().all()) for p in trained if p.grad is not None):
            raise Differs("gradients are not finite")
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in trained:  # as a step would, every one: an adapter adds nothing at first
            p += 0.05 * torch.randn(p.shape, generator=random) * (p.std(unbiased=False) + 0.1)
    with trial.trying("storing the trained student, with adapters," if training.lora_rank else "storing it trained"):
        state = State(model, torch.optim.AdamW(trained))
        save_model(model, state.weights(torch.float32), trial.folder, trial.last)
        again = load_model(trial.last, config, CPU)
        ids = _ids([*PROMPTS[1], *range(3, 3 + NEW)], size)
        with torch.no_grad():
            found, own = (m(input_ids=ids, use_cache=False).logits[0] for m in (again, model))
        _close(found, own, "loaded again, it is another model")


def _small_model(folder: Path, trust: bool) -> tuple[PreTrainedModel | None, str]:
    """A random model of the folder's architecture; of the sizes that it takes, the smallest. Or why there is none."""
    try:
        whole: Any = AutoConfig.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
    except Exception as error:
        return None, " ".join(str(error).split())[:300]
    why = ""
    for sizes, layers in ((SMALL, LAYERS), (SMALL, sys.maxsize), (WIDE, LAYERS), ({}, sys.maxsize)):
        try:
            config = small_config(whole, sizes, layers)
            with torch.device("meta"):
                made: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
            if (count := sum(p.numel() for p in made.parameters())) > LARGEST:
                why = why or f"the smallest has {count:,} parameters"
                continue
            return _random_model(config, trust), ""
        except Exception as error:  # sizes that this architecture cannot have
            why = " ".join(str(error).split())[:300]
            if not sizes:
                raise ConfigError(f"model {folder}: a model of its config.json cannot be run: {why}") from None
    return None, why


def _random_model(config: PreTrainedConfig, trust: bool) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust, dtype=torch.float32)
        _spread(model.eval())
        model(input_ids=torch.arange(3, 12)[None], use_cache=False)
    return model


@torch.no_grad()
def _spread(model: PreTrainedModel) -> None:
    """Random weights large enough that next tokens are far from equally probable, and biases that are not zero."""
    for p in model.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=1.5 / p.shape[-1] ** 0.5)
        else:
            p += 0.1 * torch.randn_like(p)


def small_config(config: PreTrainedConfig, sizes: Mapping[str, int], layers: int) -> PreTrainedConfig:
    """The configuration of a smaller model: no size above ``sizes``, so many layers, of each kind one at least."""
    tree: dict[str, Any] = config.to_dict()
    text: Any = config.get_text_config()
    inner = next((name for name, value in vars(config).items() if value is text), None)
    place: dict[str, Any] = tree if inner is None else tree[inner]
    _fewer_layers(place, text, layers)
    for name, most in sizes.items():
        key = text.attribute_map.get(name, name)
        value = place.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > most:
            place[key] = most
    _fit_hidden_size(place, text)
    rows = place[text.attribute_map.get("vocab_size", "vocab_size")]
    for part in (tree, place):
        for key, value in part.items():
            if key.endswith("_token_id"):
                part[key] = _within(value, rows)
    return type(config).from_dict(tree)


def _within(ids: Any, rows: int) -> Any:
    """Token ids of a configuration, those of rows that are cut off replaced."""
    if isinstance(ids, list):
        return sorted({_within(i, rows) for i in ids})
    return rows - 1 if isinstance(ids, int) and ids >= rows else ids


def _fit_hidden_size(place: dict[str, Any], text: Any) -> None:
    """A hidden size, and what equals it, that belongs to the number of heads if there are fewer."""
    name = {n: text.attribute_map.get(n, n) for n in ("hidden_size", "num_attention_heads", "num_key_value_heads")}
    heads, now = getattr(text, "num_attention_heads", None), place.get(name["num_attention_heads"])
    if not isinstance(heads, int) or not isinstance(now, int) or now == heads:
        return
    if getattr(text, "num_key_value_heads", None) == heads and name["num_key_value_heads"] in place:
        place[name["num_key_value_heads"]] = now
    hidden = place[name["hidden_size"]]
    for key, value in place.items():
        if value == hidden and (key == name["hidden_size"] or key.endswith(("_dim", "_size"))):
            place[key] = hidden // heads * now


def _fewer_layers(place: dict[str, Any], text: Any, most: int) -> None:
    key = text.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    layers = place.get(key)
    if not isinstance(layers, int) or layers <= most:
        return
    lists = {k: v for k, v in place.items() if isinstance(v, list) and len(v) == layers}
    # The first layer of each kind, then further ones from the front.
    kinds = list(zip(*lists.values(), strict=True)) if lists else [()] * layers
    firsts = {repr(kind): i for i, kind in reversed(list(enumerate(kinds)))}
    kept = sorted({*list(firsts.values())[:most]})
    kept = sorted({*kept, *[i for i in range(layers) if i not in kept][: most - len(kept)]})
    place[key] = len(kept)
    for name, values in lists.items():
        place[name] = [values[i] for i in kept]
