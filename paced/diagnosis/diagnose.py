"""Stage 'diagnose': the gradient of each problem by itself, projected, and its signal-to-noise ratio by pass rate.

The gradient of a problem is that of its own loss, as a training step would take it at weight 1: with respect to all
parameters of the student, on one device, before any preconditioning. It is kept as a sketch of K numbers (Sketch), so
memory is bounded by problems x K, and what is computed is kept part by part: a killed stage goes on from there.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paced.config import Model, Weights
from paced.config.catalog import WEIGHTINGS
from paced.config.stages import DiagnoseConfig, WeightsConfig
from paced.diagnosis.snr import bins_of, diagnosis
from paced.distill.objectives import Objective, make_objective
from paced.distill.student import Student, coefficients, recompute_activations
from paced.errors import DataError
from paced.models import Tokenizer, device_of, load_model
from paced.stage import Job
from paced.statistics import Array
from paced.storage.artifacts import model_folder
from paced.storage.files import replacing, vouch, vouched
from paced.storage.tables import GRADIENTS
from paced.weighting import raw_weights

CHUNK = 1 << 20  # coordinates whose cells exist at once
MOST_BINS = 20


class Sketch:
    """A random projection to K numbers: each coordinate is added, with a random sign, to a random cell (CountSketch).

    Linear, and <S g, S h> is <g, h> in the mean, with a variance of at most (|g|^2 |h|^2 + <g, h>^2) / K: for K = 2048
    a squared norm is off by 3% (standard deviation) at most. Cells and signs follow from the seed and are drawn again
    each time, a chunk at a time, so there is no matrix. (Charikar, Chen, Farach-Colton 2002.)
    """

    def __init__(self, dimensions: int, seed: int):
        self.dimensions, self.seed = dimensions, seed

    def __call__(self, tensors: Iterable[Tensor]) -> Tensor:
        """[K] on the host, of tensors that are one long vector."""
        result: Tensor | None = None
        generator: torch.Generator | None = None
        for tensor in tensors:
            if result is None or generator is None:
                result = torch.zeros(self.dimensions, device=tensor.device)
                generator = torch.Generator(tensor.device).manual_seed(self.seed)
            for chunk in tensor.detach().float().flatten().split(CHUNK):
                drawn = torch.randint(2 * self.dimensions, chunk.shape, generator=generator, device=chunk.device)
                result.index_add_(0, drawn >> 1, torch.where((drawn & 1).bool(), chunk, -chunk))
        assert result is not None
        return result.cpu()


def diagnose(job: Job) -> None:
    """Inputs: problems, weights of scheme uniform, model; answers (forward), or rollouts and teacher (reverse).

    Files: gradients.parquet, diagnosis.json.

    Raises:
        DataError: no two problems of equal pass rate have a gradient.
    """
    config = DiagnoseConfig.model_validate(job.spec.config)
    device = device_of(job.runtime)
    folder = model_folder(job.input("model"))
    tokenizer = Tokenizer(folder, config.trust_remote_code, config.thinking)
    model = load_model(folder, Model(path=str(folder), trust_remote_code=config.trust_remote_code), device)
    if config.gradient_checkpointing:
        recompute_activations(model)
    student = Student(model, tokenizer.size, config.dtype, config.temperature)
    table = job.table("weights", "pass_rates.parquet", ["problem_id", "pass_rate"])
    table = table[table["pass_rate"].notna()]
    rates = dict(zip(table["problem_id"], table["pass_rate"], strict=True))
    objective = make_objective(job, config, tokenizer, table.assign(weight=1.0), device)
    names = objective.ids
    items = [i for i, problem in enumerate(names) if problem in rates and objective.has(i)]
    sketch = Sketch(config.dimensions, config.seed)

    parts: list[dict[str, Tensor]] = []
    reused = 0
    for start in range(0, len(items), job.runtime.part_problems):
        part = items[start : start + job.runtime.part_problems]
        file = job.work / f"gradients-{start:06d}-{len(part)}.safetensors"
        if vouched(file.with_suffix(".json")):
            parts.append(load_file(file))
            reused += len(part)
            continue
        rows: list[tuple[Tensor, float]] = []
        for item in part:
            rows.append(gradient(student, objective, item, config.reduction, sketch))
            job.progress(start + len(rows), len(items), "gradients")
        parts.append({"gradients": torch.stack([g for g, _ in rows]), "loss": torch.tensor([x for _, x in rows])})
        keep(file, parts[-1])
    job.log(f"gradients: {reused} of {len(items)} were there, {len(items) - reused} computed")
    ids = [names[i] for i in items]
    rate = np.array([rates[i] for i in ids], dtype=np.float64)
    bins = min(config.samples, MOST_BINS)
    if not len(ids) or np.bincount(bins_of(rate, bins)).max() < 2:
        raise DataError(f"{len(ids)} problems have a gradient, no two of them with the same pass rate: take more")
    gradients: Array = torch.cat([p["gradients"] for p in parts]).numpy()
    result = diagnosis(gradients, rate, bins, weightings(config.weights, bins), config.seed)
    losses = torch.cat([p["loss"] for p in parts]).tolist()
    norms = np.linalg.norm(gradients.astype(np.float64), axis=1).tolist()
    columns = zip(ids, rate.tolist(), losses, norms, strict=True)
    job.write("gradients.parquet", [dict(zip(GRADIENTS.names, row, strict=True)) for row in columns], GRADIENTS)
    size = sum(p.numel() for p in model.parameters())
    about = {"objective": config.objective, "parameters": size, "dimensions": config.dimensions}
    job.write_json("diagnosis.json", about | {"without_gradient": len(rates) - len(ids)} | result)
    job.counts |= {"problems": len(ids), "without_gradient": len(rates) - len(ids)}


def gradient(
    student: Student, objective: Objective, item: int, reduction: str, project: Sketch
) -> tuple[Tensor, float]:
    """The projected gradient of one problem's loss, and the loss; alone in its batch, so nothing else changes it."""
    sample = objective.sample(item, 0)._replace(weight=1.0)
    device = next(student.parameters()).device
    shares = torch.tensor(coefficients([sample], 1.0, reduction), device=device)
    loss, _ = student([sample], shares, objective.divergence([sample]))
    loss.backward()
    found = project(of for p in student.model.parameters() for of in [gradient_of(p)])
    student.model.zero_grad()
    return found, loss.item()


def gradient_of(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def weightings(settings: Weights, bins: int) -> dict[str, Array]:
    """The weights, before they are scaled, that each scheme gives the pass rates k / bins.

    Baselines come first, then what has the shape that is fitted.
    """
    right = np.arange(bins + 1.0)
    schemes = sorted(WEIGHTINGS, key=lambda scheme: WEIGHTINGS[scheme].takes_exponents)
    return {s: raw_weights(right, bins - right, WeightsConfig(scheme=s, weights=settings)) for s in schemes}


def keep(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a part whole or not at all."""
    with replacing(path) as temporary:
        save_file(tensors, temporary)
    vouch(path.with_suffix(".json"), path)
