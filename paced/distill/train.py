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
from typing import Literal

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from safetensors.torch import save_file
from torch import nn

from paced.batching import draws, micro_batches
from paced.config import Model, Training
from paced.config.stages import TrainConfig
from paced.distill import launch
from paced.distill.checkpoints import State, newest_checkpoint, save_checkpoint, save_model
from paced.distill.objectives import Objective, TrainingSample, make_objective
from paced.distill.student import (
    Student,
    canary,
    check_recomputed,
    coefficients,
    denominator,
    recompute_activations,
)
from paced.errors import EngineError
from paced.models import DTYPES, Tokenizer, device_of, layers, load_model, lora, sharding
from paced.stage import Job
from paced.storage.artifacts import model_folder


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
    trainer = Trainer(job, TrainConfig.model_validate(job.spec.config))
    trainer.run()
    trainer.store()


class Trainer:
    """One training stage in this process, alone or one of several.

    Attributes:
        lines: the metrics of each step done, as lines of JSON.
    """

    def __init__(self, job: Job, config: TrainConfig):
        self.job, self.config = job, config
        # The others wait while the first process packs targets and writes checkpoints, which may be long.
        patient = InitProcessGroupKwargs(timeout=datetime.timedelta(hours=6))
        self.device = Accelerator(cpu=device_of(job.runtime).type == "cpu", kwargs_handlers=[patient]).device
        torch.manual_seed(config.seed)
        self.source = model_folder(job.input("model"))
        tokenizer = Tokenizer(self.source, config.trust_remote_code, config.thinking)
        self.earlier = job.file("state", "state.safetensors") if "state" in job.spec.inputs else None
        self.student = trainable_student(self.source, config, tokenizer.size, self.device, self.earlier)
        self.parameters = [p for p in self.student.model.parameters() if p.requires_grad]
        training = config.training
        self.optimizer = torch.optim.AdamW(
            self.parameters, training.learning_rate, betas=training.betas, weight_decay=training.weight_decay
        )
        self.state = State(self.student.model, self.optimizer)
        weights = job.table("weights", "pass_rates.parquet", ["problem_id", "weight"])
        self.objective = make_objective(job, config, tokenizer, weights, self.device)
        self.lines: list[str] = []

    def run(self) -> None:
        """Every step that is not done yet, with a checkpoint now and then."""
        job, config = self.job, self.config
        for step in range(self._resume(), config.steps):
            metrics = self._step(step)
            number = config.start + step + 1
            self.lines.append(json.dumps({"step": number, **metrics}) + "\n")
            job.metric(number, metrics)
            if (step + 1) % job.runtime.checkpoint_every == 0 and step + 1 < config.steps:
                save_checkpoint(job.work, self.state, step + 1, self.lines)
            job.progress(step + 1, config.steps, f"steps on {config.loss}")
        tokens = sum(json.loads(line)["tokens"] for line in self.lines)
        job.counts |= {"steps": config.steps, "tokens": tokens, "problems": self.objective.population}

    def _resume(self) -> int:
        """Restore the newest checkpoint, or else the state of the stage before; returns how many steps are done."""
        checkpoint = newest_checkpoint(self.job.work, self.job.log)
        if checkpoint is None:
            if self.earlier:
                self.state.restore(self.earlier)
            return 0
        done = int(checkpoint.name.rpartition("-")[2])
        self.state.restore(checkpoint / "state.safetensors")
        self.lines = (checkpoint / "metrics.jsonl").read_text().splitlines(keepends=True)
        self.job.log(f"resuming at step {done} of {self.config.steps}")
        return done

    def _samples(self, step: int) -> list[TrainingSample]:
        """What a step learns from; it depends on the seed and the step alone."""
        batch = self.config.training.batch
        start = self.config.draw_start + step * batch
        return drawn_samples(self.objective, self.config.seed, start, batch, self.config.training.weight_as)

    def _step(self, step: int) -> dict[str, float]:
        """One step of AdamW on the weighted divergence of its samples; returns its metrics."""
        config, training, samples = self.config, self.config.training, self._samples(step)
        loss, divergence = self._gradients(samples, first=step == 0)
        norm = float(sharding.full_tensor(nn.utils.clip_grad_norm_(self.parameters, training.clip)))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise not_finite(self.job.work, loss, norm, config.start + step + 1)
        rate = learning_rate(config.start + step, training)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        tokens = sum(len(s.response) for s in samples)
        return {
            "loss": loss,
            "kl_per_token": divergence / tokens,
            "gradient_norm": norm,
            "learning_rate": rate,
            "mean_weight": sum(s.weight for s in samples) / len(samples),
            "tokens": tokens,
        }

    def _gradients(self, samples: Sequence[TrainingSample], first: bool) -> tuple[float, float]:
        """Gradients of a step's loss, micro-batch by micro-batch; returns loss and summed divergence of all processes.

        Raises:
            EngineError: at the ``first`` step, the loss does not depend on the teacher's distributions.
        """
        reduction = self.config.training.reduction
        whole = denominator(samples, reduction)
        lengths = [len(s.prompt) + len(s.response) for s in samples]
        batches = list(micro_batches(lengths, self.config.training.micro_batch_tokens))
        if first:
            canary(self.student, self.objective, [samples[i] for i in batches[0]], self.device)
        sums = {"loss": 0.0, "divergence": 0.0}
        recomputes = first and self.config.training.gradient_checkpointing
        for batch, counts in shares(batches, sharding.rank(), sharding.world_size()):
            chosen = [samples[i] for i in batch]
            coefficient = torch.tensor(coefficients(chosen, whole, reduction), device=self.device) * counts
            divergence = self.objective.divergence(chosen)
            loss, values = self.student(chosen, coefficient, divergence)
            if recomputes:  # every process, for all must make equally many passes
                check_recomputed(self.student, chosen, values, divergence)
                recomputes = False
            loss.backward()
            sums["loss"] += loss.item()
            sums["divergence"] += values.double().sum().item() * counts
        sums = sharding.all_reduce_sum(sums, self.device)
        return sums["loss"], sums["divergence"]

    def store(self) -> None:
        """Write the artifact's files; every process must call it, and the first one writes."""
        job, more = self.job, self.config.more
        kept = self.state.tensors(weights=self.config.training.lora_rank > 0) if more else {}
        weights = self.state.weights(DTYPES["float32" if more else self.config.dtype])
        if sharding.rank() != 0:
            return
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "metrics.jsonl").write_text("".join(self.lines))
        job.add("metrics.jsonl")
        if more:
            save_file(kept, job.folder / "state.safetensors")
            job.add("state.safetensors")
        save_model(self.student.model, weights, self.source, job.folder / "model")
        for file in sorted((job.folder / "model").rglob("*")):
            if file.is_file():
                job.add(str(file.relative_to(job.folder)))


def drawn_samples(
    objective: Objective, seed: int, start: int, number: int, weight_as: Literal["factor", "probability"]
) -> list[TrainingSample]:
    """The samples of ``number`` draws from draw ``start`` on.

    Drawn as often as their weights say, all count their mean, which is 1 unless some problems have no response: so the
    expectation of a step's gradient is that of draws which know no weights, each counting its own.
    """
    if weight_as == "factor":
        return [objective.sample(*drawn) for drawn in draws(objective.population, seed, start, number)]
    mean = float(objective.weights.mean())
    items = draws(objective.population, seed, start, number, objective.weights)
    return [objective.sample(*drawn)._replace(weight=mean) for drawn in items]


def trainable_student(
    folder: Path, config: TrainConfig, vocabulary: int, device: torch.device, earlier: Path | None
) -> Student:
    """The student ready to be trained: adapted, checkpointed, compiled and sharded as the configuration says.

    Args:
        vocabulary: ids the tokenizer knows.
        earlier: state of the training stage before; its adapters go on.
    """
    training = config.training
    # Weights are trained in fp32 whatever precision they are computed in: bf16 cannot hold a step of 1e-6.
    full = Model(path=str(folder), trust_remote_code=config.trust_remote_code)
    if training.lora_rank:
        model = load_model(folder, full, torch.device("cpu"))
        lora.adapt(model, training.lora_rank, training.adapter_alpha, DTYPES[config.dtype], earlier)
        model.to(sharding.loading_device(device))  # pyright: ignore[reportArgumentType]
    else:
        model = load_model(folder, full, sharding.loading_device(device))
    if training.gradient_checkpointing:
        recompute_activations(model)
    if training.compile:
        for layer in layers(model):
            layer.compile(dynamic=True)  # for every length at once: what a run computes does not depend on a resume
    student = Student(model, vocabulary, config.dtype, config.temperature)
    sharding.shard(student, model, device, gather_once=False)
    return student


def not_finite(work: Path, loss: float, norm: float, step: int) -> EngineError:
    """The error of a step whose loss or gradient norm is not finite; says which checkpoint is kept."""
    good = max([0, *(int(c.name.rpartition("-")[2]) for c in work.glob("checkpoint-*"))])
    kept = f"the checkpoint after {good} steps of this stage is kept" if good else "no checkpoint was made yet"
    return EngineError(
        f"loss {loss} and gradient norm {norm} at step {step}: training stopped, {kept}; lower training.learning_rate"
    )
