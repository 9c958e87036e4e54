"""Sparse targets: which entries are kept, what is left for the tail, what half precision costs, and storage."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paced.losses import bucketed, forward_kl
from paced.targets import Packed, Sparse, decode, encode

HALF = 2.0**-11  # relative rounding of fp16


def rows(sparse: Sparse) -> list[tuple[list[int], list[float]]]:
    bounds = np.concatenate([[0], sparse.counts.cumsum()])
    return [
        (sparse.ids[a:b].tolist(), sparse.logprobs[a:b].astype(float).tolist()) for a, b in itertools.pairwise(bounds)
    ]


def random(n: int, v: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, v, generator=make), torch.randint(0, v, (n,), generator=make)


@pytest.mark.parametrize("mass", [0.3, 0.8, 0.999])
def test_no_smaller_set_reaches_the_mass(mass: float) -> None:
    v = 8
    logits, taken = random(40, v, 2.0)
    p = logits.double().softmax(-1).numpy()
    for row, (ids, _) in enumerate(rows(encode(logits, taken, mass, v))):
        sizes = (
            n for n in range(1, v + 1) for s in itertools.combinations(range(v), n) if p[row, list(s)].sum() >= mass
        )
        smallest, token = next(sizes), int(taken[row])
        without = ids if len(ids) == smallest else [i for i in ids if i != token]  # the token taken may come on top
        assert len(without) == smallest
        assert p[row, without].sum() >= mass
        assert token in ids
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("cap", [2, 3, 7, 64])
@pytest.mark.parametrize("mass", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])
def test_kept_entries_and_tail(scale: float, mass: float, cap: int) -> None:
    n, v = 50, 30
    logits, taken = random(n, v, scale)
    log_p = logits.double().log_softmax(-1).numpy()
    sparse = encode(logits, taken, mass, cap)
    for row, (ids, logprobs) in enumerate(rows(sparse)):
        order = np.argsort(-log_p[row])
        reach = np.exp(log_p[row, order]).cumsum()
        need = v if mass == 1 else int((reach < mass).sum()) + 1
        prefix, token = order[:need].tolist(), int(taken[row])
        expected = prefix[:cap]
        if token not in expected:  # joins if there is room, else takes the place of the least likely
            expected = [*expected, token] if len(expected) < cap else [*expected[:-1], token]
        if mass < 1:
            assert sorted(ids) == sorted(expected)
        else:  # float32 reaches 1 a little before the last entries
            assert len(set(ids)) == len(ids) <= min(cap, v)
            assert token in ids
        np.testing.assert_allclose(logprobs, log_p[row, ids], rtol=HALF * 1.01, atol=1e-6)
        left = 1 - np.exp(log_p[row, ids]).sum()
        if len(ids) == v:
            assert sparse.tail[row] == -np.inf
        elif left > 1e-9:
            assert float(sparse.tail[row]) == pytest.approx(np.log(left), rel=HALF * 1.01, abs=1e-5)


def test_one_entry_and_all() -> None:
    sure = torch.zeros(2, 9)
    sure[:, 4] = 30
    sparse = encode(sure, torch.tensor([4, 7]), 0.999, 64)
    assert [ids for ids, _ in rows(sparse)] == [[4], [4, 7]]
    # Eight others at e^-30 each: the tail is ln 8 - 30, which 1 - sum in float32 would call 0.
    assert float(sparse.tail[0]) == pytest.approx(np.log(8) - 30, rel=HALF)
    everything = encode(torch.zeros(3, 9), torch.tensor([0, 4, 8]), 1.0, 9)
    assert everything.counts.tolist() == [9, 9, 9]
    assert np.isneginf(everything.tail).all()
    assert encode(1e4 * sure, torch.tensor([4, 7]), 0.5, 2).counts.tolist() == [1, 2]


@pytest.mark.parametrize("cap", [2, 8, 40])
@pytest.mark.parametrize("scale", [0.1, 2.0, 8.0])
def test_round_trip(scale: float, cap: int) -> None:
    n, v = 60, 40
    logits, taken = random(n, v, scale, 3)
    log_p = logits.double().log_softmax(-1)
    sparse = encode(logits, taken, 0.99, cap)
    ids, logprobs, tail = decode(sparse, torch.device("cpu"), torch.float64)
    total = torch.cat([logprobs, tail[:, None]], 1).logsumexp(1)
    torch.testing.assert_close(total, torch.zeros(n, dtype=torch.float64), rtol=0, atol=1e-12)
    for row, (kept, _) in enumerate(rows(sparse)):
        k = len(kept)
        assert ids[row].tolist() == kept + [kept[0]] * (ids.shape[1] - k)
        assert torch.isneginf(logprobs[row, k:]).all()
        exact = log_p[row, kept]
        left = torch.log1p(-exact.exp().sum())
        # fp16 rounds each by a relative 2^-11; renormalising shifts all by at most the mean of those errors.
        shift = HALF * float(-(exact.exp() * exact).sum() - (left.exp() * left if left.isfinite() else 0)) * 1.05 + 1e-6
        assert ((logprobs[row, :k] - exact).abs() <= HALF * 1.01 * exact.abs() + shift).all()
    f32 = decode(sparse, torch.device("cpu"))
    assert f32[1].dtype == torch.float32
    assert torch.equal(f32[0], ids)
    # The price in nats of training on what was stored: the student that equals the teacher is told almost nothing.
    assert bucketed(forward_kl, log_p.clone(), ids, logprobs, tail).abs().max() < 2e-5


def test_packed_returns_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written: list[dict[str, Any]] = []
    for length in (3, 1, 7, 2, 5):
        counts = rng.integers(1, 6, length)
        entries = int(counts.sum())
        tail = rng.normal(size=length).astype(np.float16)
        tail[0] = -np.inf
        written.append(
            {
                "response_ids": rng.integers(0, 150_000, length).tolist(),
                "entry_count": counts.tolist(),
                "entry_ids": rng.integers(0, 150_000, entries).tolist(),
                "entry_logprobs": rng.normal(size=entries).astype(np.float16).tolist(),
                "tail_logprob": tail.tolist(),
            }
        )
    for _ in range(2):  # building over an older one replaces it
        packed = Packed(tmp_path / "packed", iter(written))
    for order in ([0, 1, 2, 3, 4], [4, 0, 3], [2], [1, 1, 0]):
        sparse = packed.sparse(order)
        for values, name in zip(sparse, ("entry_count", "entry_ids", "entry_logprobs", "tail_logprob"), strict=True):
            assert values.tolist() == [x for s in order for x in written[s][name]]
    assert [packed.response(s) for s in range(5)] == [w["response_ids"] for w in written]
