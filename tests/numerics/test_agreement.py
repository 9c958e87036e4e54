"""Sampler and trainer find a response equally probable, or nothing is stored: every engine is held to the model."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from paced.config import Engine, Model, Sampling
from paced.errors import EngineError
from paced.models import Tokenizer
from paced.models.checks import headers
from paced.models.folder import ACTIVATIONS
from paced.sampling.agreement import RESPONSES, gap, longest
from paced.sampling.engines.base import Request, Response
from paced.sampling.engines.transformers import TransformersEngine
from paced.sampling.sampler import Sampler
from paced.stage import Job, Spec
from paced.storage.artifacts import Ref
from paced.storage.identity import model_identity

PROMPTS = ("1+1=", "12+30=", "5*7=")


def sampler(folder: Path, tokens: Tokenizer, home: Path, log: list[str] | None = None) -> Sampler:
    def tell(event: Any) -> None:
        if log is not None and event["event"] == "log":
            log.append(event["message"])

    ref = Ref(kind="model", path=str(folder), identity=model_identity(folder))
    job = Job(Spec(stage="rollouts", home=str(home)), tell)
    return Sampler(job, ref, Model(path=str(folder)), tokens, Sampling(max_new_tokens=12, temperature=0.7), seed=0)


def draw(one: Sampler, prompts: Sequence[str] = PROMPTS) -> list[str]:
    problems = [{"problem_id": p, "question": p, "prompt": json.dumps(p), "source": "tiny"} for p in prompts]
    return one.ensure(one.wanted(problems, 4), "test")  # type: ignore[arg-type]


class Off(TransformersEngine):
    """An engine that is wrong about its last token by so many nats, as one with a wrong mask is."""

    by = 0.0

    def sample(self, requests: Any, sampling: Any, tick: Any) -> list[Response]:
        responses = super().sample(requests, sampling, tick)
        return [r._replace(logprobs=r.logprobs and [*r.logprobs[:-1], r.logprobs[-1] + self.by]) for r in responses]


def test_an_engine_of_another_law_is_refused_before_anything_is_stored(
    folder: Path, tokens: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(one: Sampler) -> TransformersEngine:
        return Off(one.model, tokens, 8)

    monkeypatch.setattr("paced.sampling.sampler.transformers_engine", make)
    right = sampler(folder, tokens, tmp_path / "right", log := [])
    draw(right)
    assert 0 <= right.job.counts["sampler_gap"] <= right.job.counts["sampler_gap_largest"] < 1e-4
    assert [line.startswith("transformers: log-probabilities are") for line in log] == [False, True]
    counts = dict(right.job.counts)
    draw(right, ("7-3=",))  # the first responses only
    assert right.job.counts["sampler_gap"] == counts["sampler_gap"]

    monkeypatch.setattr(Off, "by", 0.5)
    wrong = sampler(folder, tokens, tmp_path / "wrong")
    with pytest.raises(EngineError, match=r"draws from another law than that of .*model.*use another engine") as error:
        draw(wrong)
    assert "\n" not in str(error.value)
    assert wrong.collection.refresh() == {}


@pytest.mark.parametrize("room", [True, False])
def test_an_engine_outside_goes_on_where_the_model_has_room_beside_it(
    folder: Path, tokens: Tokenizer, model: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    """Else it gives its memory back before the model is loaded, and a second part starts it again."""
    closed = []

    class Outside(TransformersEngine):
        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr("paced.sampling.sampler.vllm_engine", lambda one: Outside(model, tokens, 8))
    numbers = sum(math.prod(shape) for _, shape in headers(folder).values())
    free = 2 * 4 * numbers + ACTIVATIONS + room  # float32
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    one = sampler(folder, tokens, tmp_path)
    one.config = one.config.model_copy(update={"engine": Engine(kind="vllm")})
    draw(one)
    assert one.job.counts["sampler_gap"] < 1e-4
    assert len(closed) == (not room)
    assert ("model" in vars(one)) == (not room)  # beside an engine, the model is needed no longer


def test_the_gap_is_that_of_the_tokens(model: PreTrainedModel, tokens: Tokenizer) -> None:
    """Against log-softmax of the model's own logits, one sequence at a time, with a known error put in."""
    requests = [Request(tokens.encode(p), i, True) for i, p in enumerate(PROMPTS)]
    pairs = []
    for request, ids in zip(requests, ([4, 5, 6], [7], [8, 9]), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([request.prompt_ids + ids])).logits[0, :, : tokens.size]
        own = logits[len(request.prompt_ids) - 1 : -1].log_softmax(-1)
        pairs.append((request, Response(ids, "length", logprobs=[float(own[i, t]) for i, t in enumerate(ids)])))
    assert gap(model, tokens.size, pairs).largest < 1e-5
    (request, response), *rest = pairs
    assert response.logprobs
    wrong = response._replace(logprobs=[response.logprobs[0] + 0.6, *response.logprobs[1:]])
    found = gap(model, tokens.size, [(request, wrong), *rest])
    assert (found.mean, found.largest, found.tokens) == (pytest.approx(0.1, abs=1e-5), pytest.approx(0.6, abs=1e-5), 6)


def test_the_longest_responses_are_scored() -> None:
    """A window or a limit is passed by these first; what was told nothing of cannot be."""
    requests = [Request([1], i, True) for i in range(40)]
    lengths = [1 + i % 20 for i in range(40)]
    responses = [Response([2] * n, "length", logprobs=[-1.0] * n if i else None) for i, n in enumerate(lengths)]
    chosen = longest(requests, responses)
    assert sorted(len(r.ids) for _, r in chosen) == sorted(lengths[1:])[-RESPONSES:]
