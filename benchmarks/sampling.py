"""Sampled tokens a second: the vLLM engine against plain ``model.generate``, alternating, in one run.

    python -m benchmarks.sampling MODEL OUT.json [--sequences 128] [--tokens 64] [--limit 128] [--repeats 3]

Both get the same prompts and the same sampling parameters, twice: ``fixed``, where every sequence has exactly
``--tokens`` tokens, so that no engine gains from short responses; and ``free``, where a sequence ends where the model
ends it, or at ``--limit`` tokens, as rollouts do: ``generate`` then works on until the last has ended, and only
tokens up to an end are counted. Loading a model and starting the engine are not counted, and are told apart. ``OUT``
has every measurement, the medians and their ratio, the machine and the versions.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine, versions
from paced.config import Engine, Model, Runtime, Sampling
from paced.models import Tokenizer, context_length, generation_config, load_model, stop_ids, vocabulary
from paced.sampling.engines.base import Limits, Request
from paced.sampling.engines.vllm import VllmEngine

# A word problem of GSM8K's kind and length, then the instruction of recipes/smollm2_self.yaml, as rollouts are asked.
QUESTION = (
    "A farm has {} hens and each of them lays {} eggs a week. The farmer keeps a dozen eggs of every week for her "
    "family and sells the others at the market for 2 dollars a dozen. How many eggs has the farm given after {} weeks?"
    "\n\n"
    "Solve the problem step by step in a few short lines, then write the final number after '####'."
)
SAMPLING = {"temperature": 1.0, "top_p": 1.0}  # as rollouts are drawn if nothing is set


def prompts(tokenizer: Tokenizer, number: int) -> list[list[int]]:
    """As many prompts as needed for 8 sequences each."""
    questions = [QUESTION.format(3 + i, 2 + i % 5, 2 + i % 7) for i in range(-(-number // 8))]
    ids = [tokenizer.prompt(json.dumps([{"role": "user", "content": q}])) for q in questions]
    return [ids[i // 8] for i in range(number)]


def plain(folder: Path, dtype: Any, tokenizer: Tokenizer, rows: list[list[int]]) -> Callable[..., int]:
    """``model.generate`` on all rows at once, padded on the left, as its documentation does it; the tokens it drew."""
    model: Any = load_model(folder, Model(path=str(folder), dtype=dtype), torch.device("cpu"))
    width = max(map(len, rows))
    ids = torch.tensor([[tokenizer.eos] * (width - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])

    def run(seed: int, tokens: int, stops: list[int]) -> int:
        torch.manual_seed(seed)
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=tokens,
                min_new_tokens=None if stops else tokens, eos_token_id=stops or tokenizer.eos,
                pad_token_id=tokenizer.eos, **SAMPLING,
            )[:, width:]  # fmt: skip
        ended = torch.isin(out, torch.tensor(stops)).cumsum(1)
        return int(((ended == 0) | ((ended == 1) & torch.isin(out, torch.tensor(stops)))).sum())

    return run


def write(arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    """What has been measured so far."""
    record = {
        "what": "sampled tokens a second, vLLM engine against model.generate, alternating",
        "model": arguments.model.name,
        "sequences": arguments.sequences,
        "tokens": {"fixed": arguments.tokens, "free, at most": arguments.limit},
        "sampling": SAMPLING,
        "results": results,
        "machine": machine() | {"threads": torch.get_num_threads()},
        "versions": versions("torch", "transformers"),
    }  # fmt: skip
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--limit", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    arguments = parser.parse_args()
    tokenizer = Tokenizer(arguments.model)
    rows = prompts(tokenizer, arguments.sequences)
    stops = stop_ids(generation_config(arguments.model), tokenizer)
    threads = torch.get_num_threads()
    results: dict[str, Any] = {}
    for dtype in arguments.dtypes:
        generate = plain(arguments.model, dtype, tokenizer, rows)
        config = Model(path=str(arguments.model), dtype=dtype, engine=Engine(kind="vllm"))
        runtime = Runtime(sample_rows=arguments.sequences, threads=threads)
        for load, tokens, ends in (("fixed", arguments.tokens, []), ("free", arguments.limit, stops)):
            limits = Limits(tokenizer.size, vocabulary(arguments.model), ends, context_length(arguments.model))
            engine = VllmEngine(arguments.model, config, limits, runtime, print)
            sampling = Sampling(max_new_tokens=tokens, **SAMPLING)

            def sample(
                seed: int, tokens: int, ends: list[int], engine: VllmEngine = engine, sampling: Sampling = sampling
            ) -> int:
                requests = [Request(r, seed * len(rows) + i) for i, r in enumerate(rows)]
                return sum(len(r.ids) for r in engine.sample(requests, sampling, lambda done: None))

            began = time.perf_counter()
            sample(0, tokens, ends)  # starts it, and warms it up
            start = time.perf_counter() - began
            generate(0, 2, [])  # warms it up
            speeds: dict[str, list[float]] = {"generate": [], "vllm": []}
            lengths: dict[str, list[float]] = {"generate": [], "vllm": []}
            for repeat in range(1, arguments.repeats + 1):
                for name, call in (("generate", generate), ("vllm", sample)):
                    began = time.perf_counter()
                    count = call(repeat, tokens, ends)
                    speeds[name].append(count / (time.perf_counter() - began))
                    lengths[name].append(count / len(rows))
                    print(f"{dtype} {load} {name} {speeds[name][-1]:.0f} tokens/s", flush=True)
            engine.close()
            medians = {name: statistics.median(values) for name, values in speeds.items()}
            result = {
                "tokens_per_second": speeds, "mean_tokens": lengths, "medians": medians,
                "ratio": medians["vllm"] / medians["generate"],
                "engine": engine.name,
                "ratios": [v / g for v, g in zip(speeds["vllm"], speeds["generate"], strict=True)],
                "start_and_first_call_seconds": start,
            }  # fmt: skip
            results[f"{dtype} {load}"] = result
            print(f"{dtype} {load}: {result['ratio']:.2f} times the tokens a second", flush=True)
            write(arguments, results)


if __name__ == "__main__":
    main()
