"""``paced plan``: what a recipe will cost, before anything is loaded. Tokens, bytes, operations, memory, hours.

Sizes of models and checkpoints are exact (paced/planning/footprint.py). Tokens follow from the recipe and three
assumptions, printed with the plan and set on the command line: prompt length, response length, share of problems kept.
Times are operations and bytes moved over what a GPU reaches of its peak; docs/reproduce.md explains each line.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from paced.config import Benchmark, Data, Model, Recipe, Sampling, TrainingStages, home, stages_of
from paced.config.arms import weighting
from paced.config.catalog import SCHEDULES
from paced.data.layouts import read
from paced.data.rows import place
from paced.errors import ConfigError
from paced.planning.footprint import (
    BYTES,
    KNOWN,
    Shape,
    checkpoint_bytes,
    kv_bytes,
    model_bytes,
    on_device,
    sampling_memory,
    scoring_memory,
    shape,
    students_bytes,
    training_memory,
)
from paced.planning.models import check_planned
from paced.storage.store import PACKED_BYTES, SAMPLE_BYTES, TARGET_BYTES


class Gpu(NamedTuple):
    """Published peaks of a device: memory in bytes, bf16 tensor-core and fp32 operations a second, bytes a second."""

    memory: float
    bfloat16: float
    float32: float
    bandwidth: float


GPUS = {
    "A10G": Gpu(24e9, 70e12, 35e12, 600e9),
    "RTX4090": Gpu(24e9, 165e12, 83e12, 1008e9),
    "L40S": Gpu(48e9, 362e12, 92e12, 864e9),
    "A100-40": Gpu(40e9, 312e12, 19.5e12, 1555e9),
    "A100": Gpu(80e9, 312e12, 19.5e12, 2039e9),
    "H100": Gpu(80e9, 989e12, 67e12, 3350e9),
    "H200": Gpu(141e9, 989e12, 67e12, 4800e9),
}
TRAINING, PREFILL, DECODING = 0.35, 0.5, 0.5  # shares of the peak that are reached
RESERVED = 1.5e9  # of a device: its context and what the allocator cannot use


class Assumptions(NamedTuple):
    """What only a run can tell."""

    prompt: int = 200  # mean tokens of a prompt
    response: float = 0.5  # mean tokens of a response, as a share of the limit
    kept: float = 0.5  # share of problems that a weighting scheme other than uniform keeps
    longest: int = 1000  # tokens of the longest prompt


class Row(NamedTuple):
    """One kind of stage, all arms and seeds together. Memory is of one process, by item; bytes are what is stored."""

    stage: str
    runs: int
    tokens: float  # sampled, scored or trained
    operations: float
    seconds: float
    stored: float
    memory: dict[str, int]
    advice: str  # the setting to change when it does not fit


class Plan(NamedTuple):
    rows: list[Row]
    models: dict[str, Shape]
    assumptions: Assumptions
    gpu: str
    gpus: int
    checkpoint: int  # bytes, while training
    copied: float  # bytes of targets, while training on them


def problems_in(data: Data, field: str) -> int:
    """How many problems the recipe takes from a data set; of a file that is not there yet, known by its name.

    Raises:
        ConfigError: the recipe does not say, and the file is not there to be counted.
        DataError: the file cannot be read.
    """
    if data.problems:
        return data.problems
    assert data.path
    path = place(data.path, home())
    if path.exists():
        return sum(problem.split in ("", "test") for problem in read(data, path))
    known: dict[str, int] = json.loads(KNOWN.read_text())["data"]
    name = max((k for k in known if Path(data.path).name.startswith(k)), key=len, default=None)
    if name is None:
        raise ConfigError(f"{field}: {data.path} is not there to be counted: set {field}.problems, or fetch it")
    return known[name]


class Drawn(NamedTuple):
    """What one kind of stage samples: ``runs`` of it, each of so many responses."""

    runs: int
    each: float
    sampling: Sampling


def drawn(recipe: Recipe, problems: int, benchmarks: Mapping[str, int], kept: float = 1.0) -> dict[str, Drawn]:
    """The stages that sample, by their name in the plan.

    Args:
        problems: to train on; ``benchmarks``: of each one that is sampled.
        kept: share of the problems that a weighting scheme other than uniform keeps.
    """
    seeds, samples, sampling = len(recipe.seeds), recipe.rollouts.samples, recipe.rollouts.sampling
    stages = {"rollouts": Drawn(seeds, problems * samples, sampling)}
    forward = [arm for arm in recipe.arms if recipe.stages_of(arm).forward]
    if forward:
        share = 1.0 if any(weighting(arm.scheme).keeps_all for arm in forward) else kept
        answers = share * problems * recipe.answers.samples
        stages["teacher answers"] = Drawn(seeds, answers, recipe.answers.sampling)
    if rescored := sum(len(recipe.reestimated(arm)) for arm in recipe.arms):
        again = min(recipe.consolidation.rescore or problems, problems)
        stages["rescore"] = Drawn(seeds * rescored, again * samples, sampling)
    for schedule, arms, steps in schedules(recipe):
        runs = seeds * arms
        if steps.reverse:
            touched = min(steps.reverse * recipe.training.batch, problems * recipe.consolidation.rounds)
            stages[f"on-policy samples ({schedule})"] = Drawn(runs, touched, sampling)
    judging = 1 + seeds * len(recipe.arms)
    for b in recipe.evaluation.benchmarks:
        if not b.data.record.choices:  # which are judged by the likelihood of each
            each = benchmarks[b.name] * (b.samples or recipe.evaluation.samples)
            stages[f"evaluate {b.name}"] = Drawn(judging, each, recipe.evaluation.sampling)
    return stages


def schedules(recipe: Recipe) -> list[tuple[str, int, TrainingStages]]:
    """The schedules that arms have, how many arms have each, and its training stages."""
    found = Counter(arm.schedule for arm in recipe.arms)
    return [(s, found[s], stages_of(s, recipe.training, recipe.consolidation)) for s in SCHEDULES if s in found]


def training_processes(recipe: Recipe, gpus: int) -> int:
    """How many GPUs training is spread over: one, or as many as the accelerate file says and there are."""
    if recipe.runtime.accelerate is None:
        return 1
    try:
        return max(1, min(gpus, int(yaml.safe_load(Path(recipe.runtime.accelerate).read_text())["num_processes"])))
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError):
        return gpus


class Planner:
    """The costs of one recipe's stages on ``gpus`` devices of a kind; each method gives one row of the plan."""

    def __init__(self, recipe: Recipe, gpu: str, gpus: int, assumptions: Assumptions):
        self.recipe, self.device, self.gpus, self.assumed = recipe, GPUS[gpu], gpus, assumptions
        self.student, self.teacher = shape(recipe.student.path), shape(recipe.teacher_model.path)
        self.seeds, self.processes = len(recipe.seeds), training_processes(recipe, gpus)
        problems = problems_in(recipe.data, "data")
        self.benchmarks = {
            b.name: problems_in(b.data, f"evaluation.benchmarks.{i}.data")
            for i, b in enumerate(recipe.evaluation.benchmarks)
        }
        self.drawn = drawn(recipe, problems, self.benchmarks, assumptions.kept)

    def sampling(self, stage: str, model: Shape, config: Model) -> Row:
        """Drawing the responses of a stage, in decoding steps bound by operations or by memory traffic."""
        runs, each, settings = self.drawn[stage]
        a, device, rows = self.assumed, self.device, self.recipe.runtime.sample_rows
        cut, engine, width = settings.max_new_tokens, config.engine, BYTES[config.dtype]
        response = a.response * cut
        work = each * (a.prompt + response) * 2 * model.multiplied
        work += each * response * 2 * model.layers * model.attention * (2 * a.prompt + response)
        weights, cache = width * model.parameters, kv_bytes(model, config.dtype)
        if engine.record.in_process:
            devices, copies, usable = 1, 1, device.memory - RESERVED
            memory = sampling_memory(model, config.dtype, settings, a.longest, rows)
        else:  # vLLM takes its share of the device and fits as many sequences into it as it can
            devices, copies = engine.tensor_parallel * engine.data_parallel, engine.data_parallel
            usable = device.memory * engine.memory_share * engine.tensor_parallel
            sequence = (a.longest + cut) * cache // engine.tensor_parallel
            memory = {"weights": weights // engine.tensor_parallel, "key-value cache of one sequence": sequence}
        room = max(1.0, (usable - weights) / ((a.prompt + response / 2) * cache))
        at_once = max(1.0, min(each / copies, rows / copies, room))
        operations = 2 * model.multiplied * at_once / getattr(device, config.dtype)
        traffic = (weights + at_once * (a.prompt + response / 2) * cache) / device.bandwidth
        seconds = each * response / at_once * (max(operations, traffic) / DECODING) / min(devices, self.gpus)
        return Row(
            stage, runs, runs * each * response, runs * work, runs * seconds, runs * each * response * SAMPLE_BYTES,
            {} if engine.record.remote else memory,
            "runtime.sample_rows" if engine.record.in_process else "engine.tensor_parallel",
        )  # fmt: skip

    def targets(self) -> Row:
        """Scoring the teacher's answers, on one device."""
        a, model = self.assumed, self.recipe.teacher_model
        answers, cut = self.drawn["teacher answers"].each, self.recipe.answers.sampling.max_new_tokens
        tokens = answers * a.response * cut
        work = answers * (a.prompt + a.response * cut) * 2 * self.teacher.multiplied
        seconds = self.seeds * work / (getattr(self.device, model.dtype) * PREFILL)
        name = "teacher targets, at most" if self.recipe.answers.capture else "teacher targets"  # what is not settled
        return Row(
            name, self.seeds, self.seeds * tokens, self.seeds * work, seconds, self.seeds * tokens * TARGET_BYTES,
            scoring_memory(self.teacher, model.dtype, a.longest + cut), "a GPU with more memory",
        )  # fmt: skip

    def training(self, stage: str, arms: int, steps: int, cut: int, resident: bool, between: int, last: bool) -> Row:
        """``arms`` trainings for each seed.

        Args:
            cut: tokens of a response, at most.
            resident: whether the teacher is in memory beside the student.
            between: students stored between rounds, which training goes on from.
            last: whether the final student is stored.
        """
        recipe, a, training, precise = self.recipe, self.assumed, self.recipe.training, self.recipe.student.dtype
        runs, lora = self.seeds * arms, training.lora_rank
        tokens = steps * training.batch * (a.prompt + a.response * cut)
        times = (8 if training.gradient_checkpointing else 6) - (2 if lora else 0)
        work = tokens * times * self.student.multiplied
        if resident:
            work += tokens * 2 * self.teacher.multiplied
        memory = training_memory(
            self.student, training, precise, a.longest + cut,
            (self.teacher, recipe.teacher_model.dtype) if resident else None, sharded=self.processes, cuda=True,
        )  # fmt: skip
        stored = students_bytes(self.student, precise, lora, between, last)
        seconds = work / (getattr(self.device, precise) * TRAINING * self.processes)
        return Row(
            stage, runs, runs * tokens, runs * work, runs * seconds, runs * stored, memory,
            "training.gradient_checkpointing, training.lora_rank, training.micro_batch_tokens or the number of GPUs",
        )  # fmt: skip

    def trainings(self) -> Iterator[Row]:
        """All trainings with forward KL, then those with reverse KL and what they sample."""
        recipe, student = self.recipe, self.recipe.student
        for schedule, arms, steps in schedules(recipe):
            if steps.forward:
                cut, between = recipe.answers.sampling.max_new_tokens, int(steps.reverse > 0)
                name = f"train forward KL ({schedule})"
                yield self.training(name, arms, steps.forward, cut, False, between, not steps.reverse)
        if "rescore" in self.drawn:
            yield self.sampling("rescore", self.student, student)
        for schedule, arms, steps in schedules(recipe):
            if steps.reverse:
                yield self.sampling(f"on-policy samples ({schedule})", self.student, student)
                cut, name = recipe.rollouts.sampling.max_new_tokens, f"train reverse KL ({schedule})"
                yield self.training(name, arms, steps.reverse, cut, True, steps.rounds - 1, True)

    def judging(self, benchmark: Benchmark) -> Row:
        """Base student and every student on one benchmark."""
        if not benchmark.data.record.choices:
            return self.sampling(f"evaluate {benchmark.name}", self.student, self.recipe.student)
        # Judged by the likelihood of each choice, without sampling.
        students, precise = 1 + self.seeds * len(self.recipe.arms), self.recipe.student.dtype
        prompt = self.benchmarks[benchmark.name] * self.assumed.prompt * (1 + benchmark.data.shots)
        work = prompt * 2 * self.student.multiplied
        seconds = work / (getattr(self.device, precise) * PREFILL)
        return Row(
            f"evaluate {benchmark.name}", students, students * prompt, students * work, students * seconds, 0,
            scoring_memory(self.student, precise, self.assumed.longest), "a GPU with more memory",
        )  # fmt: skip


def plan(recipe: Recipe, gpu: str, gpus: int, assumptions: Assumptions) -> Plan:
    """What each stage of the recipe costs on ``gpus`` devices of a kind.

    Raises:
        ConfigError: the GPU is unknown, or a number of problems is.
        DataError: a model is neither there nor known, or cannot be used; or a data file cannot be read.
    """
    if gpu not in GPUS:
        raise ConfigError(f"--gpu {gpu}: unknown; known are {', '.join(GPUS)}")
    check_planned(recipe)
    planner = Planner(recipe, gpu, gpus, assumptions)
    rows, copied = [planner.sampling("rollouts", planner.student, recipe.student)], 0.0
    if "teacher answers" in planner.drawn:
        targets = planner.targets()
        rows += [planner.sampling("teacher answers", planner.teacher, recipe.teacher_model), targets]
        copied = targets.tokens / planner.seeds * PACKED_BYTES
    rows += planner.trainings()
    rows += [planner.judging(benchmark) for benchmark in recipe.evaluation.benchmarks]
    checkpoint = checkpoint_bytes(planner.student, True, recipe.training.lora_rank)
    models = {"student": planner.student, "teacher": planner.teacher}
    return Plan(rows, models, assumptions, gpu, gpus, checkpoint, copied)


def amount(value: float, unit: str) -> str:
    """1234567, "B" -> 1.23 MB."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 999.5 or prefix == "E":
            return f"{value:.3g} {prefix}{unit}" if value >= 1 or not value else f"{value:.2g} {unit}"
        value /= 1000
    raise AssertionError


def plan_table(planned: Plan) -> str:
    """The plan as a table for people."""
    device, a = GPUS[planned.gpu], planned.assumptions
    lines = [
        f"{role:<8} {s.name}: {amount(s.parameters, '')}parameters"
        + (f" ({amount(s.active, '').strip()} of them active)" if s.idle else "")
        + f", {s.layers} layers, {s.vocabulary:,} ids ({s.source})"
        for role, s in planned.models.items()
    ]
    lines += [
        f"assumed  prompts of {a.prompt} tokens (longest {a.longest}), responses of {a.response:.0%} of their limit, "
        f"{a.kept:.0%} of problems kept by weighting",
        "",
        f"{'stage':<32} {'runs':>4} {'tokens':>8} {'FLOPs':>8} {'hours':>8} {'stored':>8} {'memory a GPU':>13}",
    ]
    usable, wanted = device.memory - RESERVED, dict[str, list[str]]()
    for row in planned.rows:
        items = on_device(row.memory)
        need = sum(items.values())
        fits = "" if need <= usable else "  does not fit"
        lines.append(
            f"{row.stage:<32} {row.runs:>4} {amount(row.tokens, ''):>8} {amount(row.operations, ''):>8} "
            f"{row.seconds / 3600:>8.2f} {amount(row.stored, 'B'):>8} {amount(need, 'B'):>13}{fits}"
        )
        if fits:
            largest = max(items, key=lambda item: items[item])
            line = (
                f"{amount(need, 'B')} on a {planned.gpu} that has {amount(usable, 'B')} to use; most of it: {largest}, "
                f"{amount(items[largest], 'B')}. Change {row.advice}"
            )
            wanted.setdefault(line, []).append(row.stage)
    hours = sum(row.seconds for row in planned.rows) / 3600
    lines += [
        f"{'all':<32} {'':>4} {'':>8} {amount(sum(r.operations for r in planned.rows), ''):>8} {hours:>8.2f} "
        f"{amount(sum(r.stored for r in planned.rows), 'B'):>8}",
        f"hours on {planned.gpus} x {planned.gpu}; {math.ceil(hours * planned.gpus)} GPU hours. "
        f"While training: two checkpoints of {amount(planned.checkpoint, 'B')}, "
        f"targets of {amount(planned.copied, 'B')}; a student: "
        f"{amount(model_bytes(planned.models['student'], 'bfloat16'), 'B')} in bfloat16",
        *(f"{', '.join(stages)}: {line}" for line, stages in wanted.items()),
    ]
    return "\n".join(lines)
