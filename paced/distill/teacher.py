"""Stage 'teacher': answers and sparse next-token distributions, only where the weight is positive.

A problem of weight 0 costs nothing here. Student and teacher consume the same token ids: prompts are rendered once,
with the student's tokenizer, whose token->id map must be the teacher's.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from paced.config.stages import TeacherConfig
from paced.errors import DataError
from paced.losses.targets import ENTRIES, Sparse, encode, joined
from paced.models import Tokenizer, projection, same_tokens
from paced.models.scoring import chunks, scored
from paced.sampling.rollouts import kept_problems
from paced.sampling.sampler import Sampler, Wanted, by_problem
from paced.stage import Job
from paced.storage.artifacts import model_folder
from paced.storage.store import Collection, Writer, sample_key
from paced.storage.tables import ANSWERS, TARGETS, Row

NAMES = ("problem_id", "sample_index", "sample_key", "tokens", "verdict")  # what the stage's table has of a sample


class Kept(NamedTuple):
    """A sample that is kept, and the part that holds it."""

    wanted: Wanted
    place: str


class Scorer:
    """Sparse distributions of one teacher at the positions of given responses, kept in the store.

    They are captured while the responses are drawn, where the recipe wants that and the engine can tell them; the rest
    is scored in a forward pass.
    """

    def __init__(self, job: Job, sampler: Sampler, config: TeacherConfig):
        self.job, self.sampler, self.answers = job, sampler, config.answers
        self.about = {
            "model": sampler.about["model"],
            "dtype": config.dtype,
            "tokens": sampler.about["tokens"],
            "floor": config.answers.floor,
            **sampler.tokenizer.bound,
        }
        if config.answers.capture:  # the engine's kernels round otherwise
            self.about["capture"] = sampler.config.engine.kind
            sampler.capture = self.capture
        self.collection = Collection(job.home, "targets", self.about, TARGETS, sampler.tokenizer.token_map)
        self.writer = Writer(self.collection)
        job.resources.callback(self.writer.close)

    def key(self, row: Row) -> str:
        return sample_key(**self.about, prompt=row["prompt_ids"], response=row["response_ids"])

    def ensure(self, parts: Sequence[Mapping[str, Kept]], what: str) -> int:
        """Score what is not there of some answers, by target key; returns how many were scored here."""
        index = self.collection.refresh()
        missing = [part for part in parts if not part.keys() <= index.keys()]
        return self.job.have(self.collection, missing, self._compute, what)

    def _compute(self, part: Mapping[str, Kept], _tick: object) -> int:
        items = {key: (key, answer) for key, answer in part.items()}
        return self.collection.ensure(items, lambda missing: self._score(self._read(missing)), self.writer)

    def _read(self, missing: Sequence[tuple[str, Kept]]) -> list[tuple[str, Row]]:
        """Answers as rows with their token ids; those of all parts at once would be too many."""
        places = [(answer.wanted.key, answer.place) for _, answer in missing]
        rows = self.sampler.collection.rows(places, ["prompt_ids", "response_ids", "response"])
        return [
            (key, row | {"problem_id": wanted.problem["problem_id"], "sample_index": wanted.number})
            for (key, (wanted, _)), row in zip(missing, rows, strict=True)
        ]

    def capture(self, rows: list[Row], targets: list[Sparse | None]) -> None:
        """Commit what the engine told of samples that it has just drawn."""
        known = {self.key(r): (r, t) for r, t in zip(rows, targets, strict=True) if t is not None}
        if known:
            self.collection.write([row_of(key, row, sparse) for key, (row, sparse) in known.items()])

    def places(self) -> dict[str, str]:
        """key -> part name, all that was scored being committed."""
        self.writer.wait()
        return self.collection.refresh()

    @torch.inference_mode()
    def _score(self, missing: Sequence[tuple[str, Row]]) -> list[Row]:
        """Rows of the store for keys and samples with their token ids."""
        model = self.sampler.model
        head = projection(model, self.sampler.tokenizer.size)
        result: dict[int, Row] = {}
        sequences = [(row["prompt_ids"], row["response_ids"]) for _, row in missing]
        for batch, hidden in scored(model, sequences):
            rows = [missing[i][1] for i in batch]
            taken = torch.tensor([t for r in rows for t in r["response_ids"]], device=hidden.device)
            flat = joined(
                [
                    encode(head.logits(chunk)[: len(taken[some])], taken[some], self.answers.floor)
                    for some, chunk in chunks(hidden)
                ]
            )
            position = entry = 0
            for i, row in zip(batch, rows, strict=True):
                n = len(row["response_ids"])
                count = flat.counts[position : position + n]
                entries = slice(entry, entry + int(count.sum()))
                own = slice(position, position + n)
                sparse = Sparse(count, flat.ids[entries], flat.logprobs[entries], flat.tail[own])
                result[i] = row_of(missing[i][0], row, sparse)
                position, entry = position + n, entries.stop
        return [result[i] for i in range(len(missing))]


def row_of(key: str, sample: Row, sparse: Sparse) -> Row:
    """The row of the target store for a sample."""
    names = ("problem_id", "sample_index", "prompt_ids", "response_ids", "response")
    return {"sample_key": key, **{name: sample[name] for name in names}, **dict(zip(ENTRIES, sparse, strict=True))}


def teacher(job: Job) -> None:
    """Inputs: problems, weights, teacher, student (its tokenizer). Files: answers.parquet, targets.json.

    Raises:
        ConfigError: the two models' token maps differ.
        DataError: no answer was kept.
    """
    config = TeacherConfig.model_validate(job.spec.config)
    answers = config.answers
    ref = job.input("teacher")
    tokenizer = Tokenizer(model_folder(job.input("student")), config.student_trust_remote_code, config.thinking)
    same_tokens(tokenizer, Tokenizer(model_folder(ref), config.trust_remote_code))
    model = config.model(model_folder(ref))
    floor = answers.floor if answers.capture else None
    sampler = Sampler(job, ref, model, tokenizer, answers.sampling, config.seed, config.privileged, floor)
    scorer = Scorer(job, sampler, config)

    wanted = sampler.wanted(kept_problems(job), answers.samples)
    places = dict(zip([w.key for w in wanted], sampler.ensure(wanted, "teacher answers"), strict=True))

    table: list[Row] = []
    parts: list[dict[str, Kept]] = []
    generated = 0
    for part in by_problem(wanted, job.runtime.part_problems):
        kept: dict[str, Kept] = {}
        graded = sampler.graded(part, [places[w.key] for w in part], ("prompt_ids", "response_ids"))
        for w, row in zip(part, graded, strict=True):
            generated += row["tokens"]
            if row["finish"] != "error" and (answers.keep == "all" or row["verdict"] == "correct"):
                key = scorer.key(row)
                kept[key] = Kept(w, places[w.key])
                table.append({n: row[n] for n in NAMES} | {"target_key": key})
        parts.append(kept)
    scored = scorer.ensure(parts, "teacher targets")
    if not table:
        raise DataError(
            f"the teacher answered none of {len(wanted)} samples correctly, so nothing is left to learn from: use a "
            "stronger teacher, longer answers.sampling.max_new_tokens, or answers.keep: all"
        )
    index = scorer.places()
    job.write("answers.parquet", [row | {"part": index[row["target_key"]]} for row in table], ANSWERS)
    job.write_json("targets.json", scorer.about)
    positions = sum(r["tokens"] for r in table)
    job.counts |= {
        "problems": len({r["problem_id"] for r in table}),
        "samples": len(table),
        "teacher_tokens": generated,
        "tokens": positions,
        "wrong": len(wanted) - len(table),
        "scored": scored,
    }
    job.log(f"{len(table)} of {len(wanted)} answers kept, {positions} target positions")
