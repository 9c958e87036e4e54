"""Sampling: filters against the transformers library's, draws against probabilities, the engine against generate."""

import copy
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RecurrentGemmaConfig,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from paced.config import Model, Runtime, Sampling
from paced.errors import ConfigError, EngineError
from paced.events import StageEvent
from paced.models import Tokenizer, head, next_logits
from paced.sampling.engines.base import Request, Response
from paced.sampling.engines.draw import NUCLEUS, draw, filtered
from paced.sampling.engines.transformers import TransformersEngine
from paced.sampling.sampler import Sampler
from paced.stage import Job, Spec
from paced.storage.artifacts import Ref, kept_model
from paced.storage.identity import model_identity
from paced.tiny.checkpoints import EOS, VOCABULARY


def surprising(counts: np.ndarray, probabilities: np.ndarray) -> bool:
    """Chi-square of counts beyond five standard deviations of its law; no count where the probability is 0."""
    there = probabilities > 0
    expected = counts.sum() * probabilities[there]
    statistic = ((counts[there] - expected) ** 2 / expected).sum()
    freedom = there.sum() - 1
    return bool(counts[~there].any()) or statistic > freedom + 5 * np.sqrt(2 * max(freedom, 1))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), itertools.product([0.3, 1.0, 2.5], [0, 1, 5, 1000], [1.0, 0.9, 0.3, 1e-6])
)
def test_filters_are_those_of_transformers(temperature: float, top_k: int, top_p: float) -> None:
    logits = 3 * torch.randn(20, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # no ties
    scores = TemperatureLogitsWarper(temperature)(None, logits)  # type: ignore[arg-type]
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)  # type: ignore[arg-type]
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)  # type: ignore[arg-type]
    expected = scores.softmax(-1)
    found = filtered(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found / found.sum(-1, keepdim=True), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("top_k", [0, 1200])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_top_p_beyond_the_ids_that_are_looked_at_first(top_p: float, top_k: int) -> None:
    """Peaked rows, flat ones, whose nucleus is larger, and some of both kinds between; a batch of each alone."""
    scale = torch.tensor([8.0, 0.0, 0.01, 3.0, 1.0, 0.5, 8.0, 0.3, 2.0])[:, None]
    tilt = torch.linspace(0, 1e-3, 3000, dtype=torch.float64)  # no ties in the row of scale 0
    logits = scale * torch.randn(9, 3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + tilt
    scores = TopKLogitsWarper(top_k)(None, logits) if top_k else logits  # type: ignore[arg-type]
    expected = TopPLogitsWarper(top_p)(None, scores).softmax(-1)  # type: ignore[arg-type]
    size = (expected > 0).sum(-1)
    assert size.min() < 100 and (size.max() > NUCLEUS) == (top_p > 0.3)
    sampling = Sampling(temperature=1.0, top_k=top_k, top_p=top_p)
    for rows in (torch.arange(9), size <= NUCLEUS, size > NUCLEUS):
        found = filtered(logits[rows], sampling)
        assert torch.equal(found > 0, expected[rows] > 0)
        torch.testing.assert_close(found / found.sum(-1, keepdim=True), expected[rows], rtol=0, atol=1e-12)


def test_draw_follows_the_probabilities() -> None:
    weights = torch.tensor(
        [0.0, 0.1, 0.0, 0.4, 0.25, 0.0, 0.05, 0.0], dtype=torch.float64
    )  # sums to 0.8, as after top-p
    uniforms = torch.from_numpy(np.random.default_rng(0).random(40_000))
    counts = np.bincount(draw(weights.expand(40_000, -1), uniforms), minlength=8)
    assert not surprising(counts, (weights / 0.8).numpy())


def test_draw_finds_the_place_that_a_plain_running_sum_gives() -> None:
    """Over several blocks, the last of them not full."""
    logits = 4 * torch.randn(5000, 1000, generator=torch.Generator().manual_seed(0))
    rows, uniforms = logits.softmax(-1), torch.from_numpy(np.random.default_rng(0).random(5000))
    running = rows.double().cumsum(-1)
    plain = torch.searchsorted(running, (uniforms * running[:, -1])[:, None], right=True)[:, 0]
    assert torch.equal(draw(rows, uniforms), plain)


@pytest.mark.parametrize("u", [0.0, 2.0**-53, 0.5, 1 - 2.0**-53])
def test_draw_never_picks_what_has_no_probability(u: float) -> None:
    make = torch.Generator().manual_seed(0)
    rows = torch.rand(2000, 9, generator=make, dtype=torch.float64) + 0.01
    none = torch.rand(2000, 9, generator=make) < 0.6
    none[torch.arange(2000), torch.arange(2000) % 9] = False
    rows[none] = 0
    picked = draw(rows, torch.full((2000,), u, dtype=torch.float64))
    assert (rows[torch.arange(2000), picked] > 0).all()
    if u in (0.0, 1 - 2.0**-53):  # the first, the last id that has any
        there = rows > 0
        edge = there.int().argmax(-1) if u == 0 else 8 - there.flip(-1).int().argmax(-1)
        assert torch.equal(picked, edge)


PROMPTS = [[5, 9, 3], [7], [11, 4, 4, 20, 8, 6, 13], [5, 9, 3, 2], [26, 25], [10, 10, 10, 10, 10, 10]]


def engine(model: PreTrainedModel, tokens: Tokenizer, rows: int = 64) -> TransformersEngine:
    return TransformersEngine(model, tokens, rows)


def ask(engine: TransformersEngine, requests: list[Request], **sampling: float) -> list[Response]:
    return engine.sample(requests, Sampling.model_validate(sampling), lambda done: None)


def test_cold_sampling_is_greedy_generation(model: PreTrainedModel, tokens: Tokenizer) -> None:
    plain = [
        r.ids for r in ask(engine(model, tokens), [Request(p, 0) for p in PROMPTS], temperature=1e-5, max_new_tokens=24)
    ]
    common = max({i for ids in plain for i in ids[3:]}, key=lambda i: sum(i in ids[3:] for ids in plain))
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [EOS, common]  # a model may add stops of its own
    found = ask(engine(model, tokens), [Request(p, 0) for p in PROMPTS], temperature=1e-5, max_new_tokens=24)
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in PROMPTS])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])
    out = model.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=24,
        suppress_tokens=list(range(tokens.size, VOCABULARY)),
    )
    stops = {EOS, common}
    for row, response in zip(out[:, width:].tolist(), found, strict=True):
        end = next((i + 1 for i, token in enumerate(row) if token in stops), 24)
        assert response == Response(row[:end], "stop" if row[end - 1] in stops else "length")
    assert any(r.finish == "stop" and len(r.ids) < 24 for r in found)


def test_a_request_draws_the_same_in_any_batch(model: PreTrainedModel, tokens: Tokenizer) -> None:
    requests = [Request(PROMPTS[i % 6], 1000 + i) for i in range(24)]
    told: list[int] = []
    whole = engine(model, tokens, 64).sample(requests, Sampling(max_new_tokens=12), told.append)
    assert told[-1] == 24 and told == sorted(told)  # as sequences finish
    for rows in (1, 5):
        assert engine(model, tokens, rows).sample(requests, Sampling(max_new_tokens=12), told.append) == whole
    assert {5, 10, 15, 20, 24} <= set(told)  # and as batches end
    order = np.random.default_rng(0).permutation(24)[:13]
    assert ask(engine(model, tokens, 7), [requests[i] for i in order], max_new_tokens=12) == [whole[i] for i in order]
    # A longer limit continues a cut response, and leaves a finished one alone.
    for short, long in zip(whole, ask(engine(model, tokens), requests, max_new_tokens=20), strict=True):
        assert long.ids[:12] == short.ids
        assert short.finish == "length" or long == short
    assert len({tuple(r.ids) for r in whole[::6]}) > 1  # samples of one prompt differ by their seeds
    assert ask(engine(model, tokens), [], max_new_tokens=12) == []


SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16,
    "num_attention_heads": 6, "num_key_value_heads": 2, "initializer_range": 0.3, "eos_token_id": EOS,
}  # fmt: skip
WINDOWS = Gemma3TextConfig(**SMALL, sliding_window=40, layer_types=["sliding_attention", "full_attention"])
EYE = {
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 8,
    "patch_size": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL),
        LlamaConfig(**SMALL, sliding_window=8),
        Qwen2Config(**SMALL),
        GPT2Config(**SMALL, n_positions=256, activation_function="relu"),
        OPTConfig(**SMALL, ffn_dim=64, word_embed_proj_dim=48, max_position_embeddings=256, pad_token_id=0),
        Qwen3Config(**SMALL),
        MistralConfig(**SMALL, sliding_window=40),
        Qwen3Config(**SMALL, use_sliding_window=True, sliding_window=40, max_window_layers=1),
        Gemma2Config(**SMALL, query_pre_attn_scalar=16, attn_logit_softcapping=2.0, sliding_window=40),
        Gemma3Config(text_config=WINDOWS.to_dict(), vision_config=EYE, mm_tokens_per_image=4),
    ],
    ids=[
        "llama", "llama, a window that its code ignores", "qwen2", "gpt2, learnt positions",
        "opt, positions with an offset", "qwen3", "mistral, window", "qwen3, window in one layer of two",
        "gemma 2, soft-capped", "gemma 3 that reads images too",
    ],
)  # fmt: skip
def test_every_token_is_drawn_from_the_models_own_law(config: PreTrainedConfig, tokens: Tokenizer) -> None:
    """Whatever rows its sequence shared a batch with: the law is that of a forward pass of the sequence alone."""
    torch.manual_seed(0)
    capped = getattr(config, "attn_logit_softcapping", None)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager" if capped else "sdpa").eval()
    alone = copy.deepcopy(model)  # its attention is the library's own
    for own in (model, alone):
        head(own).weight.data[EOS] = 0  # so that few stop early
    make = np.random.default_rng(1)
    prompts = [make.integers(0, tokens.size, n).tolist() for n in (3, 50, 64, 65, 70, 3)]
    requests = [Request(p, 10 * i + j) for i, p in enumerate(prompts) for j in range(3)]
    found = ask(engine(model, tokens, 7), requests, max_new_tokens=90, temperature=2.0)
    assert max(len(p) + len(r.ids) for (p, *_), r in zip(requests, found, strict=True)) > 130  # the cache grew twice
    for (prompt, seed, _), response in zip(requests, found, strict=True):
        with torch.inference_mode():
            logits = alone(input_ids=torch.tensor([prompt + response.ids]), use_cache=False).logits[0]
        law = (logits[len(prompt) - 1 : -1, : tokens.size].double() / 2).softmax(-1)
        above = law.cumsum(-1).gather(-1, torch.tensor(response.ids)[:, None])[:, 0]
        below = above - law.gather(-1, torch.tensor(response.ids)[:, None])[:, 0]
        uniforms = torch.from_numpy(np.random.default_rng(seed).random(len(response.ids)))
        assert ((below - 1e-5 < uniforms) & (uniforms < above + 1e-5)).all()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (Lfm2Config(**SMALL, layer_types=["conv", "full_attention"]), "LinearAttentionLayer"),
        (RecurrentGemmaConfig(**SMALL, attention_window_size=8), "a state"),
    ],
)
def test_models_that_keep_something_else_are_refused(config: PreTrainedConfig, says: str, tokens: Tokenizer) -> None:
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ConfigError, match=rf"keeps more of earlier tokens .*{says}.*: use engine\.kind vllm"):
        engine(model, tokens)


def test_attention_is_the_models_own_after_sampling(model: PreTrainedModel, tokens: Tokenizer) -> None:
    ask(engine(model, tokens), [Request(PROMPTS[0], 0)], max_new_tokens=2)
    assert model.config._attn_implementation == "sdpa"


def test_logits_have_the_same_bits_in_any_batch(tokens: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32 with one CPU thread: whatever is drawn from, with any number of rows, in any order and company."""
    torch.manual_seed(0)
    wider = {"hidden_size": 192, "intermediate_size": 512, "head_dim": 32}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL | wider), attn_implementation="sdpa").eval()
    requests = [Request(PROMPTS[i % 6] * (1 + i % 4), i) for i in range(40)]
    seen: list[bytes] = []

    def spy(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        seen.extend(row.numpy().tobytes() for row in logits)
        return filtered(logits, sampling)

    monkeypatch.setattr("paced.sampling.engines.transformers.filtered", spy)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = ask(engine(model, tokens, 40), requests, max_new_tokens=70)
        expected, seen = sorted(seen), []
        assert len(expected) == sum(len(r.ids) for r in whole)
        for rows in (1, 3, 17):
            assert ask(engine(model, tokens, rows), requests[::-1], max_new_tokens=70) == whole[::-1]
            assert sorted(seen) == expected
            seen = []
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("limit", [1, 9])
def test_how_responses_end(model: PreTrainedModel, tokens: Tokenizer, limit: int) -> None:
    head(model).weight.data[EOS] *= 3  # so that many stop
    found = ask(engine(model, tokens), [Request(PROMPTS[i % 6], i) for i in range(120)], max_new_tokens=limit)
    assert {r.finish for r in found} == {"stop", "length"}
    for r in found:
        assert EOS not in r.ids[:-1]
        assert (
            (r.ids[-1] == EOS and len(r.ids) <= limit)
            if r.finish == "stop"
            else (len(r.ids) == limit and r.ids[-1] != EOS)
        )


def test_whatever_stop_ends_a_response_is_no_part_of_its_text(folder: Path, tokens: Tokenizer, tmp_path: Path) -> None:
    """The tokenizer's own, and one that the generation config adds, which is no special token here."""
    added = tokens.encode("7")
    path = shutil.copytree(folder, tmp_path / "model")
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS, *added]}))
    ref = Ref(kind="model", path=str(path), identity=model_identity(path))
    job = Job(Spec(stage="rollouts", home=str(tmp_path)), lambda event: None)
    sampler = Sampler(job, ref, Model(path=str(path)), tokens, Sampling(max_new_tokens=20), seed=0)
    problem = {"problem_id": "p", "question": "1+1=", "prompt": json.dumps("1+1="), "source": "tiny"}
    wanted = sampler.wanted([problem], 40)
    places = zip([w.key for w in wanted], sampler.ensure(wanted, "test"), strict=True)
    rows = list(sampler.collection.rows(places, ["response", "response_ids", "finish"]))
    assert {row["response_ids"][-1] for row in rows if row["finish"] == "stop"} == {EOS, *added}
    for row in rows:
        kept = row["response_ids"][:-1] if row["finish"] == "stop" else row["response_ids"]
        assert row["response"] == tokens.core.decode(kept) and "7" not in row["response"]


def test_responses_that_meet_the_limit_are_warned_of_once_and_early(
    folder: Path, tokens: Tokenizer, tmp_path: Path
) -> None:
    """After the first part, with the share; not of a stage whose responses end."""
    problems = [
        {"problem_id": str(n), "question": "1+1=", "prompt": json.dumps(f"{n}+1="), "source": "tiny"} for n in range(4)
    ]
    path = shutil.copytree(folder, tmp_path / "model")
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS, *tokens.encode("0123456789")]}))
    ref = kept_model(path)
    for limit, warned in ((1, True), (90, False)):
        told: list[StageEvent] = []
        job = Job(Spec(stage="rollouts", home=str(tmp_path), runtime=Runtime(part_problems=2)), told.append)
        sampler = Sampler(job, ref, Model(path=str(path)), tokens, Sampling(max_new_tokens=limit), seed=0)
        sampler.ensure(sampler.wanted(problems, 8), "test")
        warnings = [event["message"] for event in told if event["event"] == "warning"]
        assert len(warnings) == warned
        assert all("16 responses met the token limit" in text and "max_new_tokens" in text for text in warnings)


def test_ids_without_a_row_are_part_of_what_a_sample_is(folder: Path, tmp_path: Path) -> None:
    """Two students of one token map, one with fewer rows: what a teacher may draw for them differs."""
    names: dict[int, tuple[Tokenizer, list[str]]] = {}
    for rows in (27, VOCABULARY):
        path = shutil.copytree(folder, tmp_path / str(rows))
        core = json.loads((path / "tokenizer.json").read_text())
        core["added_tokens"].append(core["added_tokens"][0] | {"id": 27, "content": "<image>"})
        (path / "tokenizer.json").write_text(json.dumps(core))
        config = json.loads((path / "config.json").read_text()) | {"vocab_size": rows}
        (path / "config.json").write_text(json.dumps(config))
        tokenizer = Tokenizer(path)
        teacher = Ref(kind="model", path=str(folder), identity=model_identity(folder))
        job = Job(Spec(stage="teacher", home=str(tmp_path)), lambda event: None)
        sampler = Sampler(job, teacher, Model(path=str(folder)), tokenizer, Sampling(max_new_tokens=20), seed=0)
        problem: Any = {"problem_id": "p", "question": "1+1=", "prompt": json.dumps("1+1="), "source": "tiny"}
        names[rows] = tokenizer, [w.key for w in sampler.wanted([problem], 3)]
        assert ("known" in sampler.about) == (rows == 27)
    (few, a), (all_, b) = names.values()
    assert few.token_map == all_.token_map
    assert (few.size, all_.size) == (27, 28)
    assert not set(a) & set(b)


def test_first_tokens_follow_the_softmax_over_known_ids(model: PreTrainedModel, tokens: Tokenizer) -> None:
    head(model).weight.data[tokens.size :] *= 20  # padding rows that would be drawn often if they could
    n = 6000
    found = ask(engine(model, tokens, n), [Request(PROMPTS[0], 77 + i) for i in range(n)], max_new_tokens=1)
    logits = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].detach()
    assert logits.softmax(-1)[tokens.size :].sum() > 0.1
    counts = np.bincount([r.ids[0] for r in found], minlength=tokens.size)
    assert len(counts) == tokens.size
    likely = logits[: tokens.size].double().softmax(-1).numpy()
    rest = likely < 5 / n  # a chi-square needs some of each
    counts, likely = (np.append(x[~rest], x[rest].sum()) for x in (counts, likely))
    assert not surprising(counts, likely)
    longer = ask(
        engine(model, tokens), [Request(p, i) for i, p in enumerate(PROMPTS)], max_new_tokens=30, temperature=3.0
    )
    assert max(i for r in longer for i in r.ids) < tokens.size


@pytest.mark.parametrize("sampling", [{}, {"top_p": 0.9}, {"top_k": 3}], ids=["all", "top-p", "top-k"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("step", [0, 2])
def test_a_model_that_gives_no_number_is_an_error(
    model: PreTrainedModel, tokens: Tokenizer, monkeypatch: pytest.MonkeyPatch,
    step: int, value: float, sampling: dict[str, float],
) -> None:  # fmt: skip
    """At the prompt or later; a row of a batch is enough."""
    calls = itertools.count()

    def broken(*args: Any) -> torch.Tensor:
        logits = next_logits(*args)
        logits[1, 3] = value if next(calls) == step else logits[1, 3]
        return logits

    monkeypatch.setattr("paced.sampling.engines.transformers.next_logits", broken)
    with pytest.raises(EngineError, match="not finite: its weights are damaged"):
        ask(engine(model, tokens), [Request([5, i], 0) for i in range(2, 6)], max_new_tokens=20, **sampling)
