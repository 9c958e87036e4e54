"""Time and peak memory of the stages that read or write the whole data set, against the number of problems.

    python -m benchmarks.growth OUT.json [--problems 2000 6000 20000] [--stages STAGE ...] [--repeats 1]

The problems are synthetic, in the layout of GSM8K; so are samples (one a problem), rollouts (8 a problem) and targets
(one answer of 24 tokens, 12 entries a token). They are written by this script as artifacts and parts of earlier stages;
what is measured is the stages' own code, each in a process of its own: ``prepare``, ``rollouts`` (whose samples are all
in the store) and ``weights`` are the stages, ``write`` commits targets to the store part by part as stage teacher does,
``read`` opens them as training does and goes through 64 batches. Time is processor time of the process and its
children, after a first run in that process on the first number of problems: imports, and caches and memory that are
cold, make a run of a third of a second a fifth longer, which is no growth. Memory is the process's peak resident set;
ratios are those of the last number of problems to the first. Measurements are added to what OUT has.
"""

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.machine import machine, ratios, versions
from paced.batching import batched
from paced.config import Data, Decontamination, Model, Runtime, Sampling, Weights
from paced.config.stages import RolloutsConfig, WeightsConfig
from paced.data.spec import prepare_spec
from paced.stage import Job, Spec, execute, spec_of
from paced.storage.artifacts import Ref
from paced.storage.identity import model_identity
from paced.storage.store import Collection
from paced.storage.tables import ANSWERS, PASS_RATES, PROBLEMS, QUESTIONS, ROLLOUTS, TARGETS

SAMPLES, TOKENS, ENTRIES, PART = 8, 24, 12, 256
VOCABULARY, BATCHES, BATCH = 27, 64, 8
UNITS = ("processor_seconds", "peak_memory")
ROOT = Path(__file__).parent.parent
MODEL = ROOT / "paced" / "tiny" / "student"
TELL: Callable[[dict[str, Any]], None] = lambda event: None  # noqa: E731
RUNTIME = Runtime(device="cpu", threads=1, processes=1)


def finished(home: Path, stage: str, name: str, rows: Iterable[dict[str, Any]], schema: pa.Schema, **also: Any) -> Ref:
    """An artifact of an earlier stage: one table, in which columns that are not given are null, and JSON files."""
    job = Job(Spec(stage=stage, home=str(home), config={"synthetic": True}), TELL)
    job.write(name, rows, schema)
    for file, value in also.items():
        job.write_json(f"{file}.json", value)
    return job.finish()


def identifier(i: int) -> str:
    """As long as a problem's."""
    return f"{i:024x}"


def key(i: int) -> str:
    return f"{i:032x}"


def target(i: int) -> dict[str, Any]:
    random = np.random.default_rng(i)
    ids = random.integers(0, VOCABULARY, (TOKENS, ENTRIES), dtype=np.int32)
    return {
        "sample_key": key(i), "problem_id": identifier(i), "sample_index": 0, "response": "x" * TOKENS,
        "prompt_ids": ids[0], "response_ids": ids[:, 0], "entry_count": np.full(TOKENS, ENTRIES, np.int32),
        "entry_ids": ids.ravel(), "entry_logprobs": np.full(ids.size, -3.0, np.float16),
        "tail_logprob": np.full(TOKENS, -3.0, np.float16),
    }  # fmt: skip


def collection(home: Path, tokens: str) -> Collection:
    return Collection(home, "targets", {"floor": 0.001}, TARGETS, tokens)


def prepare(home: Path, n: int) -> Spec:
    data = home / "train.jsonl"
    with data.open("w") as file:
        for i in range(n):
            question = f"Farm {i} has {i % 97 + 2} hens that lay {i % 13 + 1} eggs a day. How many eggs come in a week?"
            answer = 7 * (i % 97 + 2) * (i % 13 + 1)
            file.write(json.dumps({"question": question, "answer": f"They lay {answer}.\n#### {answer}"}) + "\n")
    other = ({"question": f"What is {i} plus {i} apples and {i} pears worth today?"} for i in range(500))
    exclude = {"test": finished(home, "prepare", "questions.parquet", other, QUESTIONS)}
    settings = Data(source="gsm8k", path=str(data))
    return prepare_spec(str(home), settings, 0, "train", exclude, Decontamination(), RUNTIME)


def rollouts(home: Path, n: int) -> Spec:
    from paced.models import Tokenizer
    from paced.sampling.sampler import Sampler

    def problem(i: int) -> dict[str, Any]:
        prompt = json.dumps([{"role": "user", "content": f"{i} + {i % 7} ="}])
        return {"problem_id": identifier(i), "source": "tiny", "question": "", "prompt": prompt, "gold": str(i)}

    made = finished(home, "prepare", "problems.parquet", map(problem, range(n)), PROBLEMS)
    student = Ref(kind="model", path=str(MODEL), identity=model_identity(MODEL))
    sampling = Sampling(max_new_tokens=TOKENS)
    config = RolloutsConfig(
        dtype="float32", thinking=None, trust_remote_code=False, samples=1, sampling=sampling, seed=0
    )
    spec = spec_of(config, home=str(home), inputs={"problems": made, "model": student}, runtime=RUNTIME)
    sampler = Sampler(Job(spec, TELL), student, Model(path=str(MODEL), dtype="float32"), Tokenizer(MODEL), sampling, 0)
    for part in batched(map(problem, range(n)), PART):
        rows = [
            {"sample_key": w.key, "problem_id": w.problem["problem_id"], "sample_index": 0, "prompt_ids": [1],
             "response_ids": [1], "response": f"#### {w.problem['gold']}", "tokens": 1, "finish": "stop", "engine": ""}
            for w in sampler.wanted(part, 1)
        ]  # fmt: skip
        sampler.collection.write(rows)
    return spec


def weights(home: Path, n: int) -> Spec:
    verdicts = np.random.default_rng(0).choice(["correct", "wrong", "unknown"], n * SAMPLES, p=[0.4, 0.55, 0.05])
    rows = (
        {"problem_id": identifier(i // SAMPLES), "sample_index": i % SAMPLES, "verdict": str(v), "finish": "stop"}
        for i, v in enumerate(verdicts)
    )
    made = finished(home, "rollouts", "rollouts.parquet", rows, ROLLOUTS)
    config = WeightsConfig(scheme="beta", weights=Weights())
    return spec_of(config, home=str(home), inputs={"rollouts": made}, runtime=RUNTIME)


def write(home: Path, n: int, tokens: str) -> None:
    import paced.distill.teacher  # noqa: F401  # whose process holds what it imports beside what it writes

    store = collection(home, tokens)
    for start in range(0, n, PART):
        rows = [target(i) for i in range(start, min(start + PART, n))]
        index = store.refresh()
        store.write([row for row in rows if row["sample_key"] not in index])
    assert len(store.refresh()) == n


def answers(home: Path, n: int) -> Spec:
    from paced.models import Tokenizer

    tokens = Tokenizer(MODEL).token_map
    write(home, n, tokens)
    parts = collection(home, tokens).refresh()
    selected = (
        {
            "problem_id": identifier(i), "sample_index": 0, "sample_key": key(i), "target_key": key(i),
            "part": parts[key(i)], "tokens": TOKENS, "verdict": "correct",
        }
        for i in range(n)
    )  # fmt: skip
    prompts = (json.dumps([{"role": "user", "content": f"{i} + {i % 7} ="}]) for i in range(n))
    problems = ({"problem_id": identifier(i), "prompt": prompt} for i, prompt in enumerate(prompts))
    weighed = ({"problem_id": identifier(i), "weight": 1.0} for i in range(n))
    inputs = {
        "answers": finished(home, "teacher", "answers.parquet", selected, ANSWERS, targets={"floor": 0.001}),
        "problems": finished(home, "prepare", "problems.parquet", problems, PROBLEMS),
        "weights": finished(home, "weights", "pass_rates.parquet", weighed, PASS_RATES),
    }
    return Spec(stage="train", home=str(home), inputs=inputs, runtime=RUNTIME)


def read(home: Path, n: int, spec: Spec) -> None:
    import torch

    from paced.distill.objectives import Forward
    from paced.losses import forward_kl
    from paced.models import Tokenizer

    job = Job(spec, TELL)
    weight = job.table("weights", "pass_rates.parquet", ["problem_id", "weight"])
    forward = Forward(job, forward_kl, Tokenizer(MODEL), weight, torch.device("cpu"), home / "scratch")
    for step in range(BATCHES):
        drawn = np.random.default_rng(step).integers(0, n, BATCH)
        forward.divergence([forward.sample(int(i), 0) for i in drawn])


# What a stage finds, written in another process, and the stage.
STAGES: dict[str, tuple[Callable[[Path, int], Any], Callable[[Path, int, Any], Any]]] = {
    "prepare": (prepare, lambda home, n, spec: execute(spec, TELL)),
    "rollouts": (rollouts, lambda home, n, spec: execute(spec, TELL)),
    "weights": (weights, lambda home, n, spec: execute(spec, TELL)),
    "write": (lambda home, n: "", write),
    "read": (answers, read),
}


def processor_seconds() -> float:
    """Of this process and of its children that have ended: finer than os.times(), which counts hundredths."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def setup(stage: str, home: Path, n: int) -> Any:
    return STAGES[stage][0](home, n)


def measure(stage: str, few: int, n: int, home: Path) -> None:
    """Run a stage in this process, first on ``few`` problems, whose time does not count, and print what it took."""
    for part, problems in (("first", few), ("timed", n)):
        (home / part).mkdir()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other:
            found = other.submit(setup, stage, home / part, problems).result()
        before, began = processor_seconds(), time.perf_counter()
        STAGES[stage][1](home / part, problems, found)
        taken = {"processor_seconds": processor_seconds() - before, "seconds": time.perf_counter() - began}
    print(json.dumps(taken | {"peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--problems", type=int, nargs="+", default=[2000, 6000, 20000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.measure:
        return measure(a.measure[0], int(a.measure[1]), int(a.measure[2]), Path(a.measure[3]))
    record: dict[str, Any] = json.loads(a.out.read_text()) if a.out.exists() else {"measured": {}}
    for _ in range(a.repeats):
        for stage in a.stages:
            for n in a.problems:
                with tempfile.TemporaryDirectory() as home:
                    command = [sys.executable, "-m", "benchmarks.growth", "-", "--measure", stage]
                    command += [str(a.problems[0]), str(n), home]
                    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
                row = json.loads(out.splitlines()[-1])
                record["measured"].setdefault(stage, {}).setdefault(str(n), []).append(row)
                print(f"{stage:<8} {n:>8,} problems", {k: round(v, 2) for k, v in row.items()}, flush=True)
            few, many = a.problems[0], a.problems[-1]
            record.setdefault("ratios", {})[f"{stage}, {many:,} problems to {few:,}"] = {
                unit: ratios(record["measured"][stage], str(many), str(few), unit) for unit in UNITS
            } | {"repeats": len(record["measured"][stage][str(many)])}
            record |= {"machine": machine(), "versions": versions("pandas", "pyarrow")}
            a.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
