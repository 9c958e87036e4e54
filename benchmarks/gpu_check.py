"""What a GPU machine is asked first: are the numbers right there, and how fast is it? It needs no vLLM and no Prefect.

    python -m benchmarks.gpu_check OUT.json [--device cuda] [--small] [--only CHECK ...]

Each check is a process of its own and is written to ``OUT`` when it ends; one that fails costs only itself, is told in
a line, and makes the exit status 1. ``--small`` takes sizes that a CPU manages in seconds, so that ``--device cpu
--small`` tests this program itself.

matmul      TFLOP/s of a bf16 matrix product, the measure for what follows
losses      each loss, exact and from sparse targets, and its gradients through the fused head: fp32 and bf16 on the
            device against float64 on the CPU, relative errors of the norms
loss_head   the loss head over a vocabulary of 151,936: TFLOP/s of its three products, the products alone, and TRL's
            loss where ``trl`` is installed (benchmarks/loss_head.py)
engine      tokens a second of the transformers engine and of ``model.generate``, a random model of Qwen3-0.6B's shape
step        every stage up to two training steps of a random model of Qwen3-1.7B's shape: seconds, tokens a second, and
            the memory of the stage 'train' beside what ``paced plan`` says
compile     the same training with compiled layers
tiny        the tiny world's stages on the device and on the CPU: losses and accuracies beside each other
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, versions

ROOT = Path(__file__).parent.parent
BARS = {"float32": 1e-5, "bfloat16": 2e-2}  # of the losses' relative errors; the products round in these precisions
FORWARD = ("arms=[{name: plain, scheme: uniform, schedule: forward}]",)
# Qwen3-0.6B and Qwen3-1.7B, without their weights; and what stands for both in small.
SHAPES: dict[str, dict[str, int]] = {
    "0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28},
    "1.7B": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28},
    "small": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
}


def matmul(device: str, small: bool) -> dict[str, Any]:
    import torch

    from benchmarks.sampler import timed

    size = 256 if small else 8192
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = statistics.median(timed(lambda: a @ b)[1] for _ in range(13))
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {"device": name, "size": size, "tflops": 2 * size**3 / seconds / 1e12}


def losses(device: str, small: bool) -> dict[str, Any]:
    import torch

    from paced.losses import LOSSES, Projection, bucketed, exact, fused_loss

    tokens, hidden, size, floor = (24, 32, 200, 0.001) if small else (512, 1024, 32_000, 0.001)
    torch.manual_seed(0)
    states, weight = torch.randn(tokens, hidden), torch.randn(size, hidden) * 2 / hidden**0.5
    teacher, entries = torch.randn(tokens, size) * 2, 20
    likeliest = teacher.log_softmax(-1).double().topk(entries)
    tail = torch.log1p(-likeliest.values.exp().sum(-1).clamp(max=1 - 1e-9))

    def formed(name: str, kind: str, place: str, dtype: torch.dtype) -> list[torch.Tensor]:
        """The loss and its two gradients, of inputs rounded to the precision that is tried."""
        low = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
        wide = torch.float64 if place == "reference" else dtype
        where = "cpu" if place == "reference" else device
        precise = torch.float64 if place == "reference" else torch.float32
        h = states.to(low).to(where, wide).clone().requires_grad_()
        w = weight.to(low).to(where, precise).clone().requires_grad_()
        shares = torch.full((tokens,), 1 / tokens, device=where, dtype=precise)
        ids, logp, rest = (x.to(where) for x in (likeliest.indices, likeliest.values.to(precise), tail.to(precise)))
        logits = teacher.to(where, precise)

        def divergence(z: Any, rows: Any) -> Any:
            if kind == "exact":
                return exact(LOSSES[name], z, logits[rows].to(z.dtype))
            return bucketed(LOSSES[name], z, ids[rows], logp[rows], rest[rows], floor)

        loss, _ = fused_loss(h, Projection(w, size), shares, divergence)
        loss.backward()
        assert h.grad is not None and w.grad is not None
        return [x.detach().double().cpu() for x in (loss, h.grad, w.grad)]

    found: dict[str, dict[str, list[float]]] = {}
    for precision in BARS:
        dtype = getattr(torch, precision)
        for name in LOSSES:
            for kind in ("exact", "sparse"):
                own, wanted = (formed(name, kind, place, dtype) for place in ("device", "reference"))
                errors = [float((a - b).norm() / b.norm()) for a, b in zip(own, wanted, strict=True)]
                found.setdefault(precision, {})[f"{kind} {name}"] = errors
    wrong = [f"{p}: {n} {max(e):.1e}" for p, rows in found.items() for n, e in rows.items() if not max(e) < BARS[p]]
    return {"relative errors of loss, gradient of states, of weight": found, "bars": BARS, "wrong": wrong}


def loss_head(device: str, small: bool) -> dict[str, Any]:
    from benchmarks.loss_head import HIDDEN, measure

    tokens, size, repeats = (32, 2048, 1) if small else (4096, 151_936, 3)
    sides = ["floor bfloat16", "sparse forward_kl bfloat16", "exact reverse_kl bfloat16"]
    if versions("trl"):
        sides += ["trl forward_kl bfloat16", "trl reverse_kl bfloat16"]
    found: dict[str, Any] = {"trl": versions("trl").get("trl", "not installed"), "tokens": tokens, "ids": size}
    for side in sides:
        runs = [measure(side, tokens, size, 1, device) for _ in range(repeats)]
        seconds, memory = (statistics.median(run[field] for run in runs) for field in ("seconds", "memory"))
        tflops = 6 * tokens * size * HIDDEN / seconds / 1e12  # of the student's three products, whatever else is done
        found[side] = {"seconds": seconds, "memory": memory, "tflops": tflops}
    floor = found[sides[0]]["seconds"]
    found["to the bare products"] = {side: found[side]["seconds"] / floor for side in sides[1:]}
    return found


def random_model(name: str, folder: Path, device: str) -> Path:
    """A random model of a shape, with the tiny world's tokenizer, as a folder in bf16."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from paced.tiny.checkpoints import EOS, PAD, tokenizer

    shape = SHAPES[name]
    config = Qwen3Config(
        **shape, vocab_size=512 if name == "small" else 151_936, num_attention_heads=16 if name != "small" else 2,
        num_key_value_heads=8 if name != "small" else 1, head_dim=128 if name != "small" else 32,
        max_position_embeddings=4096, tie_word_embeddings=True, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def engine(device: str, small: bool) -> dict[str, Any]:
    import torch

    from benchmarks.sampler import ours, plain, timed
    from paced.config import Model
    from paced.models import Tokenizer, load_model
    from paced.sampling.engines.transformers import TransformersEngine

    rows, limit = (4, 16) if small else (128, 256)
    with tempfile.TemporaryDirectory() as scratch:
        folder = random_model("small" if small else "0.6B", Path(scratch) / "model", device)
        model: Any = load_model(folder, Model(path=str(folder), dtype="bfloat16"), torch.device(device))
        tokenizer = Tokenizer(folder)
    prompts = [tokenizer.core("75+6=")["input_ids"]]
    found: dict[str, Any] = {"rows": rows, "limit": limit}
    sampler = TransformersEngine(model, tokenizer, rows)
    sides: dict[str, Callable[[], list[int]]] = {
        "engine": lambda: ours(sampler, prompts, rows, limit, 0),
        "generate": lambda: plain(model, tokenizer, prompts, rows, limit, 0),
    }
    for name, side in sides.items():
        side()  # kernels are loaded
        lengths, seconds, _ = timed(side)
        found[name] = {"seconds": seconds, "tokens": sum(lengths), "tokens_per_second": sum(lengths) / seconds}
    return found


class Stages:
    """Stages of a recipe in a home, each a process of its own, as ``python -m paced`` runs them anywhere."""

    def __init__(self, home: Path, recipe: Any):
        from paced.storage.artifacts import kept_model

        self.home, self.recipe, self.seconds = home, recipe, dict[str, float]()
        self.student, self.teacher = (kept_model(Path(m.path)) for m in (recipe.student, recipe.teacher_model))

    def run(self, label: str, spec: Any) -> Any:
        """The artifact of a stage.

        Raises:
            RuntimeError: the stage has failed; says what it said.
        """
        from paced.storage.artifacts import Ref

        file = self.home / f"{label}.json"
        self.home.mkdir(parents=True, exist_ok=True)
        file.write_text(spec.model_dump_json())
        command = [sys.executable, "-m", "paced", spec.stage, "--spec", str(file)]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        self.seconds[label] = time.perf_counter() - began
        last = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {"message": done.stderr[-500:]}
        if done.returncode:
            raise RuntimeError(f"stage {label}: {last['message']}")
        return Ref.model_validate(last["ref"])

    def trained(self, more: Mapping[str, Any]) -> Any:
        """The student after stage 'train', forward KL with all weights alike; ``more`` changes its training."""
        from paced.config.stages import RolloutsConfig, TeacherConfig, TrainConfig, WeightsConfig, model_fields
        from paced.data.spec import prepare_spec
        from paced.stage import spec_of

        r, home, fields = self.recipe, str(self.home), model_fields(self.recipe, self.recipe.student)
        problems = self.run("prepare", prepare_spec(home, r.data, 0, "train", {}, r.decontamination, r.runtime))
        config = RolloutsConfig(**fields, samples=r.rollouts.samples, sampling=r.rollouts.sampling, seed=0)
        inputs = {"problems": problems, "model": self.student}
        rolled = self.run("rollouts", spec_of(config, home=home, inputs=inputs, runtime=r.runtime))
        weighing = WeightsConfig(scheme="uniform", weights=r.weights)
        weights = self.run("weights", spec_of(weighing, home=home, inputs={"rollouts": rolled}, runtime=r.runtime))
        about = model_fields(r, r.teacher_model)
        teaching = TeacherConfig(
            **about, answers=r.answers, seed=0, privileged=False, student_trust_remote_code=False
        )
        inputs = {"problems": problems, "weights": weights, "teacher": self.teacher, "student": self.student}
        answers = self.run("teacher", spec_of(teaching, home=home, inputs=inputs, runtime=r.runtime))
        learning = TrainConfig(
            **fields, objective="forward", loss="forward_kl", jsd_share=None, temperature=1.0, seed=0, privileged=False,
            teacher_dtype=r.teacher_model.dtype, teacher_trust_remote_code=False, steps=r.training.steps, start=0,
            draw_start=0, more=False, training=r.training.model_copy(update=dict(more)),
        )  # fmt: skip
        inputs = {"problems": problems, "weights": weights, "answers": answers, "model": self.student}
        return self.run("train", spec_of(learning, home=home, inputs=inputs, runtime=r.runtime))

    def judged(self, student: Any) -> dict[str, float]:
        """The share of correct responses by benchmark."""
        from paced.config.stages import EvaluateConfig, model_fields
        from paced.data.spec import prepare_spec
        from paced.stage import spec_of

        r, home = self.recipe, str(self.home)
        sets = {
            f"benchmark/{b.name}": self.run(b.name, prepare_spec(home, b.data, 0, b.name, {}, None, r.runtime))
            for b in r.evaluation.benchmarks
        }
        samples = {b.name: r.evaluation.samples for b in r.evaluation.benchmarks}
        config = EvaluateConfig(
            **model_fields(r, r.student), samples=samples, sampling=r.evaluation.sampling, seed=r.evaluation.seed
        )
        inputs = {"model": student, **sets}
        found = self.run("evaluate", spec_of(config, home=home, inputs=inputs, runtime=r.runtime))
        return {n: b["mean"] for n, b in json.loads((found.folder / "evaluation.json").read_text()).items()}


def lines(ref: Any) -> list[dict[str, float]]:
    return [json.loads(line) for line in (ref.folder / "metrics.jsonl").read_text().splitlines()]


def training(device: str, small: bool, compiled: bool) -> dict[str, Any]:
    """Two steps of forward KL on a random model's own answers."""
    from paced.config.reading import load_recipe
    from paced.planning.footprint import host_memory, on_device, shape, training_memory

    limit, batch = (16, 4) if small else (512, 8)
    with tempfile.TemporaryDirectory() as scratch:
        folder = random_model("small" if small else "1.7B", Path(scratch) / "model", device)
        changes = (
            f"student={{path: {folder}, dtype: bfloat16}}", f"teacher={{path: {folder}, dtype: bfloat16}}",
            f"data.problems={2 * batch}", f"rollouts={{samples: 2, sampling: {{max_new_tokens: {limit}}}}}",
            f"answers={{keep: all, sampling: {{max_new_tokens: {limit}}}}}",
            f"training={{steps: 2, batch: {batch}, warmup: 1, micro_batch_tokens: 4096}}",
            f"runtime={{device: {device}, threads: {1 if small else 8}, processes: 1}}", *FORWARD,
        )  # fmt: skip
        recipe = load_recipe(ROOT / "recipes" / "tiny.yaml", changes)
        stages = Stages(Path(scratch) / "home", recipe)
        made = stages.trained({"compile": True} if compiled else {})
        steps, manifest = lines(made), json.loads((made.folder / "manifest.json").read_text())
        longest = limit + 16
        items = training_memory(shape(str(folder)), recipe.training, "bfloat16", longest, None, cuda=device == "cuda")
    planned = sum(on_device(items).values()) if device == "cuda" else host_memory(items)
    return {
        "steps": steps, "counts": manifest["counts"], "seconds": stages.seconds, "memory planned": planned,
        "memory planned to measured": planned / manifest["counts"]["peak_memory"],
    }  # fmt: skip


def tiny(device: str, small: bool) -> dict[str, Any]:
    from paced.config.reading import load_recipe

    sizes = ("data.problems=768",)
    if small:
        sizes = ("data.problems=48", "training.steps=2", "training.batch=8", "training.warmup=1")
    judged = ("evaluation.benchmarks.0.data.problems=24", "evaluation.benchmarks.1.data.problems=8") if small else ()
    found: dict[str, Any] = {}
    for place in dict.fromkeys([device, "cpu"]):
        with tempfile.TemporaryDirectory() as scratch:
            recipe = load_recipe(ROOT / "recipes" / "tiny.yaml", (*sizes, *judged, *FORWARD, f"runtime.device={place}"))
            stages = Stages(Path(scratch), recipe)
            student = stages.trained({})
            found[place] = {"losses": [s["loss"] for s in lines(student)], "correct": stages.judged(student)}
            found[place]["seconds"] = stages.seconds
    first = [f["losses"][0] for f in found.values()]
    return found | {"first loss, relative difference": abs(first[0] / first[-1] - 1)}


CHECKS: dict[str, Callable[[str, bool], dict[str, Any]]] = {
    "matmul": matmul,
    "losses": losses,
    "loss_head": loss_head,
    "engine": engine,
    "step": lambda device, small: training(device, small, False),
    "compile": lambda device, small: training(device, small, True),
    "tiny": tiny,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=CHECKS, metavar="CHECK", help=", ".join(CHECKS))
    parser.add_argument("--limit", type=int, default=300, help="seconds for each check")
    parser.add_argument("--check", choices=CHECKS, help="one check in this process")
    a = parser.parse_args()
    if a.check:
        print(json.dumps(CHECKS[a.check](a.device, a.small)))
        return 0
    record: dict[str, Any] = {
        "machine": machine() | {"device": a.device, "small": a.small}, "versions": versions("torch", "transformers"),
        "checks": {},
    }  # fmt: skip
    failed: list[str] = []
    for name in a.only:
        words = [sys.executable, "-m", "benchmarks.gpu_check", "-", "--check", name, "--device", a.device]
        began = time.perf_counter()
        try:
            done = subprocess.run(
                [*words, *(["--small"] if a.small else [])], capture_output=True, text=True, cwd=ROOT, timeout=a.limit
            )
            found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"wrong": done.stderr[-2000:]}
        except subprocess.TimeoutExpired:
            found = {"wrong": f"not done after {a.limit} s"}
        record["checks"][name] = found | {"took": time.perf_counter() - began}
        a.out.write_text(json.dumps(record, indent=1) + "\n")
        if found.get("wrong"):
            failed.append(name)
        print(f"{name}: {'wrong, see ' + str(a.out) if name in failed else 'done'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
