"""What a training run stores: checkpoints that it resumes from to the bit, and the student as a plain folder."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from paced.models import head, lora, sharding
from paced.storage.files import make_folder, sync, vouch, vouched

NOTE = "checkpoint.json"  # which bytes a checkpoint's files have

COMPANIONS = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken",
    "chat_template.*", "additional_chat_templates/*", "generation_config.json", "*processor_config.json",
    "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*",
    "*.py",  # code that a tokenizer needs, read by none who does not trust it
)  # fmt: skip


class State:
    """What is trained, AdamW moments and RNG, saved so that a continued run is the uninterrupted one to the bit."""

    def __init__(self, model: PreTrainedModel, optimizer: torch.optim.AdamW):
        self.model, self.optimizer = model, optimizer
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def tensors(self, weights: bool) -> dict[str, Tensor]:
        """Whole tensors; with several processes each must ask, and the first one has them on its host."""
        result: dict[str, Tensor] = {"rng": torch.get_rng_state()}

        def keep(name: str, value: Tensor) -> None:
            value = sharding.full_tensor(value)
            if sharding.rank() == 0:
                result[name] = value.contiguous() if sharding.world_size() == 1 else value.cpu()

        for name, parameter in self.parameters.items():
            if weights:
                keep(f"weight.{name}", parameter.detach())
            for key, value in self.optimizer.state.get(parameter, {}).items():
                keep(f"{key}.{name}", value)
        return result

    def weights(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Whole parameters of the plain model, and the buffers stored with them, on the host of the first process."""
        result: dict[str, Tensor] = {}
        stored = self.model.state_dict().keys()
        for name, buffer in self.model.named_buffers():
            if name in stored and (plain := lora.plain(name)):
                result[plain] = buffer.cpu()
        for name, parameter in self.model.named_parameters():
            if plain := lora.plain(name):
                value, own = sharding.full_tensor(parameter.detach()), lora.added(self.model, name)
                if sharding.rank() == 0:
                    result[plain] = (value if own is None else value.float() + own).to("cpu", dtype)
        return result

    def restore(self, path: Path) -> None:
        """Tensor by tensor: no more than one of them is held beside the state."""
        with safe_open(path, "pt") as stored:
            names = set(stored.keys())
            torch.set_rng_state(stored.get_tensor("rng"))
            for name, parameter in self.parameters.items():
                if f"weight.{name}" in names:
                    parameter.data.copy_(sharding.sharded_like(stored.get_tensor(f"weight.{name}"), parameter.data))
                if f"step.{name}" not in names:  # it has never had a gradient
                    continue
                self.optimizer.state[parameter] = {
                    "step": stored.get_tensor(f"step.{name}").clone(),  # else the file stays open
                    **{
                        key: sharding.sharded_like(stored.get_tensor(f"{key}.{name}"), parameter.data)
                        for key in ("exp_avg", "exp_avg_sq")
                    },
                }


def newest_checkpoint(work: Path, log: Callable[[str], None]) -> Path | None:
    """The last checkpoint whose bytes are those that were saved; ``log`` is told of any that is left behind."""
    for folder in sorted(work.glob("checkpoint-*"), reverse=True):
        if vouched(folder / NOTE):
            return folder
        log(f"{folder} is damaged and left behind: training begins at what was saved before it")
    return None


def save_checkpoint(work: Path, state: State, step: int, lines: list[str]) -> None:
    """Write ``checkpoint-STEP`` whole, of those before it leaving one."""
    final, temporary = work / f"checkpoint-{step:06d}", work / ".checkpoint.tmp"
    tensors = state.tensors(weights=True)
    if sharding.rank() == 0:
        before = sorted(folder for folder in work.glob("checkpoint-*") if folder < final)[-1:]
        for other in {temporary, *work.glob("checkpoint-*")} - {*before}:  # a damaged one may be of this very step
            shutil.rmtree(other, ignore_errors=True)
        make_folder(temporary)
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "metrics.jsonl").write_text("".join(lines))
        vouch(temporary / NOTE, temporary / "state.safetensors", temporary / "metrics.jsonl")
        temporary.rename(final)
        sync(work)
    sharding.barrier()


def save_model(model: PreTrainedModel, weights: dict[str, Tensor], source: Path, target: Path) -> None:
    """A plain Hugging Face folder: weights and configuration, and the source's companions byte for byte.

    Whether the output projection is the embedding follows from the trained model: a folder that has weights of both is
    loaded with both, whatever its configuration says.
    """
    shutil.rmtree(target, ignore_errors=True)
    config = copy.deepcopy(model.config)
    if head(model).weight is not model.get_input_embeddings().weight:
        for part in (config, config.get_text_config()):
            if getattr(part, "tie_word_embeddings", False):
                part.tie_word_embeddings = False
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(weights, strict=False, assign=True)
    plain.tie_weights()
    plain.save_pretrained(target)
    for pattern in COMPANIONS:
        for file in source.glob(pattern):
            (target / file.relative_to(source)).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target / file.relative_to(source))
