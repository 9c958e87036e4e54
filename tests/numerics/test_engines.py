"""The vLLM engine against the transformers engine, for real: two copies of a random model of the tiny world's kind.

The model makes mistakes likely to show: padding rows that would be drawn often if they could, and a second stop id.
Bounds are quantiles: a chi-square statistic of true hypotheses passes its bound once in a million times.
"""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import eventually, vllm_python
from transformers import Qwen3ForCausalLM

from paced.config import Engine, Model, Runtime, Sampling
from paced.errors import EngineError
from paced.models import Tokenizer, context_length, generation_config, head, load_model, stop_ids, vocabulary
from paced.sampling.agreement import gap
from paced.sampling.engines.base import Limits, Request, Response
from paced.sampling.engines.draw import filtered
from paced.sampling.engines.transformers import TransformersEngine
from paced.sampling.engines.vllm import ATTEMPTS, VllmEngine
from paced.tiny.checkpoints import EOS, tokenizer

pytestmark = pytest.mark.slow

SECOND_STOP = 9
NO_STOP = 12  # named in config.json only, which the generation config overrules
PROMPTS = [[5, 9, 3], [7], [11, 4, 4, 20, 8, 6, 13], [5, 9, 3, 2], [26, 25], [10, 10, 10, 10, 10, 10]]
RARE = 1e-6
N = 3000


def surprising(statistic: float, freedom: int) -> bool:
    """Whether chi-square exceeds the quantile that it exceeds once in a million times."""
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    return bool(torch.special.gammaincc(half[0], half[1]) < RARE)


def fit(counts: np.ndarray, probabilities: np.ndarray) -> tuple[float, int]:
    """Chi-square of counts against a law, ids expected fewer than ten times pooled, and its degrees of freedom."""
    assert not counts[probabilities == 0].any()
    expected = counts.sum() * probabilities / probabilities.sum()
    rest = expected < 10
    groups = [(counts[i], expected[i]) for i in np.flatnonzero(~rest)] + [(counts[rest].sum(), expected[rest].sum())]
    groups = [(c, e) for c, e in groups if e > 0]
    return sum((c - e) ** 2 / e for c, e in groups), len(groups) - 1


def homogeneous(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """Chi-square of two samples against one unknown law, rare ids pooled, and its degrees of freedom."""
    total = a + b
    rest = total < 20
    columns = [*np.flatnonzero(~rest)]
    table = np.array([[*x[columns], x[rest].sum()] for x in (a, b)], dtype=float)
    table = table[:, table.sum(0) > 0]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    return float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1


@pytest.fixture(scope="module")
def parity(folder: Path, tokens: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parity")
    model = Qwen3ForCausalLM.from_pretrained(folder)
    head(model).weight.data[tokens.size :] *= 20
    assert model.generation_config
    model.generation_config.eos_token_id = [EOS, SECOND_STOP]
    model.config.eos_token_id = NO_STOP
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def limits(folder: Path, tokens: Tokenizer) -> Limits:
    return Limits(tokens.size, vocabulary(folder), stop_ids(generation_config(folder), tokens), context_length(folder))


def start(folder: Path, tokens: Tokenizer, log: list[str], copies: int = 1) -> VllmEngine:
    vllm_python()
    config = Model(path=str(folder), engine=Engine(kind="vllm", data_parallel=copies))
    return VllmEngine(folder, config, limits(folder, tokens), Runtime(sample_rows=512, threads=1), log.append)


@pytest.fixture(scope="module")
def log() -> list[str]:
    return []


@pytest.fixture(scope="module")
def vllm(parity: Path, tokens: Tokenizer, log: list[str]) -> Iterator[VllmEngine]:
    engine = start(parity, tokens, log, copies=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain(parity: Path, tokens: Tokenizer) -> TransformersEngine:
    return TransformersEngine(load_model(parity, Model(path=str(parity)), torch.device("cpu")), tokens, 1024)


def ask(engine: VllmEngine | TransformersEngine, requests: list[Request], **sampling: float) -> list[Response]:
    return engine.sample(requests, Sampling.model_validate(sampling), lambda done: None)


def test_stop_ids_are_known_without_the_model(parity: Path, tokens: Tokenizer) -> None:
    loaded = load_model(parity, Model(path=str(parity)), torch.device("cpu"))
    assert stop_ids(generation_config(parity), tokens) == stop_ids(loaded.generation_config, tokens)
    assert stop_ids(generation_config(parity), tokens) == [EOS, SECOND_STOP]
    (alone := parity.parent / "alone").mkdir()
    for file in parity.iterdir():
        if file.name != "generation_config.json":
            (alone / file.name).write_bytes(file.read_bytes())
    loaded = load_model(alone, Model(path=str(alone)), torch.device("cpu"))
    assert stop_ids(generation_config(alone), tokens) == stop_ids(loaded.generation_config, tokens)


def test_cold_responses_are_the_same(vllm: VllmEngine, plain: TransformersEngine) -> None:
    """Ids, ends and reasons, at every limit, where nothing is left to chance."""
    requests = [Request(p, i) for i, p in enumerate(PROMPTS)]
    for limit in (1, 2, 5, 40):
        found = ask(vllm, requests, top_k=1, max_new_tokens=limit)
        assert found == ask(plain, requests, top_k=1, max_new_tokens=limit)
    assert {r.finish for r in found} == {"stop", "length"}


def test_how_responses_end(vllm: VllmEngine, tokens: Tokenizer) -> None:
    """At the limit, or with either stop id, which is kept, also where both fall on one token."""
    for limit in (1, 9):
        told: list[int] = []
        requests = [Request(PROMPTS[i % 6], i) for i in range(200)]
        found = vllm.sample(requests, Sampling(max_new_tokens=limit), told.append)
        assert told == list(range(1, 201))
        assert {r.ids[-1] for r in found if r.finish == "stop"} == {EOS, SECOND_STOP}
        assert all(len(r.ids) == limit and r.ids[-1] not in (EOS, SECOND_STOP) for r in found if r.finish == "length")
        assert not any(i in (EOS, SECOND_STOP) or i >= tokens.size for r in found for i in r.ids[:-1])
        assert limit == 1 or any(NO_STOP in r.ids[:-1] for r in found)
        assert any(r.finish == "stop" and len(r.ids) == limit for r in found)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 0.9), (1.5, 6, 1.0), (1.0, 8, 0.6)]
)
def test_first_tokens_follow_the_law(
    temperature: float, top_k: int, top_p: float, vllm: VllmEngine, plain: TransformersEngine, tokens: Tokenizer
) -> None:
    """The law is the model's own softmax over the known ids, filtered as the transformers library does it."""
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, max_new_tokens=1)
    logits = plain.model(input_ids=torch.tensor([PROMPTS[0]])).logits[:, -1].detach()
    assert logits.softmax(-1)[0, tokens.size :].sum() > 0.1
    law = filtered(logits[:, : tokens.size].float(), sampling)[0].numpy()
    found = vllm.sample([Request(PROMPTS[0], 1000 + i) for i in range(N)], sampling, lambda done: None)
    counts = np.bincount([r.ids[0] for r in found], minlength=tokens.size)
    assert not surprising(*fit(counts, law))
    warmer = filtered(logits[:, : tokens.size].float(), sampling.model_copy(update={"temperature": temperature * 1.5}))
    if top_p == 1:  # else another set of ids may be left
        assert surprising(*fit(counts, warmer[0].numpy()))  # a wrong law would have been found out


def test_later_tokens_follow_the_same_law_in_both(vllm: VllmEngine, plain: TransformersEngine) -> None:
    """At every position, and lengths too: two samples of one law, whichever engine drew them."""
    settings = {"temperature": 0.9, "top_k": 20, "top_p": 0.95, "max_new_tokens": 8}
    requests = [Request(PROMPTS[2], 5000 + i) for i in range(N)]
    one, other = (ask(engine, requests, **settings) for engine in (vllm, plain))
    for position in range(8):
        a, b = (np.bincount([r.ids[position] for r in x if len(r.ids) > position], minlength=32) for x in (one, other))
        assert not surprising(*homogeneous(a, b)), position
    a, b = (np.bincount([len(r.ids) for r in x], minlength=9) for x in (one, other))
    assert not surprising(*homogeneous(a, b))
    assert len({tuple(r.ids) for r in one}) > N / 10  # each seed draws its own


def test_a_seed_decides(vllm: VllmEngine) -> None:
    """The same requests, the same responses; and a request's draws are its own, whatever is sampled beside it."""
    requests = [Request(PROMPTS[i % 6], 70 + i) for i in range(60)]
    whole = ask(vllm, requests, max_new_tokens=12)
    assert ask(vllm, requests, max_new_tokens=12) == whole
    order = [int(i) for i in np.random.default_rng(0).permutation(60)[:17]]
    assert ask(vllm, [requests[i] for i in order], max_new_tokens=12) == [whole[i] for i in order]
    assert ask(vllm, [], max_new_tokens=12) == []


def alive(group: int) -> bool:
    """Whether any process of a group is left, zombies apart."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, own = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(own) == group and state != "Z":
            return True
    return False


def test_what_it_thinks_of_its_tokens_is_what_the_model_does(vllm: VllmEngine, plain: TransformersEngine) -> None:
    """Over all rows of the model, padding too, at temperature 1; no response tells more than it was asked for."""
    requests = [Request(p, i, True) for i, p in enumerate(PROMPTS)]
    found = ask(vllm, requests, max_new_tokens=12, temperature=0.6, top_p=0.9)
    assert gap(plain.model, vllm.normalised, list(zip(requests, found, strict=True))).largest < 1e-3
    own = ask(plain, requests, max_new_tokens=12)
    assert gap(plain.model, plain.normalised, list(zip(requests, own, strict=True))).largest < 1e-4
    assert all(r.logprobs is None for r in ask(vllm, [Request(PROMPTS[0], 1)], max_new_tokens=3))


def test_a_killed_engine_is_started_again(vllm: VllmEngine, log: list[str]) -> None:
    """With half as many sequences at once, and the part is drawn anew, with the same seeds; one line says so."""
    requests = [Request(PROMPTS[i % 6], 900 + i) for i in range(40)]
    whole = ask(vllm, requests, max_new_tokens=8)
    first = [copy.process.pid for copy in vllm._copies]
    os.kill(first[1], signal.SIGKILL)
    assert ask(vllm, requests, max_new_tokens=8) == whole
    assert log == ["vLLM ended (signal 9): started again with 256 sequences at once"]
    second = [copy.process.pid for copy in vllm._copies]
    assert [alive(p) for p in (*first, *second)] == [False, False, True, True]
    vllm.close()
    assert not any(map(alive, second))


def test_an_engine_that_keeps_dying(parity: Path, tokens: Tokenizer) -> None:
    log: list[str] = []
    engine = start(parity, tokens, log)

    def kill() -> None:
        for _ in range(ATTEMPTS):
            copy = eventually(lambda: engine._copies and engine._copies[0], 60, "a copy starts")
            copy.process.kill()
            eventually(lambda c=copy: engine._copies[:1] != [c], 60, "it is given up")

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(EngineError) as error:
        ask(engine, [Request([1], 0)], max_new_tokens=1)
    killer.join()
    message = str(error.value)
    assert message.startswith("vLLM ended (signal 9), 3 times in a row, last with 128 sequences at once: lower runtime")
    assert "\n" not in message
    assert len(log) == ATTEMPTS - 1
    assert engine._copies == []


def test_a_model_that_gives_no_number_is_an_error(parity: Path, tokens: Tokenizer, tmp_path: Path) -> None:
    """And no reason to try again."""
    model = Qwen3ForCausalLM.from_pretrained(parity)
    next(model.parameters()).data.fill_(torch.nan)
    model.save_pretrained(tmp_path)
    log: list[str] = []
    engine = start(tmp_path, tokens, log)
    try:
        with pytest.raises(EngineError, match="logits are not finite"):
            ask(engine, [Request([1], 0)], max_new_tokens=1)
    finally:
        engine.close()
    assert log == []


def test_what_breaks_the_rules_is_refused() -> None:
    """Whatever an engine outside answers."""
    rules = Limits(known=10, vocabulary=12, stops=[1, 9], context=0)
    sampling = Sampling(max_new_tokens=3)
    assert rules.response([2, 3, 9], sampling, "x") == Response([2, 3, 9], "stop")
    assert rules.response([1], sampling, "x") == Response([1], "stop")
    assert rules.response([2, 3, 4], sampling, "x") == Response([2, 3, 4], "length")
    for ids in ([], [2, 3], [2, 1, 9], [2, 3, 4, 1], [2, 10, 1], [2, 3, 11]):
        with pytest.raises(EngineError, match="breaks the rules"):
            rules.response(ids, sampling, "x")
