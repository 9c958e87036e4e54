"""Weights: the kernel, shrinkage, normalisation and intervals against closed forms; the stage on small tables."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from paced import stage
from paced.config import Weights
from paced.config.stages import WeightsConfig
from paced.errors import DataError
from paced.stage import Spec, execute
from paced.storage.artifacts import Ref, commit, describe
from paced.storage.store import write_table
from paced.storage.tables import ROLLOUTS
from paced.weighting import (
    beta_kernel,
    effective_sample_size,
    normalised,
    raw_weights,
    shrunk_kernel,
    wilson,
    with_floor,
)

RATES = np.arange(9) / 8


def config(scheme: str = "beta", **weights: Any) -> WeightsConfig:
    return WeightsConfig.model_validate({"scheme": scheme, "weights": weights})


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (2, 1), (0.5, 3), (1, 0), (0, 1), (0, 0)])
def test_kernel(alpha: float, beta: float) -> None:
    found = beta_kernel(RATES, alpha, beta)
    for p, w in zip(RATES.tolist(), found.tolist(), strict=True):
        assert w == pytest.approx(p**alpha * (1 - p) ** beta, abs=1e-15)  # Python's own 0.0**0 is 1
    assert found[0] == (alpha == 0)
    assert found[-1] == (beta == 0)
    if alpha + beta:
        fine = np.linspace(0, 1, 10_001)
        assert fine[beta_kernel(fine, alpha, beta).argmax()] == pytest.approx(alpha / (alpha + beta), abs=1e-4)


def test_kernel_by_hand() -> None:
    # p (1 - p) at 0, 1/4, 1/2, 1: 0, 3/16, 1/4, 0. Mean 1 over the two kept: * 2 / (7/16); over all four: * 4 / (7/16).
    raw = raw_weights(np.array([0.0, 2, 4, 8]), np.array([8.0, 6, 4, 0]), config())
    assert raw.tolist() == [0, 3 / 16, 1 / 4, 0]
    assert normalised(raw, "kept").tolist() == pytest.approx([0, 6 / 7, 8 / 7, 0])
    assert normalised(raw, "all").tolist() == pytest.approx([0, 12 / 7, 16 / 7, 0])
    # (14/7)^2 / ((36 + 64) / 49) = 1.96, whatever the scale
    assert effective_sample_size(raw) == pytest.approx(1.96) == effective_sample_size(normalised(raw, "all"))


def test_a_floor_by_hand() -> None:
    # p (1 - p) at 0, 1/4, 1/2, 1 has mean 1 as 0, 12/7, 16/7, 0; the last problem has no verdict, and gets nothing.
    raw, known = np.array([0, 3 / 16, 1 / 4, 0, 0]), np.array([True, True, True, True, False])
    wanted = [0.2, 0.2 + 0.8 * 12 / 7, 0.2 + 0.8 * 16 / 7, 0.2, 0]
    for scale in (1.0, 7.0):  # that of the kernel does not matter
        found = with_floor(scale * raw, known, 0.2)
        assert found.sum() == pytest.approx(scale * raw.sum())
        assert normalised(found, "kept").tolist() == pytest.approx(wanted)
    assert with_floor(raw, known, 0.0).tolist() == raw.tolist()
    assert normalised(with_floor(raw, known, 0.2), "all").tolist() == pytest.approx([5 / 4 * w for w in wanted])


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (2, 0.5), (0, 0), (0, 3)])
@pytest.mark.parametrize("prior", [(0.5, 0.5), (1, 1), (2, 5)])
def test_shrinkage_is_the_posterior_expectation(prior: tuple[float, float], alpha: float, beta: float) -> None:
    correct, wrong = np.array([0.0, 0, 3, 8, 40]), np.array([0.0, 8, 5, 0, 2])
    # p = sin^2 t turns p^(a-1) (1-p)^(b-1) dp into 2 sin^(2a-1) cos^(2b-1) dt, smooth for a, b >= 1/2.
    t = (np.arange(200_000) + 0.5) * (math.pi / 2) / 200_000
    for x, y, found in zip(correct, wrong, shrunk_kernel(correct, wrong, alpha, beta, prior), strict=True):
        posterior = np.sin(t) ** (2 * (x + prior[0]) - 1) * np.cos(t) ** (2 * (y + prior[1]) - 1)
        kernel = np.sin(t) ** (2 * alpha) * np.cos(t) ** (2 * beta)
        assert found == pytest.approx((posterior * kernel).sum() / posterior.sum(), rel=1e-5)
    if alpha and beta:
        assert (shrunk_kernel(np.array([0.0, 8]), np.array([8.0, 0]), alpha, beta, prior) > 0).all()


def test_mean_one_and_effective_sample_size() -> None:
    raw = np.random.default_rng(0).random(50) * (np.arange(50) % 3 > 0)
    kept, all_ = normalised(raw, "kept"), normalised(raw, "all")
    assert kept[kept > 0].mean() == pytest.approx(1)
    assert all_.mean() == pytest.approx(1)
    assert np.allclose(kept * raw[1], raw * kept[1])
    assert effective_sample_size(np.ones(7)) == 7
    assert effective_sample_size(np.array([0.0, 5, 0])) == 1


def test_wilson() -> None:
    low, high = wilson(np.array([0.0, 4, 8, 0]), np.array([8.0, 8, 8, 0]))
    assert low == pytest.approx([0, 0.2152, 0.6756, 0], abs=5e-5)
    assert high == pytest.approx([0.3244, 0.7848, 1, 1], abs=5e-5)
    correct, n = np.arange(31.0), 30.0
    for ends in wilson(correct, np.full(31, n)):  # an end p is where (p_hat - p)^2 = z^2 p (1 - p) / n
        assert np.allclose((correct / n - ends) ** 2, 1.959963984540054**2 * ends * (1 - ends) / n, atol=1e-15)


def test_hard_filter_keeps_its_ends() -> None:
    correct = np.array([0.0, 1, 2, 4, 5])
    assert raw_weights(correct, 5 - correct, config("hard_filter")).tolist() == [0, 1, 1, 1, 0]
    assert raw_weights(correct, 5 - correct, config("uniform")).tolist() == [1] * 5


def run(home: Path, verdicts: Mapping[str, str], config: WeightsConfig) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run the stage on a hand-made rollouts artifact: problem -> verdicts, c, w, u, or t (cut by the limit)."""
    import pyarrow as pa

    names = {"c": "correct", "w": "wrong", "u": "unknown", "t": "wrong"}
    rows = [
        {
            "problem_id": problem,
            "sample_index": i,
            "sample_key": hashlib.sha256(f"{problem} {i}".encode()).hexdigest(),
            "verdict": names[v],
            "finish": {"u": "error", "t": "length"}.get(v, "stop"),
        }
        for problem, text in verdicts.items()
        for i, v in enumerate(text)
    ]
    folder = home / "rollouts"
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "rollouts.parquet", pa.Table.from_pylist(rows, schema=ROLLOUTS))
    ref: Ref = commit(
        folder, kind="rollouts", identity=f"sha256:{len(verdicts)}", inputs={}, config={}, algorithm=1, counts={},
        files=[describe(folder / "rollouts.parquet")], seconds=0,
    )  # fmt: skip
    done = execute(Spec(stage="weights", home=str(home), config=config.model_dump(), inputs={"rollouts": ref}))
    return pd.read_parquet(done.folder / "pass_rates.parquet"), json.loads((done.folder / "weights.json").read_text())


def test_unknown_is_never_wrong(tmp_path: Path) -> None:
    table, summary = run(tmp_path, {"z": "ccwu", "a": "uuuu", "m": "wwww", "k": "tcuu", "b": "cccc"}, config())
    table = table.set_index("problem_id")
    assert list(table.index) == ["z", "a", "m", "k", "b"]  # the order of the rollouts
    assert table.loc["z", ["correct", "wrong", "unknown", "samples"]].tolist() == [2, 1, 1, 4]
    assert table.loc["k", ["correct", "wrong", "unknown", "truncated"]].tolist() == [1, 1, 2, 1]
    assert table["pass_rate"].tolist() == pytest.approx([2 / 3, math.nan, 0, 1 / 2, 1], nan_ok=True)
    raw = [2 / 9, 0, 0, 1 / 4, 0]
    assert table["raw_weight"].tolist() == pytest.approx(raw)
    assert table["weight"].tolist() == pytest.approx([w * 2 / sum(raw) for w in raw])
    assert table.loc["a", ["low", "high"]].tolist() == [0, 1]
    assert (summary["kept"], summary["without_verdict"], summary["problems"]) == (2, 1, 5)
    assert summary["mean_pass_rate"] == pytest.approx((2 / 3 + 0 + 1 / 2 + 1) / 4)


def test_what_is_hopeless_has_its_part_of_a_floor(tmp_path: Path) -> None:
    """The column of the kernel stays as it is; all that is known is kept, and costs the teacher an answer."""
    table, summary = run(tmp_path, {"a": "cw", "b": "ww", "c": "cc", "d": "uu"}, config(floor=0.3))
    assert table["raw_weight"].tolist() == [1 / 4, 0, 0, 0]
    assert table["weight"].tolist() == pytest.approx([0.3 + 0.7 * 3, 0.3, 0.3, 0])
    assert summary["kept"] == 3


def test_reversed_verdicts(tmp_path: Path) -> None:
    """As many as the share says, the same each time, those of a small share among those of a larger; no unknown."""
    verdicts = {f"{kind}{i}": kind * 16 for i in range(100) for kind in "cwu"}
    tables = {
        share: run(tmp_path / str(share), verdicts, config(beta=0).model_copy(update={"verdict_noise": share}))[0]
        for share in (0.0, 0.02, 0.05, 1.0)
    }
    plain = tables[0.0]
    for share, table in tables.items():
        turned = np.where(table["problem_id"].str[0] == "c", table["wrong"], table["correct"])
        assert (table["unknown"] == plain["unknown"]).all() and table["truncated"].sum() == 0
        assert (table["correct"] + table["wrong"] == plain["correct"] + plain["wrong"]).all()
        assert turned.sum() == pytest.approx(3200 * share, abs=4 * math.sqrt(3200 * share * (1 - share)))
        tables[share] = table.assign(turned=turned)
    assert (tables[0.02]["turned"] <= tables[0.05]["turned"]).all()
    assert (tables[1.0]["correct"] == plain["wrong"]).all()
    # At 5%, a problem that is never solved seems to be with probability 1 - 0.95^16 = 0.56, and then has weight.
    hopeless = tables[0.05][plain["correct"].eq(0) & plain["wrong"].gt(0)]
    assert (hopeless["weight"] > 0).mean() == pytest.approx(0.56, abs=0.2)
    again = run(tmp_path / "again", verdicts, config(beta=0).model_copy(update={"verdict_noise": 0.05}))[0]
    assert again.equals(tables[0.05].drop(columns="turned"))


def test_problems_that_stand_in_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = {"a": "cwcwu", "b": "c", "c": "wwt", "d": "ccccccw"}
    whole = run(tmp_path / "whole", verdicts, config())
    monkeypatch.setattr(stage, "ROW_GROUP", 3)
    parts = run(tmp_path / "parts", verdicts, config())
    assert parts[0].equals(whole[0])
    assert parts[1] == whole[1]


@pytest.mark.parametrize("weights", [{}, {"shrinkage": (1, 1)}, {"alpha": 0, "beta": 0}, {"floor": 0.5}])
def test_no_verdict_no_weight(tmp_path: Path, weights: dict[str, Any]) -> None:
    table, _ = run(tmp_path, {"known": "cw", "not": "uu"}, config(**weights))
    assert table["weight"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("verdicts", "scheme", "weights", "says"),
    [
        ({"a": "wwww", "b": "wtww"}, "beta", {}, ["2 at 0", "never succeeds", "weights.shrinkage"]),
        ({"a": "cccc", "b": "ccuu"}, "beta", {}, ["2 at 1", "always succeeds", "harder"]),
        ({"a": "cccc", "b": "wwww"}, "beta", {}, ["1 at 0, 1 at 1", "rollouts.samples"]),
        ({"a": "cccc", "b": "cccw"}, "hard_filter", {"low": 0.2, "high": 0.7}, ["1 at 0.75, 1 at 1", "weights.low"]),
        ({"a": "uuuu"}, "beta", {}, ["no problem has a known verdict", "verifier"]),
        ({"a": "uuuu"}, "uniform", {}, ["no problem has a known verdict"]),
    ],
)
def test_all_zero(
    tmp_path: Path, verdicts: dict[str, str], scheme: str, weights: dict[str, Any], says: list[str]
) -> None:
    with pytest.raises(DataError) as error:
        run(tmp_path, verdicts, config(scheme, **weights))
    assert all(part in str(error.value) for part in says)
    assert "\n" not in str(error.value)


def test_config_is_checked() -> None:
    assert Weights().shrinkage is None
    for bad in (
        {"alpha": -1},
        {"beta": math.nan},
        {"alpha": math.inf},
        {"low": 0.9, "high": 0.1},
        {"shrinkage": (0, 1)},
        {"floor": 1},
    ):
        with pytest.raises(ValueError, match="validation error"):
            config(**bad)
