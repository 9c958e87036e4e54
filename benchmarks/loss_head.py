"""The loss head, forward and backward: ours against TRL's chunked divergence and the bare matrix products.

    python -m benchmarks.loss_head OUT.json [--tokens 512 4096] [--vocabulary 151936] [--repeats 3] [--sides ...]
        [--threads 1] [--device cpu]

TRL gets an environment of its own in ``--peers`` (made if it is not there), and its live teacher as its
DistillationTrainer does: the same shapes, random numbers, every gradient that training needs. Each measurement is a
process of its own, the sides alternating; a small call before it loads the libraries. Time is that of the processor on
a CPU, so that a machine which others use too tells little else (wall time stands beside it), and of the device on
CUDA. Memory is the peak above the inputs: of the resident set on a CPU, of the allocator on CUDA. ``OUT`` holds every
measurement, medians, ratios by repeat, the machine and the versions; it is written after each measurement, and the
same command again, or with other ``--tokens``, ``--vocabulary`` or ``--sides``, adds to it.
"""

import argparse
import fcntl
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import check_settings, machine, ratios, versions

ROOT = Path(__file__).parent.parent
HIDDEN, TEACHER_HIDDEN, ENTRIES = 1024, 1280, 32
FLOOR = 0.001  # of the stored probabilities, as recipes have it
PEER = ("torch==2.13.0", "trl==1.16.0")
SIDES = (
    "floor float32", "sparse forward_kl float32", "trl forward_kl float32", "exact reverse_kl float32",
    "trl reverse_kl float32", "floor bfloat16", "sparse forward_kl bfloat16",
)  # fmt: skip
# name -> measured, compared with, the most that the ratios of time and of memory may be
BARS: dict[str, tuple[str, str, float, float | None]] = {
    "sparse forward KL to TRL": (SIDES[1], SIDES[2], 0.35, 0.5),
    "sparse forward KL to the bare products": (SIDES[1], SIDES[0], 1.15, None),
    "exact reverse KL to TRL": (SIDES[3], SIDES[4], 0.8, 1.0),
    "sparse forward KL, bf16 to fp32": (SIDES[6], SIDES[1], 0.6, None),
}
Call = Callable[[], Any]


def prepare(side: str, tokens: int, size: int, device: str) -> Call:
    """The inputs of a side, and what is measured over them."""
    import torch

    kind, *loss, name = side.split()
    dtype = getattr(torch, name)
    torch.manual_seed(0)

    def random(*shape: int, scale: float = 1.0) -> Any:
        return (torch.randn(*shape, device=device) * scale).to(dtype)

    hidden, weight = random(tokens, HIDDEN), random(size, HIDDEN, scale=0.02)
    if kind == "floor":
        logits = random(tokens, size)
        return lambda: (torch.mm(hidden, weight.T, out=logits), logits @ weight, logits.T @ hidden)
    hidden.requires_grad_()
    if kind == "trl":
        from trl.trainer.distillation_trainer import _chunked_divergence_loss as divergence_loss

        weight.requires_grad_()
        states, head = random(tokens, TEACHER_HIDDEN), random(size, TEACHER_HIDDEN, scale=0.02)
        mask, beta = torch.ones(1, tokens, device=device), {"forward_kl": 0.0, "reverse_kl": 1.0}[loss[0]]
        return lambda: divergence_loss(hidden[None], states[None], weight, head, mask, beta)[0].backward()
    from paced.losses import LOSSES, Projection, TeacherLogits, bucketed, exact, fused_loss

    weight = weight.float().requires_grad_()  # trained in fp32 whatever it is computed in
    shares = torch.full((tokens,), 1 / tokens, device=device)
    if kind == "sparse":
        ids = torch.rand(tokens, size, device=device).topk(ENTRIES).indices
        p = torch.randn(tokens, ENTRIES + 1, device=device).log_softmax(-1)
        return lambda: fused_loss(
            hidden, Projection(weight, size), shares,
            lambda z, rows: bucketed(LOSSES[loss[0]], z, ids[rows], p[rows, :-1], p[rows, -1], FLOOR),
        )[0].backward()  # fmt: skip
    states = random(tokens, TEACHER_HIDDEN)
    teacher = TeacherLogits(states, Projection(random(size, TEACHER_HIDDEN, scale=0.02), size))
    return lambda: fused_loss(
        hidden, Projection(weight, size), shares,
        lambda z, rows: exact(LOSSES[loss[0]], z, teacher(rows).to(z.dtype)),
    )[0].backward()  # fmt: skip


def resident(line: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(s.split()[1]) * 1024 for s in status if s.startswith(line))


def measure(side: str, tokens: int, vocabulary: int, threads: int, device: str) -> dict[str, Any]:
    import torch

    torch.set_num_threads(threads)
    prepare(side, 16, 2048, device)()
    call = prepare(side, tokens, vocabulary, device)
    if device == "cuda":
        call()  # its kernels are loaded for these shapes, and the allocator has its blocks
        call = prepare(side, tokens, vocabulary, device)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, begin, end = torch.cuda.memory_allocated(), torch.cuda.Event(True), torch.cuda.Event(True)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        seconds = wall = begin.elapsed_time(end) / 1000
        memory = torch.cuda.max_memory_allocated() - before
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before, began, used = resident("VmRSS"), time.perf_counter(), time.process_time()
        call()
        seconds, wall = time.process_time() - used, time.perf_counter() - began
        memory = resident("VmHWM") - before
    names = ("torch", "trl", "transformers") if side.startswith("trl") else ("torch",)
    return {"seconds": seconds, "wall": wall, "memory": memory, "versions": versions(*names)}


def peer(folder: Path) -> Path:
    """The Python of TRL's own environment."""
    home = folder / "trl-1.16.0"
    home.mkdir(parents=True, exist_ok=True)
    python, ready = home / "bin" / "python", home / ".ready"
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two benchmarks at once
        if not ready.exists():
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER], check=True)
            ready.touch()  # what broke off on the way is made again
    return python


def summary(measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians by side, and the ratios that the bars are about."""

    return {
        "medians": {
            side: {field: statistics.median(r[field] for r in runs) for field in ("seconds", "wall", "memory")}
            for side, runs in measured.items()
        },
        "ratios": {
            name: {"time": ratios(measured, a, b, "seconds"), "time_bar": time_bar}
            | ({} if memory_bar is None else {"memory": ratios(measured, a, b, "memory"), "memory_bar": memory_bar})
            for name, (a, b, time_bar, memory_bar) in BARS.items()
        },
        "measured": measured,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[151_936])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--peers", type=Path, default=ROOT / ".paced" / "peers")
    parser.add_argument("--measure", metavar="SIDE", help="one side in this process")
    a = parser.parse_args()
    if a.measure:
        print(json.dumps(measure(a.measure, a.tokens[0], a.vocabulary[0], a.threads, a.device)))
        return
    settings = {"threads": a.threads, "device": a.device}
    before: dict[str, Any] = json.loads(a.out.read_text()) if a.out.exists() else {"machine": {}, "results": {}}
    check_settings(a.out, before["machine"], settings)
    record: dict[str, Any] = {
        "what": "loss head, forward and backward",
        "hidden": {"student": HIDDEN, "teacher": TEACHER_HIDDEN},
        "machine": machine() | settings,
        "results": before["results"],
    }
    theirs = peer(a.peers.absolute())
    for vocabulary, tokens in itertools.product(a.vocabulary, a.tokens):
        shape = f"{tokens} positions, {vocabulary} ids"
        measured = record["results"].get(shape, {"measured": {}})["measured"]
        for _ in range(a.repeats):
            for side in a.sides:
                command = [str(theirs) if side.startswith("trl") else sys.executable, "-m", "benchmarks.loss_head", "-"]
                command += ["--measure", side, "--tokens", str(tokens), "--vocabulary", str(vocabulary)]
                command += ["--threads", str(a.threads), "--device", a.device]
                out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
                measured.setdefault(side, []).append(json.loads(out.splitlines()[-1]))
                print(shape, side, measured[side][-1], flush=True)
                record["results"][shape] = summary(measured)
                a.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
