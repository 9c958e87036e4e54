"""Stage 'train': one loop for both objectives (paced/objectives.py), on one device or on several.

The run is a function of its configuration: what a step draws depends on the seed and the step alone, and a checkpoint
holds weights, optimizer moments, step and RNG as safetensors and JSON. Killed and run again, it ends with the same
bits.
"""

import datetime
import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from paced import lora, sharding
from paced.batching import draws, micro_batches
from paced.config import Model, Training
from paced.errors import EngineError
from paced.models import DTYPES, Tokenizer, device_of, layers, load_model
from paced.objectives import (
    Learning,
    Student,
    canary,
    coefficients,
    denominator,
    make_objective,
    recompute_activations,
)
from paced.samples import model_folder
from paced.stage import Job

COMPANIONS = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    "generation_config.json", "*.py",  # code that a tokenizer needs, read by none who does not trust it
)  # fmt: skip


class Config(Learning):
    """Identity-relevant configuration of the stage.

    ``start`` is the first step under the arm's one schedule of ``training.steps``, ``draw_start`` the first draw of
    this objective; ``more`` says that another training stage follows, which needs fp32 weights and the moments.
    """

    steps: int
    start: int
    draw_start: int
    more: bool
    training: Training


def learning_rate(step: int, training: Training) -> float:
    """Linear warm-up, then linear decay to ``final_share`` of the peak at the last of ``training.steps`` steps."""
    if step < training.warmup:
        return training.learning_rate * (step + 1) / training.warmup
    progress = (step - training.warmup) / max(1, training.steps - 1 - training.warmup)
    return training.learning_rate * (1 - (1 - training.final_share) * min(1.0, progress))


class State:
    """What is trained, AdamW moments and RNG, saved so that a continued run is the uninterrupted one to the bit."""

    def __init__(self, model: PreTrainedModel, optimizer: torch.optim.AdamW):
        self.model, self.optimizer = model, optimizer
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def tensors(self, weights: bool) -> dict[str, Tensor]:
        """Whole tensors; with several processes each must ask, and the first one has them on its host."""
        result: dict[str, Tensor] = {"rng": torch.get_rng_state()}

        def keep(name: str, value: Tensor) -> None:
            value = sharding.whole(value)
            if sharding.rank() == 0:
                result[name] = value.contiguous() if sharding.processes() == 1 else value.cpu()

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
                value, own = sharding.whole(parameter.detach()), lora.added(self.model, name)
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
                    parameter.data.copy_(sharding.like(stored.get_tensor(f"weight.{name}"), parameter.data))
                if f"step.{name}" not in names:  # it has never had a gradient
                    continue
                self.optimizer.state[parameter] = {
                    "step": stored.get_tensor(f"step.{name}").clone(),  # else the file stays open
                    **{
                        key: sharding.like(stored.get_tensor(f"{key}.{name}"), parameter.data)
                        for key in ("exp_avg", "exp_avg_sq")
                    },
                }


def save_checkpoint(work: Path, state: State, step: int, lines: list[str]) -> None:
    """Write ``checkpoint-STEP`` whole, then remove the older ones."""
    final, temporary = work / f"checkpoint-{step:06d}", work / ".checkpoint.tmp"
    tensors = state.tensors(weights=True)
    if sharding.rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "metrics.jsonl").write_text("".join(lines))
        for file in temporary.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        temporary.rename(final)
        for old in sorted(work.glob("checkpoint-*"))[:-1]:
            shutil.rmtree(old)
    sharding.meet()


def shares(batches: Sequence[list[int]], rank: int, processes: int) -> list[tuple[list[int], bool]]:
    """The micro-batches of one process, and whether each counts: all processes make equally many forward passes."""
    rounds = math.ceil(len(batches) / processes)
    own = [r * processes + rank for r in range(rounds)]
    return [(batches[i], True) if i < len(batches) else (batches[0], False) for i in own]


def train(job: Job) -> None:
    """Inputs: problems, weights, model; answers (forward), or rollouts and teacher (reverse).

    An input ``state``, an earlier training artifact, hands on its optimizer moments.

    Files: model/ (a plain Hugging Face folder), metrics.jsonl, state.safetensors if more training follows; it has the
    adapters, too, if there are any.

    Raises:
        EngineError: the loss does not depend on the teacher, or it or the gradient is not finite; the last good
            checkpoint is kept.
    """
    if job.runtime.accelerate:
        return sharding.launch(job, Path(job.runtime.accelerate))
    config = Config.model_validate(job.spec.config)
    training = config.training
    # The others wait while the first process packs targets and writes checkpoints, which may be long.
    patient = InitProcessGroupKwargs(timeout=datetime.timedelta(hours=6))
    device = Accelerator(cpu=device_of(job.runtime).type == "cpu", kwargs_handlers=[patient]).device
    torch.manual_seed(config.seed)
    folder = model_folder(job.input("model"))
    tokenizer = Tokenizer(folder, config.trust_remote_code, config.thinking)
    # Weights are trained in fp32 whatever precision they are computed in: bf16 cannot hold a step of 1e-6.
    full = Model(path=str(folder), trust_remote_code=config.trust_remote_code)
    before = job.input("state").folder / "state.safetensors" if "state" in job.spec.inputs else None
    if training.lora_rank:
        model = load_model(folder, full, torch.device("cpu"))
        lora.adapt(model, training.lora_rank, training.adapter_alpha, DTYPES[config.dtype], before)
        model.to(sharding.loading(device))  # pyright: ignore[reportArgumentType]
    else:
        model = load_model(folder, full, sharding.loading(device))
    if training.gradient_checkpointing:
        recompute_activations(model)
    if training.compile:
        for layer in layers(model):
            layer.compile(dynamic=True)  # for every length at once: what a run computes does not depend on a resume
    student = Student(model, tokenizer.size, config.dtype, config.temperature)
    sharding.shard(student, model, device, gather_once=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, training.learning_rate, betas=training.betas, weight_decay=training.weight_decay
    )
    state = State(model, optimizer)
    weighed = job.table("weights", "pass_rates.parquet", ["problem_id", "weight"])
    objective = make_objective(job, config, tokenizer, weighed, device)

    first, lines, tokens = 0, list[str](), 0
    checkpoints = sorted(job.work.glob("checkpoint-*"))
    if checkpoints:
        first = int(checkpoints[-1].name.rpartition("-")[2])
        state.restore(checkpoints[-1] / "state.safetensors")
        lines = (checkpoints[-1] / "metrics.jsonl").read_text().splitlines(keepends=True)
        tokens = sum(json.loads(line)["tokens"] for line in lines)
        job.log(f"resuming at step {first} of {config.steps}")
    elif before:
        state.restore(before)

    for step in range(first, config.steps):
        drawn = draws(objective.population, config.seed, config.draw_start + step * training.batch, training.batch)
        samples = [objective.sample(item, epoch) for item, epoch in drawn]
        whole = denominator(samples, training.reduction)
        sums = {"loss": 0.0, "divergence": 0.0}
        batches = list(micro_batches([len(s.prompt) + len(s.response) for s in samples], training.micro_batch_tokens))
        if step == 0:
            canary(student, objective, [samples[i] for i in batches[0]], device)
        for batch, counts in shares(batches, sharding.rank(), sharding.processes()):
            chosen = [samples[i] for i in batch]
            coefficient = torch.tensor(coefficients(chosen, whole, training.reduction), device=device) * counts
            loss, values = student(chosen, coefficient, objective.divergence(chosen))
            loss.backward()
            sums["loss"] += loss.item()
            sums["divergence"] += values.double().sum().item() * counts
        sums = sharding.total(sums, device)
        norm = float(sharding.whole(nn.utils.clip_grad_norm_(trained, training.clip)))
        if not (math.isfinite(sums["loss"]) and math.isfinite(norm)):
            good = max([0, *(int(c.name.rpartition("-")[2]) for c in job.work.glob("checkpoint-*"))])
            kept = f"the checkpoint after {good} steps of this stage is kept" if good else "no checkpoint was made yet"
            raise EngineError(
                f"loss {sums['loss']} and gradient norm {norm} at step {config.start + step + 1}: training stopped, "
                f"{kept}; lower training.learning_rate"
            )
        rate = learning_rate(config.start + step, training)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()

        count = sum(len(s.response) for s in samples)
        tokens += count
        metrics = {
            "loss": sums["loss"],
            "kl_per_token": sums["divergence"] / count,
            "gradient_norm": norm,
            "learning_rate": rate,
            "mean_weight": sum(s.weight for s in samples) / len(samples),
            "tokens": count,
        }
        lines.append(json.dumps({"step": config.start + step + 1, **metrics}) + "\n")
        job.metric(config.start + step + 1, metrics)
        if (step + 1) % job.runtime.checkpoint_every == 0 and step + 1 < config.steps:
            save_checkpoint(job.work, state, step + 1, lines)
        job.progress(step + 1, config.steps, f"steps on {config.loss}")

    kept = state.tensors(weights=training.lora_rank > 0) if config.more else {}
    weights = state.weights(DTYPES["float32" if config.more else config.dtype])
    if sharding.rank() == 0:
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "metrics.jsonl").write_text("".join(lines))
        job.add("metrics.jsonl")
        if config.more:
            save_file(kept, job.folder / "state.safetensors")
            job.add("state.safetensors")
        save_model(model, weights, folder, job.folder / "model")
        for file in sorted((job.folder / "model").iterdir()):
            job.add(f"model/{file.name}")
    job.counts |= {"steps": config.steps, "tokens": tokens, "problems": objective.population}


def save_model(model: PreTrainedModel, weights: dict[str, Tensor], source: Path, target: Path) -> None:
    """A plain Hugging Face folder: weights and configuration, and the source's tokenizer files byte for byte."""
    shutil.rmtree(target, ignore_errors=True)
    with torch.device("meta"):
        plain = type(model)(model.config)
    plain.load_state_dict(weights, strict=False, assign=True)
    plain.tie_weights()
    plain.save_pretrained(target)
    for pattern in COMPANIONS:
        for file in source.glob(pattern):
            shutil.copyfile(file, target / file.name)
