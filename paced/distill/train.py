"""Stage 'train': one loop for both objectives (paced/distill/objectives.py), on one device or on several.

The run is a function of its configuration: what a step draws depends on the seed and the step alone, and a checkpoint
holds weights, optimizer moments, step and RNG as safetensors and JSON. Killed and run again, it ends with the same
bits.
"""

import datetime
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from safetensors.torch import save_file
from torch import nn

from paced.batching import draws, micro_batches
from paced.config import Model, Training
from paced.distill import launch
from paced.distill.checkpoints import State, save_checkpoint, save_model
from paced.distill.objectives import Learning, make_objective
from paced.distill.student import Student, canary, coefficients, denominator, recompute_activations
from paced.errors import EngineError
from paced.models import DTYPES, Tokenizer, device_of, layers, load_model, lora, sharding
from paced.sampling.sampler import model_folder
from paced.stage import Job


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
        return launch.launch(job, Path(job.runtime.accelerate))
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


