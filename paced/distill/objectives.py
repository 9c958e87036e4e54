"""What a training step minimises: a weighted divergence on the teacher's answers, or on the student's own samples.

An objective supplies samples and a divergence; the loop in paced/distill/train.py does the rest. Weights come as a
column, and nothing here knows why a problem weighs what it does.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from paced.config import Model
from paced.config.stages import LearningConfig
from paced.data.prompts import messages_of
from paced.errors import DataError
from paced.losses import Divergence, Loss, Projection, TeacherLogits, bucketed, exact, named
from paced.losses.targets import FLAT, Packed, decode, pack
from paced.models import Tokenizer, load_model, projection, response_hidden, same_tokens
from paced.models.sharding import barrier, loading_device, rank, shard
from paced.sampling.prompts import PromptStore
from paced.sampling.rollouts import kept_problems
from paced.stage import Job
from paced.storage.artifacts import model_folder
from paced.storage.ragged import Ragged, RaggedWriter
from paced.storage.store import Collection
from paced.storage.tables import SAMPLES, TARGETS


class TrainingSample(NamedTuple):
    """One sequence of a step: what the student reads, what it is trained on, what its problem weighs."""

    prompt: list[int]
    response: list[int]
    weight: float
    place: int  # the objective's own


class Objective(Protocol):
    """Supplies the samples of a step and the divergence at their response positions.

    ``ids`` are the problems, in the order that items are counted in, and ``weights`` what each weighs; ``has`` says
    whether one has a response.
    ``shift`` moves the teacher's distributions along the vocabulary: other targets, for the canary.
    """

    population: int
    weights: NDArray[np.float64]

    @property
    def ids(self) -> list[str]: ...

    def has(self, item: int) -> bool: ...

    def sample(self, item: int, epoch: int) -> TrainingSample: ...

    def divergence(self, samples: Sequence[TrainingSample], shift: int = 0) -> Divergence: ...


class Forward:
    """A loss along the teacher's answers, p from the cache (method section 3): KL(p || q) unless the arm says else.

    Each epoch uses a problem's next answer. Targets and prompts lie on disk, where the first process puts them for all;
    in memory is a row of numbers a problem.
    """

    def __init__(
        self, job: Job, loss: Loss, tokenizer: Tokenizer, weights: pd.DataFrame, device: torch.device, scratch: Path
    ):
        about = job.json("answers", "targets.json")
        collection = Collection(job.home, "targets", about, TARGETS, tokenizer.token_map)
        self._ids, items, numbers, pairs = answered(job)
        if rank() == 0:
            pack(scratch, targets(job, collection, tokenizer, pairs, self._ids[items], scratch))
        barrier()
        self._packed = Packed(scratch)
        self.population = len(self._ids)
        # An item's answers, in their order, are _places[_ends[item] : _ends[item + 1]].
        self._places = np.lexsort((numbers, items))
        self._ends = np.concatenate([[0], np.bincount(items).cumsum()])
        self.weights = weights["weight"].to_numpy(float)[places(self._ids, id_array(weights["problem_id"]))]
        self._loss, self._floor, self._device, self._size = loss, about["floor"], device, tokenizer.size

    @property
    def ids(self) -> list[str]:
        return [name.decode() for name in self._ids.tolist()]

    def has(self, item: int) -> bool:
        return True

    def sample(self, item: int, epoch: int) -> TrainingSample:
        first, end = self._ends[item], self._ends[item + 1]
        place = int(self._places[first + epoch % (end - first)])
        prompt, response = (self._packed.ids(name, place) for name in ("prompt_ids", "response_ids"))
        return TrainingSample(prompt, response, float(self.weights[item]), place)

    def divergence(self, samples: Sequence[TrainingSample], shift: int = 0) -> Divergence:
        ids, logprobs, tail = decode(self._packed.sparse(s.place for s in samples), self._device)
        ids = (ids + shift) % self._size
        return lambda logits, rows: bucketed(self._loss, logits, ids[rows], logprobs[rows], tail[rows], self._floor)


def answered(
    job: Job,
) -> tuple[NDArray[np.bytes_], NDArray[np.intp], NDArray[np.intp], Iterator[tuple[str, str]]]:
    """The problems that have answers, as they first come; of each answer its problem, number, and key and part.

    Answers are in storage order, so that each part is opened once.
    """

    of = functools.partial(column, job, "answers", "answers.parquet")
    distinct, first, item = np.unique(id_array(of("problem_id")), return_index=True, return_inverse=True)
    numbers, come = np.fromiter(of("sample_index"), np.intp), first.argsort()
    names: dict[str, int] = {}  # few parts have many answers
    part = np.fromiter((names.setdefault(name, len(names)) for name in of("part")), np.intp)
    order, parts = np.lexsort((numbers, item, part)), list(names)
    keys = id_array(of("target_key"))
    pairs = ((bytes(keys[row]).decode(), parts[part[row]]) for row in order)
    return distinct[come], come.argsort()[item[order]], numbers[order], pairs


def targets(
    job: Job, collection: Collection, tokenizer: Tokenizer, pairs: Iterable[tuple[str, str]], ids: NDArray[np.bytes_],
    scratch: Path,
) -> Iterator[pa.Table]:  # fmt: skip
    """The rows of targets that ``pairs`` name, with the prompt that the student reads: the teacher may have had more.

    Args:
        ids: the problem of each.
        scratch: where all prompts are kept while they are looked up.

    Raises:
        DataError: a token that the student has no row for.
    """
    texts, known = prompts(job, scratch / "prompts.bin")
    asked, rendered = places(ids, known), PromptStore(job.home, tokenizer)
    field, done = TARGETS.field("prompt_ids"), 0
    for rows in collection.tables(pairs, list(FLAT)):
        for name in ("response_ids", "entry_ids"):
            last = pc.max(pc.list_flatten(rows.column(name))).as_py()  # pyright: ignore
            if last is not None and last >= tokenizer.size:
                raise DataError(
                    f"the teacher's answers have token {last}, the student in {tokenizer.folder} only those below "
                    f"{tokenizer.size}: take a teacher of the same vocabulary"
                )
        own = list(rendered.ids(texts[i].tobytes().decode() for i in asked[done:][: len(rows)].tolist()))
        done += len(rows)
        yield rows.set_column(rows.schema.get_field_index(field.name), field, [pa.array(own, field.type)])


def prompts(job: Job, path: Path) -> tuple[Ragged, NDArray[np.bytes_]]:
    """The prompts of all problems as UTF-8 on disk, and the problems' ids, in the order of their table."""
    texts = RaggedWriter(path, np.uint8)
    for batch in job.batches("problems", "problems.parquet", ["prompt"]):
        encoded = [text.encode() for text in batch["prompt"].to_pylist()]
        texts.extend(np.frombuffer(b"".join(encoded), np.uint8), [len(text) for text in encoded])
    texts.close()
    return Ragged(path, np.uint8), id_array(column(job, "problems", "problems.parquet", "problem_id"))


def column(job: Job, name: str, file: str, field: str) -> Iterator[Any]:
    """One column of a table of the input ``name``, few of its values as objects at a time."""
    return (value for batch in job.batches(name, file, [field]) for value in batch[field].to_pylist())


def id_array(texts: Iterable[str]) -> NDArray[np.bytes_]:
    """Ids, which are digests of one length, as one array that is never there twice. [N]."""
    rest = iter(texts)
    first = next(rest).encode()

    def encoded() -> Iterator[bytes]:
        yield first
        for text in rest:
            assert len(text) == len(first)
            yield text.encode()

    return np.fromiter(encoded(), f"S{len(first)}")


def places(ids: NDArray[np.bytes_], among: NDArray[np.bytes_]) -> NDArray[np.intp]:
    """Where each id stands among others; all of them do. [N]."""
    order = among.argsort()
    found = order[among.searchsorted(ids, sorter=order)]
    assert (among[found] == ids).all()
    return found


class ResidentTeacher(nn.Module):
    """The frozen teacher of the reverse objective."""

    def __init__(self, model: PreTrainedModel, size: int, temperature: float):
        super().__init__()
        self.model, self.size, self.temperature = model.requires_grad_(False), size, temperature

    @torch.no_grad()
    def forward(
        self, contexts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Projection]:
        """Hidden states [N, H] at the response positions, and the output projection."""
        hidden = response_hidden(self.model, contexts, responses)
        return hidden, projection(self.model, self.size, self.temperature)


class Reverse:
    """A loss along the student's own samples, KL(q || p) unless the arm says else (method section 4).

    It is exact: the frozen teacher is resident. A privileged teacher scores the same response ids behind a prompt that
    also holds the reference solution.
    """

    def __init__(
        self, job: Job, loss: Loss, temperature: float, teacher: Model, privileged: bool, tokenizer: Tokenizer,
        weights: pd.DataFrame, device: torch.device,
    ):  # fmt: skip
        folder = Path(teacher.path)
        same_tokens(tokenizer, Tokenizer(folder, teacher.trust_remote_code))
        model = load_model(folder, teacher, loading_device(device))
        self._loss, self._teacher = loss, ResidentTeacher(model, tokenizer.size, temperature)
        shard(self._teacher, model, device, gather_once=True)
        table = job.table("rollouts", "rollouts.parquet")
        table = table[(table["finish"] != "error") & ~table["problem_id"].duplicated()]
        about = job.json("rollouts", "samples.json")
        collection = Collection(job.home, "samples", about, SAMPLES, tokenizer.token_map)
        pairs = zip(table["sample_key"], table["part"], strict=True)
        rows = (r["response_ids"] for r in collection.rows(list(pairs), ["response_ids"]))
        responses = dict(zip(table["problem_id"], rows, strict=True))
        # Draws are from the whole population, as the rollouts stage made them; only drawn problems have a response.
        problems = kept_problems(job)
        self._responses = [responses.get(p["problem_id"]) for p in problems]
        rendered, drawn = PromptStore(job.home, tokenizer), [p for p in problems if p["problem_id"] in responses]
        places = [i for i, r in enumerate(self._responses) if r is not None]
        self._prompts = dict(zip(places, rendered.ids(p["prompt"] for p in drawn), strict=True))
        self._contexts = dict(zip(places, rendered.ids(messages_of(p, privileged) for p in drawn), strict=True))
        self.ids: list[str] = [p["problem_id"] for p in problems]
        weight: dict[str, float] = dict(zip(weights["problem_id"], weights["weight"], strict=True))
        self.weights = np.array([weight[i] for i in self.ids])
        self.population = len(problems)

    def has(self, item: int) -> bool:
        return self._responses[item] is not None

    def sample(self, item: int, epoch: int) -> TrainingSample:
        response = self._responses[item]
        if response is None:
            raise DataError("a drawn problem has no sample of the student: its sampler failed; run the stage again")
        return TrainingSample(self._prompts[item], response, float(self.weights[item]), item)

    def divergence(self, samples: Sequence[TrainingSample], shift: int = 0) -> Divergence:
        hidden, head = self._teacher([self._contexts[s.place] for s in samples], [s.response for s in samples])

        teacher = TeacherLogits(hidden, head, shift)
        return lambda logits, rows: exact(self._loss, logits, teacher(rows).to(logits.dtype))


def make_objective(
    job: Job, config: LearningConfig, tokenizer: Tokenizer, weights: pd.DataFrame, device: torch.device
) -> Forward | Reverse:
    """The objective that the configuration names, over the problems of positive weight."""
    loss = named(config.loss, jsd_share=config.jsd_share)
    if config.objective == "forward":
        return Forward(job, loss, tokenizer, weights, device, job.work / "targets")
    folder = model_folder(job.input("teacher"))
    teacher = Model(path=str(folder), dtype=config.teacher_dtype, trust_remote_code=config.teacher_trust_remote_code)
    return Reverse(job, loss, config.temperature, teacher, config.privileged, tokenizer, weights, device)
