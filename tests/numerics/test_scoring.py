"""Scoring: the numbers of a plain forward pass, and the same bits whatever else is in the batch."""

import random

import pytest
import torch
from transformers import PreTrainedModel

from paced.losses.targets import Sparse, encode
from paced.models import Tokenizer, projection
from paced.models.scoring import CHUNK, TOKENS, chunks, scored, shape_of
from paced.sampling.likelihoods import log_normaliser

Pair = tuple[list[int], list[int]]


@pytest.fixture
def pairs(tokens: Tokenizer) -> list[Pair]:
    draw = random.Random(0)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(tokens.size) for _ in range(draw.randint(low, high))]

    return [(ids(3, 20), ids(1, 70)) for _ in range(150)]


def targets(model: PreTrainedModel, size: int, pairs: list[Pair]) -> list[tuple[Sparse, torch.Tensor]]:
    """What is stored of each pair: its sparse distributions, and the normalisers that likelihoods are formed with."""
    head = projection(model, size)
    result: dict[int, tuple[Sparse, torch.Tensor]] = {}
    for batch, hidden in scored(model, pairs):
        logits = torch.cat([head.logits(part)[: some.stop - some.start] for some, part in chunks(hidden)])
        whole, start = log_normaliser(hidden, head), 0
        for i in batch:
            rows = slice(start, start + len(pairs[i][1]))
            result[i] = encode(logits[rows], torch.tensor(pairs[i][1]), 0.001), whole[rows].clone()
            start = rows.stop
    return [result[i] for i in range(len(pairs))]


@torch.inference_mode()
def test_what_is_stored_of_a_sequence_does_not_depend_on_the_others(
    model: PreTrainedModel, tokens: Tokenizer, pairs: list[Pair]
) -> None:
    together = targets(model, tokens.size, pairs)
    draw = random.Random(1)
    for number in (1, 7, 60, 149):
        some = draw.sample(range(len(pairs)), number)
        for i, (sparse, whole) in zip(some, targets(model, tokens.size, [pairs[i] for i in some]), strict=True):
            for ours, theirs in zip(sparse, together[i][0], strict=True):
                assert (ours == theirs).all()
            assert torch.equal(whole, together[i][1])


@torch.inference_mode()
def test_hidden_states_are_those_of_a_plain_forward_pass(model: PreTrainedModel, pairs: list[Pair]) -> None:
    seen: list[int] = []
    for batch, hidden in scored(model, pairs[:40]):
        start = 0
        for i in batch:
            prompt, response = pairs[i]
            plain = model.base_model(input_ids=torch.tensor([prompt + response])).last_hidden_state[0]
            ours = hidden[start : start + len(response)]
            torch.testing.assert_close(ours, plain[len(prompt) - 1 : -1], atol=2e-5, rtol=1e-4)
            start += len(response)
        seen += batch
        assert start == len(hidden)
    assert sorted(seen) == list(range(40))


def test_shapes_follow_from_the_length_alone() -> None:
    assert shape_of(1) == (64, 32)
    assert shape_of(33) == (32, 64)
    assert shape_of(90, limit=96) == (21, 96)
    assert shape_of(100, limit=110) == (18, 110)  # a model with learned positions has none beyond its context
    assert shape_of(5000) == (1, 5120)
    for length in range(1, 9000, 7):
        rows, width = shape_of(length)
        assert width >= length
        assert width - length < max(32, length / 8)
        assert rows * width <= max(TOKENS, width)


def test_chunks_have_one_shape_and_lose_nothing() -> None:
    hidden = torch.randn(CHUNK + 3, 4)
    parts = list(chunks(hidden))
    assert [part.shape for _, part in parts] == [(CHUNK, 4)] * 2
    assert torch.equal(torch.cat([part[: some.stop - some.start] for some, part in parts]), hidden)
