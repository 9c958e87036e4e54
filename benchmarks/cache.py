"""What the teacher cache costs and loses: entries above a floor against a fixed top-128, on text a teacher sampled.

    python -m benchmarks.cache MODEL GSM8K.jsonl OUT.json [--problems 16] [--tokens 64] [--temperatures 0.6 0.8 1]

MODEL teaches itself, as recipes/smollm2_self.yaml has it: the teacher reads the solution that the student does not, and
samples answers. Each encoding is measured on the same positions (paced/diagnosis/fidelity.py): entries and bytes a
position, the divergence that the loss cannot see, the gradient's relative error. ``OUT`` has for each temperature the
curve over the floor, and over mass and cap, the rule that the floor replaced: the fewest ids that hold a mass, at most
so many. Beside each reference it has the smallest floor's encoding whose gradient is no worse. References: the fixed
top-128 in fp16 with a tail bucket, stored as ours are; and the codec that DistillKit recommends (its README: k 128), by
its description, with both of its ways to treat the mass outside. Temperatures are added to what OUT has."""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import machine, versions
from paced.config import Model, Sampling
from paced.data.prompts import messages_of
from paced.diagnosis.fidelity import Encoding, Line, StoredAnswer, compare, fixed
from paced.losses.targets import Sparse, encode, sparse
from paced.models import Tokenizer, load_model
from paced.sampling.engines.base import Request
from paced.sampling.engines.transformers import TransformersEngine

FIXED = (20, 50, 128)
MASSES, CAPS = (0.9, 0.98, 0.999), (64, 256)
FLOORS = (4e-3, 2.8e-3, 2e-3, 1.4e-3, 1e-3, 7e-4, 5e-4, 3.5e-4, 2.5e-4)
INSTRUCTION = "Solve the problem step by step in a few short lines, then write the final number after '####'."
EXACT, TERMS = 16, 6  # what DistillKit recommends to store in bf16 and as coefficients in fp32, beside 128 ids


def floor(least: float) -> Encoding:
    return Encoding(lambda logits, taken, kept: encode(logits, taken, least), least)


def adaptive(mass: float, cap: int) -> Encoding:
    """The likeliest ids until they hold ``mass``, at most ``cap`` of them, and the one taken; and a tail bucket."""

    def encoded(logits: Tensor, taken: Tensor, kept: Sparse) -> Sparse:
        logp = logits.float().log_softmax(-1)
        top, ids = logp.topk(cap)
        before = top.exp().cumsum(-1) - top.exp()
        chosen = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, ids, before < mass)
        return sparse(logp, chosen.scatter(-1, taken[:, None], True))

    return Encoding(encoded)


def distillkit(bucket: bool) -> Encoding:
    """The first 16 of 128 log-probabilities in bf16, the others by a polynomial of their rank and its root.

    Args:
        bucket: the mass outside is a bucket (symmetric_uniform), or there is none and the rest is renormalised (zero,
            its default).
    """

    def encoded(logits: Tensor, taken: Tensor, kept: Sparse) -> Sparse:
        top, ids = logits.double().log_softmax(-1).topk(FIXED[-1])
        rank = torch.linspace(0, 1, FIXED[-1] - EXACT, dtype=torch.float64)
        terms = torch.stack([*(rank**i for i in range(TERMS - 1)), rank.sqrt()], 1)
        fit = torch.linalg.lstsq(terms, top[:, EXACT:].T).solution.float().double()
        logprobs = torch.cat([top[:, :EXACT].bfloat16().double(), (terms @ fit).T], 1)
        tail = torch.log1p(-logprobs.exp().sum(-1).clamp_max(1 - 1e-6))
        tail = tail if bucket else torch.full_like(tail, -torch.inf)
        counts = np.full(len(top), FIXED[-1], np.int32)
        values: list[Any] = [ids.flatten().int().numpy(), logprobs.flatten().numpy(), tail.numpy()]
        return Sparse(counts, *values)

    return Encoding(encoded)


REFERENCES = {
    f"fixed top-{FIXED[-1]}": fixed(FIXED[-1]),
    "DistillKit k=128, symmetric_uniform": distillkit(True),
    "DistillKit k=128, zero": distillkit(False),
}
ENCODINGS = {
    **{f"fixed top-{k}": fixed(k) for k in FIXED[:-1]},
    **REFERENCES,
    **{f"floor {least:g}": floor(least) for least in FLOORS},
    **{f"mass {mass:g}, at most {cap}": adaptive(mass, cap) for mass in MASSES for cap in CAPS},
}


def answers(
    model: Any, tokenizer: Tokenizer, problems: list[dict[str, str]], tokens: int, temperature: float
) -> list[StoredAnswer]:
    """What the privileged teacher answers; nothing is stored yet, so the targets are one entry a position."""
    contexts: list[list[int]] = []
    prompts: list[list[int]] = []
    for row in problems:
        question = f"{row['question']}\n\n{INSTRUCTION}"
        prompt = json.dumps([{"role": "user", "content": question}])
        problem = {"problem_id": "", "question": question, "prompt": prompt, "solution": row["answer"]}
        prompts.append(tokenizer.prompt(prompt))
        contexts.append(tokenizer.prompt(messages_of(problem, privileged=True)))
    engine = TransformersEngine(model, tokenizer, len(problems))
    requests = [Request(context, i) for i, context in enumerate(contexts)]
    sampling = Sampling(temperature=temperature, max_new_tokens=tokens)
    responses = [r.ids for r in engine.sample(requests, sampling, lambda done: None)]
    one = [Sparse(np.ones(n, np.int32), *[np.zeros(n, kind) for kind in (np.int32, np.float16, np.float16)])
           for n in map(len, responses)]  # fmt: skip
    return [StoredAnswer(*fields) for fields in zip(prompts, contexts, responses, one, strict=True)]


def described(line: Line, vocabulary: int) -> dict[str, Any]:
    f, n = line.fidelity, line.fidelity.positions
    size = line.bytes / n
    if line.encoding.startswith("DistillKit"):  # packed bits, no Parquet: ids, bf16, fp32
        size = (FIXED[-1] * (vocabulary - 1).bit_length() + EXACT * 16 + TERMS * 32) / 8
    return {
        "encoding": line.encoding, "entries": f.entries / n, "bytes": size, "mass": f.mass / n,
        "kl_unseen": f.unseen / n, "gradient_error": f.relative_error,
    }  # fmt: skip


def against(rows: dict[str, dict[str, Any]], reference: str) -> dict[str, Any] | None:
    """The smallest encoding by a floor whose gradient is no worse than the reference's."""
    bar = rows[reference]
    as_good = [rows[f"floor {f:g}"] for f in FLOORS if rows[f"floor {f:g}"]["gradient_error"] <= bar["gradient_error"]]
    best = min(as_good, key=lambda row: row["bytes"], default=None)
    return best and {"reference": bar, "best": best, "ratio of bytes": best["bytes"] / bar["bytes"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.6, 0.8, 1.0])
    a = parser.parse_args()
    tokenizer = Tokenizer(a.model)
    model = load_model(a.model, Model(path=str(a.model)), torch.device("cpu"))
    rows = [json.loads(line) for line in a.data.read_text().splitlines()]
    problems = random.Random(0).sample(rows, a.problems)
    results: dict[str, Any] = json.loads(a.out.read_text())["results"] if a.out.exists() else {}
    for temperature in a.temperatures:
        samples = answers(model, tokenizer, problems, a.tokens, temperature)
        lines = compare(model, model, tokenizer.size, samples, ENCODINGS)
        curve = {line.encoding: described(line, tokenizer.size) for line in lines}
        found = [against(curve, reference) for reference in REFERENCES]
        results[f"temperature {temperature:g}"] = {
            "positions": lines[0].fidelity.positions, "curve": list(curve.values()), "at equal error": found,
        }  # fmt: skip
        for pair in filter(None, found):
            bar, best = pair["reference"], pair["best"]
            print(
                f"temperature {temperature:g}: {bar['encoding']} {bar['bytes']:.0f} bytes a position, gradient error "
                f"{bar['gradient_error']:.2g}; {best['encoding']}: {best['bytes']:.0f} bytes, "
                f"{best['gradient_error']:.2g}; ratio {pair['ratio of bytes']:.2f}",
                flush=True,
            )
        record = {
            "what": "bytes a position of teacher targets, and what they lose",
            "model": a.model.name, "data": a.data.name, "problems": a.problems, "tokens": a.tokens,
            "results": results, "machine": machine(), "versions": versions("torch", "transformers", "pyarrow"),
        }  # fmt: skip
        a.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
