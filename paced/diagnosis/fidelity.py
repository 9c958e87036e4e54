"""What sparse targets lose against the teacher's whole distributions, and what they cost (``paced cache report``).

The loss is formed from what is stored, and from the teacher's whole distribution. The difference of the divergences is
what the loss cannot see; that of the gradients, relative to the exact one, is the gradient's error, at the logits.

Shapes: N positions, V ids the tokenizer knows, K stored entries (padded).
"""

import io
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import PreTrainedModel

from paced.config.label import Label
from paced.errors import ConfigError
from paced.losses import bucketed, exact, forward_kl
from paced.losses.targets import ENTRIES, Sparse, decode, joined, sparse
from paced.models import Tokenizer, device_of, load_model, projection, response_hidden
from paced.report import read
from paced.sampling.prompts import PromptStore
from paced.storage.identity import model_identity
from paced.storage.runs import read_recipe
from paced.storage.store import Collection, write_table
from paced.storage.tables import TARGETS, Row

CHUNK = 64  # positions whose distributions exist at once


class Encoding(NamedTuple):
    """A way to store distributions, and the most that any probability outside S has in it."""

    encode: Callable[[Tensor, Tensor, Sparse], Sparse]
    """(teacher's logits [N, V], tokens taken [N], what is stored of them) -> targets."""
    floor: float = 1.0


class Fidelity(NamedTuple):
    """Sums over positions."""

    positions: int = 0
    entries: int = 0
    mass: float = 0.0  # the teacher's, inside S
    unseen: float = 0.0  # exact minus bucketed KL, nats
    error: float = 0.0  # squared norm of the difference of the gradients
    gradient: float = 0.0  # and of the exact one

    def plus(self, other: "Fidelity") -> "Fidelity":
        sums: list[Any] = [a + b for a, b in zip(self, other, strict=True)]
        return Fidelity(*sums)

    @property
    def relative_error(self) -> float:
        """Of the gradient over all positions; 0 where there is nothing to learn."""
        return (self.error / self.gradient) ** 0.5 if self.gradient else 0.0


def fidelity(logits: Tensor, teacher_logits: Tensor, targets: Sparse, floor: float) -> Fidelity:
    """Compare targets with the distributions they stand for, [N, V] of student and teacher."""
    stored = decode(targets, logits.device, logits.dtype)
    bucketed_gradient, gradient = logits.clone(), logits.clone()
    unseen = -bucketed(forward_kl, bucketed_gradient, *stored, floor)
    unseen += exact(forward_kl, gradient, teacher_logits)
    inside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, stored[0], True)
    return Fidelity(
        len(logits), int(targets.counts.sum()), float((teacher_logits.softmax(-1) * inside).sum()), float(unseen.sum()),
        float((bucketed_gradient - gradient).square().sum()), float(gradient.square().sum()),
    )  # fmt: skip


def size(rows: Sequence[Sparse]) -> int:
    """Bytes of the entries of several samples, as a part of the store holds them."""
    schema = pa.schema([TARGETS.field(name) for name in ENTRIES])
    table = pa.Table.from_pylist([dict(zip(ENTRIES, row, strict=True)) for row in rows], schema=schema)
    sink = io.BytesIO()
    write_table(pa.PythonFile(sink, "w"), table)
    return len(sink.getvalue())


def slices(row: Sparse) -> list[tuple[slice, Sparse]]:
    """The targets of one sample in runs of CHUNK positions."""
    ends = np.concatenate([[0], row.counts.cumsum()])
    result: list[tuple[slice, Sparse]] = []
    for a in range(0, len(row.counts), CHUNK):
        b = min(a + CHUNK, len(row.counts))
        flat = slice(int(ends[a]), int(ends[b]))
        result.append((slice(a, b), Sparse(row.counts[a:b], row.ids[flat], row.logprobs[flat], row.tail[a:b])))
    return result


class Line(NamedTuple):
    """One way to store the sampled answers, what it loses, and its bytes."""

    encoding: str
    fidelity: Fidelity
    bytes: int


class StoredAnswer(NamedTuple):
    """An answer: what the student and the teacher read before it, its tokens, and what is stored of it."""

    prompt: Sequence[int]
    context: Sequence[int]
    response: Sequence[int]
    targets: Sparse


@torch.inference_mode()
def compare(
    student: PreTrainedModel, teacher: PreTrainedModel, vocabulary: int, samples: Sequence[StoredAnswer],
    encodings: Mapping[str, Encoding],
) -> list[Line]:  # fmt: skip
    """Encode the teacher's distributions in several ways, and say what each loses and costs."""
    sums, coded = dict.fromkeys(encodings, Fidelity()), {name: list[Sparse]() for name in encodings}
    for sample in samples:
        hidden = [
            (response_hidden(model, [context], [sample.response]), projection(model, vocabulary))
            for model, context in ((student, sample.prompt), (teacher, sample.context))
        ]
        pieces = {name: list[Sparse]() for name in encodings}
        for rows, kept in slices(sample.targets):
            q, p = (head.logits(states[rows]).float() for states, head in hidden)
            taken = torch.tensor(sample.response[rows], device=p.device)
            for name, encoding in encodings.items():
                pieces[name].append(encoding.encode(p, taken, kept))
                sums[name] = sums[name].plus(fidelity(q, p, pieces[name][-1], encoding.floor))
        for name, cut in pieces.items():
            coded[name].append(joined(cut))
    return [Line(name, sums[name], size(coded[name])) for name in encodings]


def fixed(k: int) -> Encoding:
    """The k likeliest ids and a tail bucket, log-probabilities rounded to fp16 alone."""

    def encode(logits: Tensor, taken: Tensor, kept: Sparse) -> Sparse:
        logp = logits.float().log_softmax(-1)
        top = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, logp.topk(min(k, logp.shape[-1])).indices, True)
        return sparse(logp, top)

    return Encoding(encode)


class Report(NamedTuple):
    """The targets of a run: all that is stored, and what ways to store a sample of it lose."""

    folder: Path
    answers: int
    positions: int
    bytes: float  # on disk, token ids and texts included: these positions' share of the parts that hold them
    sampled: int
    lines: list[Line]


def bytes_a_position(part: Path) -> float:
    """Of a part of the store, whichever runs its rows were made for."""
    data = pq.read_metadata(part)
    counts = [data.schema.column(i).path for i in range(data.num_columns)].index("entry_count.list.element")
    positions = sum(data.row_group(i).column(counts).num_values for i in range(data.num_row_groups))
    return part.stat().st_size / positions


def report(run: Path, tokens: int) -> Report:
    """Compare what a run's first teacher stage stored with the teacher itself, as the base student is trained on it.

    Beside it stand a fixed top-k of as many entries, and a fixed top-128.

    Args:
        tokens: how many positions, at least, are sampled for it, by whole answers.

    Raises:
        ConfigError: the run has no targets, or the teacher's folder holds another model by now.
    """
    recipe = read_recipe(run)
    made = read(run)[1]
    stage = next((m for m in made.values() if m.entry.stage == "teacher"), None)
    if stage is None:
        raise ConfigError(f"run {run.name} stored no teacher targets: only forward KL reads any")
    about: dict[str, Any] = json.loads(stage.file("targets.json").read_text())
    teacher, student = recipe.teacher_model, recipe.student
    if about["model"] != model_identity(Path(teacher.path).absolute()):
        raise ConfigError(f"model folder {teacher.path} is not the teacher that run {run.name} was made with")
    tokenizer = Tokenizer(Path(student.path), student.trust_remote_code, recipe.thinking)
    collection = Collection(run.absolute().parent.parent, "targets", about, TARGETS, tokenizer.token_map)

    answers: list[Row] = pq.read_table(stage.file("answers.parquet")).to_pylist()
    shuffled = random.Random(0).sample(answers, len(answers))
    before = itertools.accumulate((answer["tokens"] for answer in shuffled), initial=0)
    some = [answer for answer, position in zip(shuffled, before, strict=False) if position < tokens]
    pairs = [(a["target_key"], a["part"]) for a in sorted(some, key=lambda a: (a["part"], a["target_key"]))]
    problems = pq.read_table(made[Label(seed=stage.entry.seed, step="prepare")].file("problems.parquet"))
    prompts: dict[str, str] = {row["problem_id"]: row["prompt"] for row in problems.to_pylist()}
    rows = list(collection.rows(pairs, ["problem_id", "prompt_ids", "response_ids", *ENTRIES]))
    rendered = PromptStore(run.absolute().parent.parent, tokenizer).ids(prompts[row["problem_id"]] for row in rows)
    samples = [
        StoredAnswer(
            prompt, row["prompt_ids"], row["response_ids"],
            Sparse(*(np.asarray(row[name], kind) for name, kind in ENTRIES.items())),
        )
        for prompt, row in zip(rendered, rows, strict=True)
    ]  # fmt: skip
    mean = sum(len(s.targets.ids) for s in samples) / sum(len(s.targets.counts) for s in samples)
    floor = float(about["floor"])
    encodings = {f"stored: floor {floor:g}": Encoding(lambda logits, taken, kept: kept, floor)}
    encodings |= {f"fixed top-{k}": fixed(k) for k in sorted({max(1, round(mean)), 128})}
    device = device_of(recipe.runtime)
    models = [load_model(Path(model.path), model, device) for model in (student, teacher)]
    lines = compare(models[0], models[1], tokenizer.size, samples, encodings)
    own = Counter[str]()
    for answer in answers:
        own[answer["part"]] += answer["tokens"]
    disk = sum(count * bytes_a_position(collection.file(part)) for part, count in own.items())
    return Report(collection.folder, len(answers), sum(a["tokens"] for a in answers), disk, len(samples), lines)


def fidelity_table(found: Report) -> str:
    """The report as a table for people."""
    lines = [
        f"{found.answers:,} answers, {found.positions:,} positions, {found.bytes / found.positions:.1f} bytes a "
        f"position on disk, ids and texts included: {found.folder}",
        f"{found.sampled:,} answers, {found.lines[0].fidelity.positions:,} positions, against the teacher's whole "
        "distributions, seen by the base student:",
        "",
        f"{'':<34} {'entries':>8} {'bytes':>8} {'mass':>9} {'KL unseen':>10} {'gradient error':>15}",
    ]
    for name, f, size_ in found.lines:
        lines.append(
            f"{name:<34} {f.entries / f.positions:>8.1f} {size_ / f.positions:>8.1f} {f.mass / f.positions:>9.5f} "
            f"{f.unseen / f.positions:>10.2g} {f.relative_error:>15.2g}"
        )
    return "\n".join([*lines, "", "entries, bytes, mass and KL (nats) are means a position"])
