"""Sampled tokens a second: the transformers engine against ``model.generate``, alternating, in one run.

    python -m benchmarks.sampler MODEL OUT.json [--prompts 16] [--samples 8] [--limit 256] [--repeats 3] [--rows 64]
        [--threads 1]

Both get the same prompts, the same number of samples of each and the same sampling parameters; a sequence ends where
the model ends it, or at the limit, so lengths are mixed; only tokens up to an end are counted. Beside them stands the
floor: the matrix products alone, of steps in which none of ``--rows`` rows is idle.
Processor seconds are told beside the clock's: on a busy machine they are the ones that compare. ``OUT`` is written
after each repeat; the same command again adds to it.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from benchmarks.machine import check_settings, machine, versions
from benchmarks.sampling import SAMPLING, prompts
from paced.config import Model, Sampling
from paced.models import Tokenizer, head, load_model, stop_ids
from paced.sampling.engines.base import Request
from paced.sampling.engines.transformers import TransformersEngine


def plain(model: Any, tokenizer: Tokenizer, ids: list[list[int]], samples: int, limit: int, seed: int) -> list[int]:
    """Lengths that ``generate`` gave, with ``num_return_sequences``, prompts padded on the left."""
    torch.manual_seed(seed)
    width, device = max(map(len, ids)), head(model).weight.device
    with torch.inference_mode():
        out = model.generate(
            input_ids=torch.tensor([[tokenizer.eos] * (width - len(p)) + p for p in ids], device=device),
            attention_mask=torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in ids], device=device),
            do_sample=True, top_k=0, max_new_tokens=limit, num_return_sequences=samples,
            pad_token_id=tokenizer.eos, **SAMPLING,
        )[:, width:]  # fmt: skip
    ended = torch.isin(out, torch.tensor(stop_ids(model.generation_config, tokenizer), device=device))
    return torch.where(ended.any(1), ended.int().argmax(1) + 1, out.shape[1]).tolist()


def ours(engine: TransformersEngine, ids: list[list[int]], samples: int, limit: int, seed: int) -> list[int]:
    requests = [Request(p, seed * 100_000 + i * samples + j) for i, p in enumerate(ids) for j in range(samples)]
    return [len(r.ids) for r in engine.sample(requests, Sampling(max_new_tokens=limit, **SAMPLING), lambda done: None)]


def products(model: Any, rows: int) -> None:
    """Every matrix product of a step of ``rows`` rows, and nothing else."""
    with torch.inference_mode():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                weight = layer.weight
                functional.linear(torch.zeros(rows, weight.shape[1], dtype=weight.dtype, device=weight.device), weight)


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a call gave, its seconds by the clock, and of all its threads."""
    sync = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    sync()
    clock, processor = time.perf_counter(), time.process_time()
    result = call()
    sync()
    return result, time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    settings = {k: v for k, v in vars(a).items() if k not in ("out", "repeats")} | {"model": a.model.name}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in ("generate", "engine", "floor")}
    if a.out.exists():
        before = json.loads(a.out.read_text())
        check_settings(a.out, before["settings"], settings)
        measured = before["measured"]
    tokenizer = Tokenizer(a.model)
    ids = prompts(tokenizer, 8 * a.prompts)[::8]
    model = load_model(a.model, Model(path=str(a.model), dtype=a.dtype), torch.device(a.device))
    engine = TransformersEngine(
        load_model(a.model, Model(path=str(a.model), dtype=a.dtype), torch.device(a.device)), tokenizer, a.rows
    )
    calls: dict[str, Callable[..., list[int]]] = {
        "generate": functools.partial(plain, model, tokenizer, ids, a.samples),
        "engine": functools.partial(ours, engine, ids, a.samples),
    }
    for call in calls.values():
        call(2, 0)  # warms it up
    first = 1 + len(measured["floor"])
    for repeat in range(first, first + a.repeats):
        for name, call in calls.items():
            lengths, clock, processor = timed(functools.partial(call, a.limit, repeat))
            tokens = sum(lengths)
            row = {"tokens": tokens, "at_limit": sum(n == a.limit for n in lengths)}
            measured[name].append(row | {"per_second": tokens / clock, "per_processor_second": tokens / processor})
        _, clock, processor = timed(lambda: [products(model, a.rows) for _ in range(5)])
        measured["floor"].append({"per_second": 5 * a.rows / clock, "per_processor_second": 5 * a.rows / processor})
        print({name: {k: round(v, 1) for k, v in rows[-1].items()} for name, rows in measured.items()}, flush=True)
        units = ("per_second", "per_processor_second")
        medians = {n: {u: statistics.median(r[u] for r in rows) for u in units} for n, rows in measured.items()}
        record = {
            "what": "sampled tokens a second: transformers engine against model.generate, alternating",
            "settings": settings,
            "prompt_tokens": sorted({len(p) for p in ids}),
            "medians": medians,
            "ratio": {u: medians["engine"][u] / medians["generate"][u] for u in units},
            "ratios": {
                u: [e[u] / g[u] for e, g in zip(measured["engine"], measured["generate"], strict=True)] for u in units
            },
            "measured": measured,
            "machine": machine() | {
                "device": torch.cuda.get_device_name() if a.device == "cuda" else "cpu",
            },
            "versions": versions("torch", "transformers"),
        }  # fmt: skip
        a.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
