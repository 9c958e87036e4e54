"""Sparse targets: which entries are kept, what is left for the tail, what half precision costs, and storage."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from paced.losses import BLOCK, bucketed, forward_kl
from paced.losses.targets import Packed, Sparse, decode, encode, encode_likeliest, joined, pack
from paced.storage.tables import TARGETS

HALF = 2.0**-11  # relative rounding of fp16


def rows(sparse: Sparse) -> list[tuple[list[int], list[float]]]:
    bounds = np.concatenate([[0], sparse.counts.cumsum()])
    return [
        (sparse.ids[a:b].tolist(), sparse.logprobs[a:b].astype(float).tolist()) for a, b in itertools.pairwise(bounds)
    ]


def random(n: int, v: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, v, generator=make), torch.randint(0, v, (n,), generator=make)


@pytest.mark.parametrize("floor", [1e-4, 1e-3, 0.02, 0.3])
@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])
def test_kept_entries_and_tail(scale: float, floor: float) -> None:
    n, v = 50, 30
    logits, taken = random(n, v, scale)
    log_p = logits.double().log_softmax(-1).numpy()
    sparse = encode(logits, taken, floor)
    for row, (ids, logprobs) in enumerate(rows(sparse)):
        p, token = np.exp(log_p[row]), int(taken[row])
        assert ids == sorted({*np.flatnonzero(p >= floor).tolist(), token})
        for i, logprob in zip(ids, logprobs, strict=True):
            if p[i] >= floor:  # to half the floor, and then to half precision
                assert abs(np.exp(logprob) - p[i]) <= floor / 4 + 1.01 * HALF * -p[i] * log_p[row, i] + 1e-6
                steps = 2 * np.exp(logprob) / floor
                assert steps == pytest.approx(round(steps), rel=2 * HALF * max(1, -logprob))
            else:
                assert logprob == pytest.approx(log_p[row, i], rel=1.01 * HALF)
        left = 1 - p[ids].sum()
        if len(ids) == v:
            assert sparse.tail[row] == -np.inf
        elif left > 1e-9:
            assert float(sparse.tail[row]) == pytest.approx(np.log(left), rel=HALF * 1.01, abs=1e-5)


def test_the_fewest_entries_for_their_error() -> None:
    """No other set of as many entries, over all positions, leaves a smaller sum of squares."""
    logits, taken = random(40, 200, 3.0)
    p = logits.double().softmax(-1)
    kept = torch.zeros_like(p, dtype=torch.bool)
    for row, (ids, _) in enumerate(rows(encode(logits, taken, 0.004))):
        kept[row, ids] = True
        kept[row, taken[row]] = bool(p[row, taken[row]] >= 0.004)
    k = int(kept.sum())
    assert float(p[~kept].square().sum()) == pytest.approx(float(p.flatten().sort().values[:-k].square().sum()))


def test_one_entry_and_all() -> None:
    sure = torch.zeros(2, 9)
    sure[:, 4] = 30
    sparse = encode(sure, torch.tensor([4, 7]), 0.001)
    assert [ids for ids, _ in rows(sparse)] == [[4], [4, 7]]
    # Eight others at e^-30 each: the tail is ln 8 - 30, which 1 - sum in float32 would call 0.
    assert float(sparse.tail[0]) == pytest.approx(np.log(8) - 30, rel=HALF)
    assert float(sparse.logprobs[2]) == pytest.approx(-30, rel=HALF)  # the one taken, far below the floor
    everything = encode(torch.zeros(3, 9), torch.tensor([0, 4, 8]), 0.001)
    assert everything.counts.tolist() == [9, 9, 9]
    assert np.isneginf(everything.tail).all()
    assert encode(1e4 * sure, torch.tensor([4, 7]), 0.4).counts.tolist() == [1, 2]


@pytest.mark.parametrize("floor", [1e-4, 1e-3, 0.02])
@pytest.mark.parametrize("scale", [0.1, 2.0, 8.0])
def test_round_trip(scale: float, floor: float) -> None:
    n, v = 60, 40
    logits, taken = random(n, v, scale, 3)
    log_p = logits.double().log_softmax(-1)
    sparse = encode(logits, taken, floor)
    ids, logprobs, tail = decode(sparse, torch.device("cpu"), torch.float64)
    total = torch.cat([logprobs, tail[:, None]], 1).logsumexp(1)
    torch.testing.assert_close(total, torch.zeros(n, dtype=torch.float64), rtol=0, atol=1e-12)
    for row, (kept, _) in enumerate(rows(sparse)):
        k = len(kept)
        assert ids[row].tolist() == kept + [kept[0]] * (ids.shape[1] - k)
        assert torch.isneginf(logprobs[row, k:]).all()
        exact = log_p[row, kept].exp()
        # Each is off by a quarter of the floor; renormalising shares the sum of these out in proportion.
        off = floor / 4 + 2 * HALF
        assert ((logprobs[row, :k].exp() - exact).abs() <= off + exact * (k + 1) * off).all()
    f32 = decode(sparse, torch.device("cpu"))
    assert f32[1].dtype == torch.float32
    assert torch.equal(f32[0], ids)
    # The price in nats of training on what was stored: the student that equals the teacher is told almost nothing.
    told = bucketed(forward_kl, log_p.clone(), ids, logprobs, tail, floor)
    assert told.min() > -1e-12 and told.max() < v * floor / 16 + 1e-4


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
                "prompt_ids": rng.integers(0, 150_000, 2 * length).tolist(),
                "response_ids": rng.integers(0, 150_000, length).tolist(),
                "entry_count": counts.tolist(),
                "entry_ids": rng.integers(0, 150_000, entries).tolist(),
                "entry_logprobs": rng.normal(size=entries).astype(np.float16).tolist(),
                "tail_logprob": tail.tolist(),
            }
        )
    table = pa.Table.from_pylist(written, schema=pa.schema([TARGETS.field(name) for name in written[0]]))
    for _ in range(2):  # building over an older one replaces it
        pack(tmp_path / "packed", iter([table[:2], table[2:4].take([0, 1]), table[4:]]))
    packed = Packed(tmp_path / "packed")
    for order in ([0, 1, 2, 3, 4], [4, 0, 3], [2], [1, 1, 0]):
        sparse = packed.sparse(order)
        for values, name in zip(sparse, ("entry_count", "entry_ids", "entry_logprobs", "tail_logprob"), strict=True):
            assert values.tolist() == [x for s in order for x in written[s][name]]
    for name in ("prompt_ids", "response_ids"):
        assert [packed.ids(name, s) for s in range(5)] == [w[name] for w in written]


@pytest.mark.parametrize("v", [3 * BLOCK // 100, BLOCK + 1])
def test_blocks_of_positions_give_the_same_bits(v: int) -> None:
    """Of a large vocabulary 33 positions are encoded at once, or one."""
    n = 3 * max(1, BLOCK // v) - 1
    logits, taken = random(n, v, 4.0)
    together = encode(logits, taken, 0.001)
    pieces = [encode(logits[i : i + 1], taken[i : i + 1], 0.001) for i in range(n)]
    for whole, one in zip(together, joined(pieces), strict=True):
        assert (whole == one).all()


def likeliest(logits: torch.Tensor, taken: torch.Tensor, k: int) -> tuple[Any, Any]:
    """As an engine tells them: the token taken and the k likeliest, by falling probability, over all the ids."""
    logp = logits.double().log_softmax(-1)
    top = logp.topk(k)
    ids = torch.cat([taken[:, None], top.indices], 1)
    return ids.numpy(), torch.cat([logp.gather(1, taken[:, None]), top.values], 1).numpy()


@pytest.mark.parametrize(("v", "k", "padding"), [(30, 30, 0), (2000, 128, 0), (2000, 128, 10)])
@pytest.mark.parametrize("floor", [0.003, 0.02])
def test_targets_from_the_likeliest_ids(v: int, k: int, padding: int, floor: float) -> None:
    """Where these settle them they are the same; padding rows have next to no mass here."""
    logits, taken = random(60, v, 3.0)
    logits[:, v - padding :] = -20
    taken %= v - padding
    found = encode_likeliest(*likeliest(logits, taken, k), floor, v - padding, v)
    assert found is not None
    for ours, theirs in zip(found, encode(logits[:, : v - padding], taken, floor), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=2 * HALF, atol=1e-6)


def test_what_the_likeliest_ids_do_not_settle() -> None:
    logits, taken = random(9, 400, 1.0)
    p = logits.softmax(-1)
    k = int((p >= 0.004).sum(-1).max())
    assert encode_likeliest(*likeliest(logits, taken, k), 0.004, 400, 400) is None  # there may be one more
    assert encode_likeliest(*likeliest(logits, taken, k + 1), 0.004, 400, 400) is not None
    top = int(p[3].argmax())
    assert encode_likeliest(*likeliest(logits, taken % top, k + 1), 0.004, top, 400) is None  # it is a padding row


def test_little_is_left_of_one() -> None:
    """1 - sum is rounding then: the tail is what is seen of it, and at most what the others could have."""
    logits, taken = random(20, 500, 1.0)
    logits[:, 7] += 60
    ids, logp = likeliest(logits, taken, 100)
    for error in (-1e-6, 0.0, 1e-6):
        found = encode_likeliest(ids, logp + error, 0.001, 500, 500)
        assert found is not None
        truth = encode(logits, taken, 0.001).tail.astype(float)
        assert np.isfinite(found.tail).all()
        assert np.abs(found.tail.astype(float) - truth).max() < 2  # nats, of e^-55
