"""Samples on demand: which of the wanted responses exist, and the rest computed part by part."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from paced.batching import batched
from paced.config import Model, Sampling
from paced.config.catalog import resolved
from paced.data.prompts import messages_of
from paced.errors import ConfigError, DataError, EngineError
from paced.losses.targets import Sparse
from paced.models import (
    Tokenizer,
    check_length,
    context_length,
    device_of,
    generation_config,
    has_room,
    load_model,
    stop_ids,
    vocabulary,
)
from paced.sampling.agreement import LARGEST_GAP, gap, longest
from paced.sampling.engines.base import Limits, Request, Response, SamplingEngine
from paced.sampling.engines.transformers import TransformersEngine
from paced.sampling.prompts import PromptStore
from paced.stage import Job
from paced.statistics import cut_warning
from paced.storage.artifacts import Ref, model_folder, weights_identity
from paced.storage.shared import shared
from paced.storage.store import Collection, sample_key
from paced.storage.tables import SAMPLES, ProblemRow, Row
from paced.verify import Sample, Verifier

GRADED_TOGETHER = 512  # responses in memory while their verdicts are awaited
# Rows of samples about to be committed, and what is known of each one's distributions.
Capture = Callable[[list[Row], list[Sparse | None]], None]


class Wanted(NamedTuple):
    """One response to have. Its prompt is encoded anew when it is drawn: most of the memory would be prompts."""

    problem: ProblemRow
    number: int  # the sample index
    key: str


class Sampler:
    """Responses of one model under one set of sampling parameters, kept in the store.

    A ``privileged`` model's prompts hold the reference solution. Given a ``floor``, the engine is asked for the
    distributions that they are drawn from, too, and ``capture`` gets them before a response is committed: a response
    in the store never lacks them.
    """

    def __init__(
        self, job: Job, ref: Ref, config: Model, tokenizer: Tokenizer, sampling: Sampling, seed: int,
        privileged: bool = False, floor: float | None = None,
    ):  # fmt: skip
        self.job, self.folder, self.sampling, self.tokenizer = job, model_folder(ref), sampling, tokenizer
        self._privileged, self._prompts = privileged, PromptStore(job.home, tokenizer)
        self.config = config.model_copy(update={"engine": job.spec.engine})
        self.about: dict[str, Any] = {
            "model": weights_identity(ref),
            "dtype": config.dtype,
            "tokens": tokenizer.token_map,
            "sampling": sampling.model_dump(),
            "seed": seed,
            **tokenizer.bound,
        }
        if self.config.engine.kind != "transformers":  # its kernels round otherwise: another distribution, if barely
            self.about["engine"] = self.config.engine.kind
        self.floor = floor
        self.capture: Capture = lambda rows, targets: None
        if floor is not None:
            self.about["capture"] = floor
        self.collection = Collection(job.home, "samples", self.about, SAMPLES, tokenizer.token_map)
        self._engine: SamplingEngine | None = None
        self._compared = self._told = False

    @functools.cached_property
    def model(self) -> PreTrainedModel:
        """Loaded when it is first needed: a stage that finds all its samples in the store never loads it.

        An engine with memory of its own gives that back first.
        """
        if self._engine:
            self._engine.close()
        return self._load()

    def _load(self) -> PreTrainedModel:
        return load_model(self.folder, self.config, device_of(self.job.runtime))

    def wanted(self, problems: Iterable[ProblemRow], samples: int) -> list[Wanted]:
        """So many responses to each problem.

        Raises:
            DataError: a prompt leaves no room for the response.
        """
        result: list[Wanted] = []
        problems = list(problems)
        for problem, ids in zip(problems, self._prompts_of(problems), strict=True):
            check_length(ids, self.sampling.max_new_tokens, self.folder, problem["question"])
            for number in range(samples):
                key = sample_key(**self.about, problem=problem["problem_id"], prompt=ids, index=number)
                result.append(Wanted(problem, number, key))
        return result

    def _prompts_of(self, problems: Iterable[ProblemRow]) -> Iterator[list[int]]:
        return self._prompts.ids(messages_of(problem, self._privileged) for problem in problems)

    def ensure(self, wanted: Sequence[Wanted], what: str) -> list[str]:
        """Compute what is missing; returns the part that holds each wanted sample.

        Parts are cut along problems, in order: what is missing is, or where hosts share a store and divide the parts
        among them, all that is wanted. What another process has committed meanwhile is not computed again.
        """
        job, index = self.job, self.collection.refresh()
        missing = [w for w in wanted if w.key not in index]
        job.log(f"{what}: {len(wanted) - len(missing)} of {len(wanted)} samples reused, {len(missing)} missing")
        cut = by_problem(wanted if shared() else missing, job.runtime.part_problems)
        parts = [{w.key: w for w in part} for part in cut if any(w.key not in index for w in part)]

        def compute(part: Mapping[str, Wanted], tick: Callable[[int], None]) -> int:
            return self.collection.ensure(part, functools.partial(self._draw, tick))

        computed = job.have(self.collection, parts, compute, what)
        if parts and shared():
            job.log(f"{what}: {computed} of {len(missing)} samples drawn here")
        job.count_reused(len(wanted), computed)
        index = self.collection.refresh()
        return [index[w.key] for w in wanted]

    def graded(
        self, wanted: Sequence[Wanted], parts: Sequence[str], columns: Sequence[str] = ()
    ) -> Iterator[Row]:
        """The wanted samples with ``verdict`` and ``extracted`` added, in order."""
        need = ["response", "tokens", "finish", *columns]
        rows = self.collection.rows([(w.key, p) for w, p in zip(wanted, parts, strict=True)], need)
        with Verifier() as verifier:
            for batch in batched(zip(wanted, parts, rows, strict=True), GRADED_TOGETHER):
                problems = [w.problem for w, _, _ in batch]
                samples = [
                    Sample(p["source"], r["response"], p["gold"], p["question"], r["finish"], p.get("verifier", ""))
                    for p, (_, _, r) in zip(problems, batch, strict=True)
                ]
                for (w, part, row), verdict in zip(batch, verifier.grade(samples), strict=True):
                    yield row | {
                        "problem_id": w.problem["problem_id"],
                        "sample_index": w.number,
                        "sample_key": w.key,
                        "part": part,
                        "verdict": verdict.outcome,
                        "extracted": verdict.extracted,
                    }

    def _draw(self, tick: Callable[[int], None], part: Sequence[Wanted]) -> list[Row]:
        if self._engine is None:
            engine: SamplingEngine = resolved(self.config.engine.record.function)(self)
            self._engine = engine
            self.job.resources.callback(engine.close)
        if not self.config.engine.record.in_process and self.__dict__.pop("model", None):
            torch.cuda.empty_cache()  # the engine has memory of its own
        asked = {w.problem["problem_id"]: w.problem for w in part}
        prompts = dict(zip(asked, self._prompts_of(asked.values()), strict=True))
        requests = [Request(prompts[w.problem["problem_id"]], int(w.key, 16), not self._compared) for w in part]
        responses = self._engine.sample(requests, self.sampling, tick)
        if not self._compared:
            self._compare(self._engine, longest(requests, responses))
        rows: list[Row] = [
            {
                "sample_key": w.key,
                "problem_id": w.problem["problem_id"],
                "sample_index": w.number,
                "prompt_ids": request.prompt_ids,
                "response_ids": r.ids,
                "response": self.tokenizer.text(r.ids[:-1] if r.finish == "stop" else r.ids),
                "tokens": len(r.ids),
                "finish": r.finish,
                "engine": self._engine.name,
            }
            for w, request, r in zip(part, requests, responses, strict=True)
        ]
        self.capture(rows, [r.targets for r in responses])
        self._tell_if_cut(rows)
        return rows

    def _tell_if_cut(self, rows: Sequence[Row]) -> None:
        """Once, after the first responses: what is wrong early is cheap to mend."""
        cut = sum(row["finish"] == "length" for row in rows)
        if not self._told and (warning := cut_warning(cut, len(rows))):
            self.job.warn(warning)
        self._told = True

    def _compare(self, engine: SamplingEngine, pairs: Sequence[tuple[Request, Response]]) -> None:
        """Measure the gap between sampler and trainer on the first responses; it is among the stage's counts.

        An engine in processes of its own stays as it is where the model has room beside it.

        Raises:
            EngineError: it is more than rounding makes.
        """
        self._compared = True
        try:
            in_process = self.config.engine.record.in_process
            beside = not in_process and has_room(self.folder, self.config, device_of(self.job.runtime))
            model = self._load() if beside else self.model
        except (torch.OutOfMemoryError, ConfigError, DataError) as error:  # only an engine outside can hold it
            reason = " ".join(str(error).split())
            return self.job.log(f"{engine.name}: log-probabilities cannot be compared with the model's own ({reason})")
        if not pairs:
            return self.job.log(f"{engine.name}: tells no log-probabilities to be compared with the model's own")
        found = gap(model, engine.normalised, pairs)
        del model  # one loaded beside the engine: should that start anew, it finds the memory free
        torch.cuda.empty_cache()
        self.job.counts |= {"sampler_gap": found.mean, "sampler_gap_largest": found.largest}
        words = f"{found.mean:.2g} nats a token from a forward pass of the model (largest {found.largest:.2g}, "
        words += f"{found.tokens} tokens of {len(pairs)} responses)"
        self.job.log(f"{engine.name}: log-probabilities are {words}")
        if not found.mean <= (limit := LARGEST_GAP[self.config.dtype]):
            raise EngineError(
                f"{engine.name} draws from another law than that of {self.folder}: its log-probabilities are {words}, "
                f"more than the {limit} that rounding explains: use another engine.kind, or a server of this very "
                "model with --logprobs-mode raw_logprobs"
            )


def transformers_engine(sampler: Sampler) -> SamplingEngine:
    """The engine that loads the model into this process; the others' modules are imported only where they are used."""
    return TransformersEngine(sampler.model, sampler.tokenizer, sampler.job.runtime.sample_rows)


def _limits(sampler: Sampler) -> Limits:
    folder, tokenizer = sampler.folder, sampler.tokenizer
    stops = stop_ids(generation_config(folder, sampler.config.trust_remote_code), tokenizer)
    return Limits(tokenizer.size, vocabulary(folder), stops, context_length(folder))


def vllm_engine(sampler: Sampler) -> SamplingEngine:
    """vLLM in a process of its own."""
    from paced.sampling.engines.vllm import VllmEngine

    job = sampler.job
    return VllmEngine(sampler.folder, sampler.config, _limits(sampler), job.runtime, job.log, sampler.floor)


def server_engine(sampler: Sampler) -> SamplingEngine:
    """A vLLM server that runs already."""
    from paced.sampling.engines.server import ServerEngine

    return ServerEngine(sampler.folder, sampler.config, sampler.tokenizer, _limits(sampler), sampler.job.runtime)


def by_problem(wanted: Sequence[Wanted], problems: int) -> Iterator[list[Wanted]]:
    """Cut a sequence ordered by problem into runs of at most ``problems`` problems."""
    part: list[Wanted] = []
    seen: set[str] = set()
    for w in wanted:
        if w.problem["problem_id"] not in seen and len(seen) == problems:
            yield part
            part, seen = [], set()
        seen.add(w.problem["problem_id"])
        part.append(w)
    if part:
        yield part
