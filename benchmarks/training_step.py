"""A training step against TRL's ``DistillationTrainer``: forward KL from our cache, and on-policy reverse KL.

    python -m benchmarks.training_step MODEL OUT.json [--repeats 3] [--steps 2] [--round 8] [--batch 8] [--limit 128]

MODEL (SmolLM2-135M-Instruct, ``make smollm2``) is student and teacher, fp32, without gradient checkpointing. Ours is
stage ``train`` as it is, in micro-batches of at most ``--tokens``; TRL's its trainer, a batch at once, in an
environment of its own (benchmarks/loss_head.py makes it). Forward KL: both train on the same answers, of up to
``--limit`` tokens, in the same batches; TRL's trainer is given them where it would generate, and has its teacher live,
ours reads targets from the store. Reverse KL: each samples a batch, then trains on it; ours in stages ``rollouts`` and
``train``, TRL's as it comes. "round" is reverse KL, too, but ours samples for ``--round`` steps at once, as stage 2
does, which has that many or more in a round; TRL's trainer has no such thing and samples batch by batch. Each
measurement is a process of its own, the sides alternating. It has ``--steps`` or ``--round`` steps, of which the first
warms up; time is processor time of a step (sampling included, loading a model not), memory the highest resident set
after the first step; with ``--device cuda`` they are the clock's time and the device's allocated memory. ``OUT`` has
every measurement, medians and ratios; the same command again adds to it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.loss_head import ROOT, peer, resident
from benchmarks.machine import check_settings, machine, ratios, versions

SIDES = ("paced forward", "trl forward", "paced reverse", "trl reverse", "paced round", "trl round")
# ours -> TRL's, and of the ratio between them: least tokens a second, most memory
BARS: dict[str, tuple[str, float, float | None]] = {
    "paced forward": ("trl forward", 1.5, 0.7),
    "paced reverse": ("trl reverse", 1.3, None),
    "paced round": ("trl round", 1.3, None),
}


class Meter:
    """Seconds and tokens of each step, and the highest memory after the first."""

    def __init__(self, device: str) -> None:
        import torch

        self.cuda = torch.cuda if device == "cuda" else None
        self.steps: list[dict[str, float]] = []
        self.start()

    def start(self) -> None:
        if self.cuda:
            self.cuda.synchronize()
        self._wall, self._used = time.perf_counter(), time.process_time()

    def stop(self, tokens: float) -> None:
        if self.cuda:
            self.cuda.synchronize()
        seconds, wall = time.process_time() - self._used, time.perf_counter() - self._wall
        peak = self.cuda.max_memory_allocated() if self.cuda else resident("VmHWM")
        step = {"seconds": wall if self.cuda else seconds, "wall": wall, "tokens": tokens, "peak": peak}
        self.steps.append(step)
        if len(self.steps) == 1:  # the peak starts again from here
            if self.cuda:
                self.cuda.reset_peak_memory_stats()
            else:
                Path("/proc/self/clear_refs").write_text("5")
        self.start()


def recipe(model: Path, work: Path, steps: int, batch: int, limit: int, tokens: int, threads: int, device: str) -> Any:
    from paced.config.reading import load_recipe

    sampling = f"{{temperature: 1.0, top_p: 1.0, max_new_tokens: {limit}}}"
    return load_recipe(
        ROOT / "recipes" / "smollm2_self.yaml",
        [
            f"student={{path: {model}, dtype: float32}}", "teacher={privileged: false}", f"data.path={work}/data.jsonl",
            f"data.problems={steps * batch}", f"evaluation.benchmarks.0.data.path={work}/data.jsonl",
            f"rollouts={{samples: 2, sampling: {sampling}}}", f"answers={{keep: all, sampling: {sampling}}}",
            f"training={{steps: {steps}, batch: {batch}, warmup: 1, reduction: token, micro_batch_tokens: {tokens}}}",
            f"runtime={{device: {device}, threads: {threads}, processes: 1, part_problems: {batch}}}",
            "arms=[{name: plain, scheme: uniform, schedule: forward}]",
        ],
    )  # fmt: skip


class Ours:
    """The stages around training, each found in the store when it was made before."""

    def __init__(self, model: Path, work: Path, **sizes: Any):
        from paced.stage import execute
        from paced_tasks.prepare import prepare
        from paced_tasks.rollouts import rollouts
        from paced_tasks.run import Run, model_ref
        from paced_tasks.weights import weights

        self.recipe = recipe(model, work, **sizes)
        self.run = Run(name="steps", home=str(work / "home"), recipe=self.recipe)
        self.model, self.execute = model_ref(self.recipe.student), execute
        problems = self.stage(prepare, data=self.recipe.data, seed=0, split="train", exclude={})
        sampled = self.stage(rollouts, seed=0, problems=problems, model=self.model)
        weighed = self.stage(weights, scheme="uniform", rollouts=sampled, settings=self.recipe.weights)
        self.base = {"problems": problems, "weights": weighed}

    def stage(self, task: Any, tell: Callable[[dict[str, Any]], None] = lambda event: None, **arguments: Any) -> Any:
        return self.execute(task.cache_policy.build(self.run, "", **arguments), tell)

    def answers(self) -> Any:
        from paced_tasks.teacher import teacher_answers

        return self.stage(teacher_answers, seed=0, teacher=self.model, student=self.model, **self.base)

    def sequences(self, seed: int) -> list[list[tuple[list[int], list[int]]]]:
        """Prompt and answer ids of each step's batch, as stage ``train`` will draw them."""
        import pandas as pd

        from paced.batching import draws

        answers, training = self.answers(), self.recipe.training
        order = list(dict.fromkeys(pd.read_parquet(answers.folder / "answers.parquet")["problem_id"]))
        stored = pd.concat(pd.read_parquet(p) for p in (Path(self.run.home) / "store" / "targets").glob("*/*.parquet"))
        rows = {r.problem_id: (r.prompt_ids.tolist(), r.response_ids.tolist()) for r in stored.itertuples()}
        drawn = [rows[order[item]] for item, _ in draws(len(order), seed, 0, training.steps * training.batch)]
        return [drawn[i : i + training.batch] for i in range(0, len(drawn), training.batch)]

    def forward(self, seed: int) -> list[dict[str, float]]:
        from paced_tasks.train import train_forward

        return self._train(train_forward, seed, answers=self.answers(), **self.base)

    def reverse(self, seed: int) -> list[dict[str, float]]:
        """Batches are sampled one after the other (``part_problems``), as if each step had a round of its own."""
        return self._on_policy(seed)

    def round(self, seed: int) -> list[dict[str, float]]:
        """The batches of all steps are sampled at once, as in a round of so many steps; a step is told its share."""
        runtime = self.recipe.runtime.model_copy(update={"part_problems": self.recipe.data.problems})
        self.run = self.run.model_copy(update={"recipe": self.recipe.model_copy(update={"runtime": runtime})})
        return self._on_policy(1000 + seed)  # what ``reverse`` drew is in the store

    def _on_policy(self, seed: int) -> list[dict[str, float]]:
        from paced.sampling.engines.transformers import TransformersEngine
        from paced_tasks.rollouts import on_policy_samples
        from paced_tasks.train import train_reverse

        sampling, plain = Meter(self.recipe.runtime.device), TransformersEngine.sample

        def timed(engine: Any, requests: Sequence[Any], *rest: Any) -> Any:
            sampling.start()
            drawn = list(plain(engine, requests, *rest))
            sampling.stop(sum(len(r.ids) for r in drawn))
            return drawn

        TransformersEngine.sample = timed
        training = self.recipe.training
        number = training.steps * training.batch
        samples = self.stage(on_policy_samples, seed=seed, model=self.model, start=0, number=number, **self.base)
        steps = self._train(
            train_reverse, seed, start=0, draw_start=0, samples=samples, teacher=self.model, **self.base
        )
        calls = len(sampling.steps)
        for i, step in enumerate(steps):
            sampled, shared = sampling.steps[i * calls // len(steps)], len(steps) // calls
            step |= {name: sampled[name] / shared + step[name] for name in ("seconds", "wall")}
            step["sampling"] = sampled["seconds"] / shared
            step["peak"] = max(sampled["peak"], step["peak"])
        return steps

    def _train(self, task: Any, seed: int, **inputs: Any) -> list[dict[str, float]]:
        meter = Meter(self.recipe.runtime.device)

        def tell(event: dict[str, Any]) -> None:
            if event["event"] == "metric":
                meter.stop(event["values"]["tokens"])

        arm, steps = self.recipe.arms[0], self.recipe.training.steps
        self.stage(task, tell, arm=arm, seed=seed, steps=steps, more=False, model=self.model, **inputs)
        return meter.steps


def theirs(model: Path, work: Path, objective: str, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Steps of ``DistillationTrainer``; for forward KL its generation gives the stored answers."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DistillationConfig, DistillationTrainer

    torch.set_num_threads(arguments.threads)
    stored = work / f"sequences-{arguments.seed}.json"
    batches = iter(json.loads(stored.read_text()) if objective == "forward" else [])
    meter, lengths = Meter(arguments.device), list[int]()

    class Timed(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            meter.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.stop(lengths[-1])

    class Trainer(DistillationTrainer):
        def _generate(self, prompts: Any) -> Any:
            if objective == "forward":
                made = *map(list, zip(*next(batches), strict=True)), None, None, []
            else:
                made = super()._generate(prompts)
            lengths.append(sum(map(len, made[1])))
            return made

    lines = [json.loads(line) for line in (work / "data.jsonl").read_text().splitlines()]
    instruction = arguments.instruction
    prompts = [[{"role": "user", "content": f"{line['question']}\n\n{instruction}"}] for line in lines]
    config = DistillationConfig(
        output_dir=str(work / "trl"), beta=0.0 if objective == "forward" else 1.0, max_steps=arguments.steps,
        per_device_train_batch_size=arguments.batch, gradient_accumulation_steps=1, gradient_checkpointing=False,
        max_completion_length=arguments.limit, temperature=1.0, top_p=1.0, top_k=0, learning_rate=1e-6, bf16=False,
        seed=arguments.seed, use_cpu=arguments.device == "cpu", report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=str(model), teacher_model=str(model), args=config, train_dataset=Dataset.from_dict({"prompt": prompts}),
        callbacks=[Timed()],
    )  # fmt: skip
    trainer.train()
    return meter.steps


def result(steps: list[dict[str, float]], names: Sequence[str]) -> dict[str, Any]:
    counted = steps[1:]
    tokens = sum(s["tokens"] for s in counted)
    return {
        "tokens_per_second": tokens / sum(s["seconds"] for s in counted),
        "tokens_per_wall_second": tokens / sum(s["wall"] for s in counted),
        "memory": max(s["peak"] for s in counted), "steps": steps, "versions": versions(*names),
    }  # fmt: skip


def summary(measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    fields = ("tokens_per_second", "tokens_per_wall_second", "memory")
    return {
        "medians": {s: {f: statistics.median(r[f] for r in runs) for f in fields} for s, runs in measured.items()},
        "ratios": {
            f"{ours} to {trl}": {"tokens_per_second": ratios(measured, ours, trl, fields[0]), "bar": bar}
            | {"memory": ratios(measured, ours, trl, "memory"), "memory_bar": memory_bar}
            for ours, (trl, bar, memory_bar) in BARS.items()
        },
        "measured": measured,
    }


def folder(work: Path, sizes: Mapping[str, Any]) -> Path:
    """What measurements of these sizes share."""
    return (work / "-".join(map(str, sizes.values()))).absolute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--round", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--work", type=Path, default=ROOT / ".paced" / "training_step")
    parser.add_argument("--peers", type=Path, default=ROOT / ".paced" / "peers")
    parser.add_argument("--measure", metavar="SIDE", help="one side in this process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--instruction", default="")
    a = parser.parse_args()
    sizes = {name: getattr(a, name) for name in ("steps", "batch", "limit", "tokens", "threads", "device")}
    work = folder(a.work, sizes)
    if a.measure:
        side, objective = a.measure.split()
        if side == "trl":
            steps, names = theirs(a.model, work, objective, a), ("torch", "trl", "transformers")
        else:
            ours = Ours(a.model, work, **sizes)
            steps, names = getattr(ours, objective)(a.seed), ("torch", "transformers")
        print(json.dumps(result(steps, names)))
        return
    from benchmarks.memory import problems_file  # not in TRL's environment

    record: dict[str, Any] = {"measured": {}}
    if a.out.exists():
        record = json.loads(a.out.read_text())
        given = sizes | {"round": a.round, "model": a.model.name}
        check_settings(a.out, record["sizes"] | {"model": record["model"]}, given)
    measured = record["measured"]
    first = 1 + max([0, *(len(measured.get(side, [])) for side in a.sides)])  # 0 is the seed of rollouts
    python = peer(a.peers.absolute())
    size = {side: sizes | {"steps": a.round if side.endswith("round") else a.steps} for side in a.sides}
    for own in size.values():
        shutil.rmtree(folder(a.work, own), ignore_errors=True)  # a stage that is found there would take no time
    for seed in range(first, first + a.repeats):
        for side in a.sides:
            own = size[side]
            work = folder(a.work, own)
            if not work.exists():
                work.mkdir(parents=True)
                problems_file(work / "data.jsonl", own["steps"] * a.batch)
            ours = Ours(a.model.absolute(), work, **own)
            if side.endswith("forward"):
                sequences = ours.sequences(seed)
                (work / f"sequences-{seed}.json").write_text(json.dumps(sequences))
                record["sequence_tokens"] = [[len(p) + len(r) for p, r in batch] for batch in sequences]
            command = [str(python) if side.startswith("trl") else sys.executable, "-m", "benchmarks.training_step"]
            command += [str(a.model.absolute()), "-", "--measure", side, "--seed", str(seed), "--work", str(a.work)]
            command += [word for name, value in own.items() for word in (f"--{name}", str(value))]
            command += ["--instruction", ours.recipe.data.instruction]
            environment = os.environ | {"OMP_NUM_THREADS": str(a.threads)}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
            measured.setdefault(side, []).append(json.loads(done.stdout.splitlines()[-1]))
            told = measured[side][-1]
            print(f"{side}: {told['tokens_per_second']:.1f} tokens/s, {told['memory'] / 1e6:,.0f} MB", flush=True)
            record |= {
                "what": "a training step, forward KL from the cache and on-policy reverse KL, against TRL's trainer",
                "model": a.model.name, "sizes": sizes | {"round": a.round}, "machine": machine(), **summary(measured),
            }  # fmt: skip
            a.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["ratios"], indent=1))


if __name__ == "__main__":
    main()
