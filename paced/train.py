"""Stage 'train': weighted forward KL on the teacher's cached targets, or weighted reverse KL on the student's samples.

One program for both: an objective supplies samples and a divergence, the loop does the rest. Weights come as a column;
the trainer does not know why a problem weighs what it does. Losses are summed over tokens and divided once by one
denominator for the optimizer step, so splitting a step differently gives the same gradient (method section 7).

The run is a function of its configuration: what a step draws depends on the seed and the step alone, and a checkpoint
holds weights, optimizer moments, step and RNG as safetensors and JSON. Killed and run again, it ends with the same
bits.
"""

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from paced.batching import draws, micro_batches
from paced.config import Model, Precision, Training
from paced.errors import DataError, EngineError
from paced.losses import Divergence, bucketed_forward_kl, fused_loss, reverse_kl
from paced.models import DTYPES, Tokenizer, device_of, head, load_model, response_hidden, same_tokens
from paced.problems import problems_of
from paced.prompts import teacher_messages
from paced.rollouts import kept_problems
from paced.samples import model_folder
from paced.stage import Job
from paced.store import Collection
from paced.tables import SAMPLES, TARGETS
from paced.targets import Packed, decode

COMPANIONS = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    "generation_config.json",
)  # fmt: skip


class Config(BaseModel):
    """Identity-relevant configuration of the stage.

    ``start`` is the first step under the arm's one schedule of ``training.steps``, ``draw_start`` the first draw of
    this objective; ``more`` says that another training stage follows, which needs fp32 weights and the moments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    objective: Literal["forward", "reverse"]
    steps: int
    start: int
    draw_start: int
    seed: int
    more: bool
    training: Training
    dtype: Precision
    teacher_dtype: Precision
    privileged: bool = False
    trust_remote_code: bool = False
    teacher_trust_remote_code: bool = False


class Sample(NamedTuple):
    """One sequence of a step: what the student reads, what it is trained on, what its problem weighs."""

    prompt: list[int]
    response: list[int]
    weight: float
    place: int  # the objective's own


class Objective(Protocol):
    """Supplies the samples of a step and the divergence at their response positions."""

    population: int

    def sample(self, item: int, epoch: int) -> Sample: ...

    def divergence(self, samples: Sequence[Sample]) -> Divergence: ...


class Forward:
    """KL(p || q) along the teacher's answers, p from the cache (method section 3).

    Each epoch uses a problem's next answer.
    """

    def __init__(self, job: Job, tokenizer: Tokenizer, weights: dict[str, float], device: torch.device):
        table = job.table("answers", "answers.parquet")
        about = json.loads((job.input("answers").folder / "targets.json").read_text())
        collection = Collection(job.home, "targets", about, TARGETS, tokenizer.token_map)
        # In storage order, so that each part is opened once.
        order = table.sort_values(["part", "problem_id", "sample_index"], kind="stable")
        columns = ["response_ids", "entry_count", "entry_ids", "entry_logprobs", "tail_logprob"]
        pairs = list(zip(order["target_key"], order["part"], strict=True))
        self._packed = Packed(job.work / "targets", collection.rows(pairs, columns))
        answers: dict[str, list[int]] = {}
        for place, problem_id in enumerate(order["problem_id"]):
            answers.setdefault(problem_id, []).append(place)
        rows = {p["problem_id"]: p for p in problems_of(job.input("problems"))}
        ids = list(dict.fromkeys(table["problem_id"]))
        self._answers = [answers[i] for i in ids]
        self._prompts = [tokenizer.prompt(rows[i]["prompt"]) for i in ids]
        self._weights = [weights[i] for i in ids]
        self._device = device
        self.population = len(ids)

    def sample(self, item: int, epoch: int) -> Sample:
        place = self._answers[item][epoch % len(self._answers[item])]
        return Sample(self._prompts[item], self._packed.response(place), self._weights[item], place)

    def divergence(self, samples: Sequence[Sample]) -> Divergence:
        ids, logprobs, tail = decode(self._packed.sparse(s.place for s in samples), self._device)
        return lambda logits, rows: bucketed_forward_kl(logits, ids[rows], logprobs[rows], tail[rows])


class Reverse:
    """KL(q || p) along the student's own samples, exact: the frozen teacher is resident (method section 4).

    A privileged teacher scores the same response ids behind a prompt that also holds the reference solution.
    """

    def __init__(self, job: Job, config: Config, tokenizer: Tokenizer, weights: dict[str, float], device: torch.device):
        folder = model_folder(job.input("teacher"))
        same_tokens(tokenizer, Tokenizer(folder, config.teacher_trust_remote_code))
        self._teacher = load_model(
            folder,
            Model(path=str(folder), dtype=config.teacher_dtype, trust_remote_code=config.teacher_trust_remote_code),
            device,
        )
        self._head = head(self._teacher).weight[: tokenizer.size].detach()
        table = job.table("rollouts", "rollouts.parquet")
        table = table[(table["finish"] != "error") & ~table["problem_id"].duplicated()]
        about = json.loads((job.input("rollouts").folder / "samples.json").read_text())
        collection = Collection(job.home, "samples", about, SAMPLES, tokenizer.token_map)
        pairs = zip(table["sample_key"], table["part"], strict=True)
        responses = dict(
            zip(
                table["problem_id"],
                (r["response_ids"] for r in collection.rows(list(pairs), ["response_ids"])),
                strict=True,
            )
        )
        # Draws are from the whole population, as the rollouts stage made them; only drawn problems have a response.
        problems = kept_problems(job)
        self._responses = [responses.get(p["problem_id"]) for p in problems]
        drawn = [p if p["problem_id"] in responses else None for p in problems]
        self._prompts = [tokenizer.prompt(p["prompt"]) if p else [] for p in drawn]
        self._contexts = [tokenizer.prompt(teacher_messages(p, config.privileged)) if p else [] for p in drawn]
        self._weights = [weights[p["problem_id"]] for p in problems]
        self.population = len(problems)

    def sample(self, item: int, epoch: int) -> Sample:
        response = self._responses[item]
        if response is None:
            raise DataError("a drawn problem has no sample of the student: its sampler failed; run the stage again")
        return Sample(self._prompts[item], response, self._weights[item], item)

    def divergence(self, samples: Sequence[Sample]) -> Divergence:
        with torch.no_grad():
            contexts = [self._contexts[s.place] for s in samples]
            hidden = response_hidden(self._teacher, contexts, [s.response for s in samples])

        def value(logits: Tensor, rows: slice) -> Tensor:
            with torch.no_grad():
                teacher = (hidden[rows] @ self._head.T).to(logits.dtype)
            return reverse_kl(logits, teacher)

        return value


def learning_rate(step: int, training: Training) -> float:
    """Linear warm-up, then linear decay to ``final_share`` of the peak at the last of ``training.steps`` steps."""
    if step < training.warmup:
        return training.learning_rate * (step + 1) / training.warmup
    progress = (step - training.warmup) / max(1, training.steps - 1 - training.warmup)
    return training.learning_rate * (1 - (1 - training.final_share) * min(1.0, progress))


def coefficients(samples: Sequence[Sample], denominator: float, reduction: str) -> list[list[float]]:
    """What each response token counts: w / denominator (token), or w / (length * denominator) (sequence)."""
    return [
        [s.weight / denominator / (len(s.response) if reduction == "sequence" else 1)] * len(s.response)
        for s in samples
    ]


def denominator(samples: Sequence[Sample], reduction: str) -> float:
    """One number for the whole optimizer step: the sequences in it, or the sum of w over its tokens."""
    return float(len(samples)) if reduction == "sequence" else sum(s.weight * len(s.response) for s in samples)


class State:
    """Weights, AdamW moments, RNG and step, saved so that a continued run is the uninterrupted one to the last bit."""

    def __init__(self, model: PreTrainedModel, optimizer: torch.optim.AdamW):
        self.model, self.optimizer = model, optimizer
        self.parameters: dict[str, nn.Parameter] = dict(model.named_parameters())

    def tensors(self, weights: bool) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {"rng": torch.get_rng_state()}
        for name, parameter in self.parameters.items():
            if weights:
                result[f"weight.{name}"] = parameter.detach().contiguous()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                result[f"{key}.{name}"] = value.contiguous()
        return result

    def restore(self, path: Path) -> None:
        stored = load_file(path)
        torch.set_rng_state(stored["rng"])
        for name, parameter in self.parameters.items():
            if f"weight.{name}" in stored:
                parameter.data.copy_(stored[f"weight.{name}"])
            self.optimizer.state[parameter] = {
                "step": stored[f"step.{name}"],
                **{key: stored[f"{key}.{name}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")},
            }


def save_checkpoint(work: Path, state: State, step: int, lines: list[str]) -> None:
    """Write ``checkpoint-STEP`` whole, then remove the older ones."""
    final, temporary = work / f"checkpoint-{step:06d}", work / ".checkpoint.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(state.tensors(weights=True), temporary / "state.safetensors")
    (temporary / "metrics.jsonl").write_text("".join(lines))
    for file in temporary.iterdir():
        with file.open("rb+") as written:
            os.fsync(written.fileno())
    temporary.rename(final)
    for old in sorted(work.glob("checkpoint-*"))[:-1]:
        shutil.rmtree(old)


def train(job: Job) -> None:
    """Inputs: problems, weights, model; answers (forward), or rollouts and teacher (reverse).

    An input ``state``, an earlier training artifact, hands on its optimizer moments.

    Files: model/ (a plain Hugging Face folder), metrics.jsonl, state.safetensors if more training follows.

    Raises:
        EngineError: the loss or the gradient is not finite; the last good checkpoint is kept.
    """
    config = Config.model_validate(job.spec.config)
    training = config.training
    device = device_of(job.runtime)
    torch.manual_seed(config.seed)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if config.dtype == "bfloat16" else "no")
    folder = model_folder(job.input("model"))
    tokenizer = Tokenizer(folder, config.trust_remote_code)
    # Weights are trained in fp32 whatever precision they are computed in: bf16 cannot hold a step of 1e-6.
    model = load_model(folder, Model(path=str(folder), trust_remote_code=config.trust_remote_code), device)
    optimizer = torch.optim.AdamW(
        model.parameters(), training.learning_rate, betas=training.betas, weight_decay=training.weight_decay
    )
    state = State(model, optimizer)
    weight_table = job.table("weights", "pass_rates.parquet", ["problem_id", "weight"])
    weights = dict(zip(weight_table["problem_id"], weight_table["weight"], strict=True))
    objective: Objective = (
        Forward(job, tokenizer, weights, device)
        if config.objective == "forward"
        else Reverse(job, config, tokenizer, weights, device)
    )

    first, lines, tokens = 0, list[str](), 0
    checkpoints = sorted(job.work.glob("checkpoint-*"))
    if checkpoints:
        first = int(checkpoints[-1].name.rpartition("-")[2])
        state.restore(checkpoints[-1] / "state.safetensors")
        lines = (checkpoints[-1] / "metrics.jsonl").read_text().splitlines(keepends=True)
        tokens = sum(json.loads(line)["tokens"] for line in lines)
        job.log(f"resuming at step {first} of {config.steps}")
    elif "state" in job.spec.inputs:
        state.restore(job.input("state").folder / "state.safetensors")

    model, optimizer = accelerator.prepare(model, optimizer)
    projection = head(model).weight
    for step in range(first, config.steps):
        drawn = draws(objective.population, config.seed, config.draw_start + step * training.batch, training.batch)
        samples = [objective.sample(item, epoch) for item, epoch in drawn]
        total = denominator(samples, training.reduction)
        loss = divergence = 0.0
        for batch in micro_batches([len(s.prompt) + len(s.response) for s in samples], training.micro_batch_tokens):
            chosen = [samples[i] for i in batch]
            with accelerator.autocast():
                hidden = response_hidden(model, [s.prompt for s in chosen], [s.response for s in chosen])
            hidden = hidden.to(DTYPES[config.dtype])  # autocast keeps the residual stream in fp32
            shares = torch.tensor(
                [c for row in coefficients(chosen, total, training.reduction) for c in row], device=device
            )
            with torch.autocast(device.type, enabled=False):
                objective_value, values = fused_loss(
                    hidden, projection[: tokenizer.size], shares, objective.divergence(chosen)
                )
            accelerator.backward(objective_value)
            loss += objective_value.item()
            divergence += values.double().sum().item()
        norm = float(accelerator.clip_grad_norm_(model.parameters(), training.clip))  # pyright: ignore[reportArgumentType]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            good = max([0, *(int(c.name.rpartition("-")[2]) for c in job.work.glob("checkpoint-*"))])
            raise EngineError(
                f"loss {loss} and gradient norm {norm} at step {config.start + step + 1}: training stopped, the "
                f"checkpoint after {good} steps of this stage is kept; lower training.learning_rate"
            )
        rate = learning_rate(config.start + step, training)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()

        count = sum(len(s.response) for s in samples)
        tokens += count
        metrics = {
            "loss": loss,
            "kl_per_token": divergence / count,
            "gradient_norm": norm,
            "learning_rate": rate,
            "mean_weight": sum(s.weight for s in samples) / len(samples),
            "tokens": count,
        }
        lines.append(json.dumps({"step": config.start + step + 1, **metrics}) + "\n")
        job.metric(config.start + step + 1, metrics)
        if (step + 1) % job.runtime.checkpoint_every == 0 and step + 1 < config.steps:
            save_checkpoint(job.work, state, step + 1, lines)
        job.progress(step + 1, config.steps, f"{config.objective} KL steps")

    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "metrics.jsonl").write_text("".join(lines))
    job.add("metrics.jsonl")
    if config.more:
        save_file(state.tensors(weights=False), job.folder / "state.safetensors")
        job.add("state.safetensors")
    save_model(
        accelerator.unwrap_model(model), folder, job.folder / "model", "float32" if config.more else config.dtype
    )
    for file in sorted((job.folder / "model").iterdir()):
        job.add(f"model/{file.name}")
    job.counts |= {"steps": config.steps, "tokens": tokens, "problems": objective.population}


def save_model(model: PreTrainedModel, source: Path, target: Path, dtype: str) -> None:
    """A plain Hugging Face folder: weights and configuration, and the source's tokenizer files byte for byte."""
    shutil.rmtree(target, ignore_errors=True)
    model.to(dtype=DTYPES[dtype]).save_pretrained(target)  # pyright: ignore[reportCallIssue]
    for pattern in COMPANIONS:
        for file in source.glob(pattern):
            shutil.copyfile(file, target / file.name)
