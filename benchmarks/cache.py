"""What the teacher cache costs and loses: adaptive entries against a fixed top-k, on text that the teacher sampled.

    python -m benchmarks.cache MODEL OUT.json [--problems 24] [--tokens 96]

MODEL teaches itself, as recipes/smollm2_self.yaml has it: the teacher reads a solution that the student does not, and
samples answers at temperatures 0.6, 0.8 and 1.0. Each encoding is measured on the same positions (paced/fidelity.py):
entries and bytes a position, the divergence that the loss cannot see, the gradient's relative error. ``OUT`` has the
whole curve over mass and cap, and for each temperature the smallest adaptive encoding whose gradient is no worse than
that of the fixed top-128.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine, versions
from benchmarks.sampling import QUESTION
from paced.config import Model, Sampling
from paced.engines.base import Request
from paced.engines.transformers import TransformersEngine
from paced.fidelity import Encoding, Line, Sample, compare, fixed
from paced.models import Tokenizer, load_model
from paced.prompts import teacher_messages
from paced.targets import encode

FIXED = (20, 50, 64, 128)
MASSES = (0.9, 0.98, 0.99, 0.999)
CAPS = (16, 64, 256)
TEMPERATURES = (0.6, 0.8, 1.0)
REFERENCE = f"fixed top-{FIXED[-1]}"


def adaptive(mass: float, cap: int) -> Encoding:
    return lambda logits, taken, kept: encode(logits, taken, mass, cap)


ENCODINGS: dict[str, Encoding] = {
    **{f"fixed top-{k}": fixed(k) for k in FIXED},
    **{f"mass {mass:g}, at most {cap}": adaptive(mass, cap) for mass in MASSES for cap in CAPS},
}


def answers(model: Any, tokenizer: Tokenizer, problems: int, tokens: int, temperature: float) -> list[Sample]:
    """What the privileged teacher answers; nothing is stored yet, so the targets are one entry a position."""
    contexts: list[list[int]] = []
    prompts: list[list[int]] = []
    for i in range(problems):
        hens, eggs, weeks = 3 + i, 2 + i % 5, 2 + i % 7
        question = QUESTION.format(hens, eggs, weeks)
        solution = (
            f"The hens lay {hens} * {eggs} = {hens * eggs} eggs a week, of which {hens * eggs} - 12 = "
            f"{hens * eggs - 12} are sold. In {weeks} weeks that is {weeks} * {hens * eggs - 12} = "
            f"{weeks * (hens * eggs - 12)}.\n#### {weeks * (hens * eggs - 12)}"
        )
        prompt = json.dumps([{"role": "user", "content": question}])
        problem = {"problem_id": str(i), "question": question, "prompt": prompt, "solution": solution}
        prompts.append(tokenizer.prompt(prompt))
        contexts.append(tokenizer.prompt(teacher_messages(problem, privileged=True)))
    engine = TransformersEngine(model, tokenizer, problems)
    requests = [Request(context, i) for i, context in enumerate(contexts)]
    sampling = Sampling(temperature=temperature, max_new_tokens=tokens)
    responses = [r.ids for r in engine.sample(requests, sampling, lambda done: None)]
    one = [
        encode(torch.nn.functional.one_hot(torch.tensor(ids), tokenizer.size).float(), torch.tensor(ids), 0.5, 1)
        for ids in responses
    ]
    return [Sample(*fields) for fields in zip(prompts, contexts, responses, one, strict=True)]


def described(line: Line) -> dict[str, Any]:
    f, n = line.fidelity, line.fidelity.positions
    return {
        "encoding": line.encoding, "entries": f.entries / n, "bytes": line.bytes / n, "mass": f.mass / n,
        "kl_unseen": f.unseen / n, "gradient_error": f.relative_error,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--problems", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=96)
    arguments = parser.parse_args()
    tokenizer = Tokenizer(arguments.model)
    model = load_model(arguments.model, Model(path=str(arguments.model)), torch.device("cpu"))
    results: dict[str, Any] = {}
    for temperature in TEMPERATURES:
        samples = answers(model, tokenizer, arguments.problems, arguments.tokens, temperature)
        lines = compare(model, model, tokenizer.size, samples, ENCODINGS)
        rows = {line.encoding: described(line) for line in lines}
        reference = rows[REFERENCE]
        as_good = [r for r in rows.values() if r["gradient_error"] <= reference["gradient_error"] and r != reference]
        best = min((r for r in as_good if r["encoding"].startswith("mass")), key=lambda r: r["bytes"], default=None)
        results[f"temperature {temperature:g}"] = {
            "positions": lines[0].fidelity.positions,
            "curve": list(rows.values()),
            "reference": reference,
            "smallest adaptive with no larger gradient error": best,
            "ratio of bytes": best and best["bytes"] / reference["bytes"],
        }
        if best:
            print(
                f"temperature {temperature:g}: {REFERENCE} {reference['bytes']:.1f} bytes a position, gradient error "
                f"{reference['gradient_error']:.2g}; {best['encoding']}: {best['bytes']:.1f} bytes, "
                f"{best['gradient_error']:.2g}; ratio {best['bytes'] / reference['bytes']:.2f}",
                flush=True,
            )
        record = {
            "what": "bytes a position of teacher targets, and what they lose",
            "model": arguments.model.name, "problems": arguments.problems, "tokens": arguments.tokens,
            "results": results, "machine": machine(), "versions": versions("torch", "transformers", "pyarrow"),
        }  # fmt: skip
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
