"""Which problems a step draws, how a step is split, and what each model reads."""

import itertools
import json
from typing import Any

import numpy as np
import pytest

from paced.batching import draws, micro_batches, systematic
from paced.data.prompts import messages_of
from paced.errors import DataError


@pytest.mark.parametrize("count", [1, 7, 32, 100])
def test_draws(count: int) -> None:
    whole = draws(count, 5, 0, 3 * count + 2)
    for epoch in range(3):  # every epoch holds every item once
        assert sorted(whole[epoch * count : (epoch + 1) * count]) == [(i, epoch) for i in range(count)]
    for batch in (1, 3, 8):  # a resumed run draws what the uninterrupted one would have drawn
        steps = [draws(count, 5, start, batch) for start in range(0, 3 * count, batch)]
        assert list(itertools.chain(*steps))[: 3 * count] == whole[: 3 * count]
    if count > 1:
        assert [i for i, _ in whole[:count]] != [i for i, _ in whole[count : 2 * count]]
        assert draws(count, 6, 0, count) != whole[:count]


def test_draws_by_weight() -> None:
    """As often as the weight says, up to rounding in each epoch and exactly in the mean; from any place on."""
    weights = np.array([0.1, 2.6, 1.0, 0.3, 3.0, 0.9, 0.7, 1.4, 0.5, 1.5])
    count, epochs = len(weights), 2000
    whole = draws(count, 5, 0, epochs * count, 7 * weights)
    items = np.array([item for item, _ in whole]).reshape(epochs, count)
    assert [epoch for _, epoch in whole] == [e for e in range(epochs) for _ in range(count)]
    expected = count * weights / weights.sum()
    each = np.stack([(items == i).sum(1) for i in range(count)])  # [item, epoch]
    assert ((each == np.floor(expected)[:, None]) | (each == np.ceil(expected)[:, None])).all()
    part = expected % 1
    assert (np.abs(each.mean(1) - expected) <= 4 * np.sqrt(part * (1 - part) / epochs) + 1e-12).all()
    first = np.bincount(items[:, 0], minlength=count) / epochs  # no place of an epoch is any item's own
    assert (np.abs(first - expected / count) <= 4 * np.sqrt(expected / count / epochs)).all()
    for batch in (1, 3, 8):  # a resumed run draws what the uninterrupted one would have drawn
        steps = [draws(count, 5, start, batch, 7 * weights) for start in range(0, 5 * count, batch)]
        assert list(itertools.chain(*steps))[: 5 * count] == whole[: 5 * count]
    assert draws(count, 6, 0, count, weights) != whole[:count]
    assert draws(7, 5, 3, 40, np.ones(7)) == draws(7, 5, 3, 40)


@pytest.mark.parametrize("offset", [0.0, 1e-300, 0.5, np.nextafter(1, 0)])
@pytest.mark.parametrize("weights", [[1.0], [0.1] * 10, [1e-12, 1.0, 1e9], [3.0, 1e-9]])
def test_each_draw_is_an_item(weights: list[float], offset: float) -> None:
    found = systematic(np.array(weights), offset)
    assert len(found) == len(weights)
    assert ((found >= 0) & (found < len(weights))).all()


@pytest.mark.parametrize("budget", [1, 50, 64, 10_000])
def test_micro_batches(budget: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 40).tolist()
    batches = list(micro_batches(lengths, budget))
    assert sorted(itertools.chain(*batches)) == list(range(40))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= budget for b in batches)
    fuller = [[*b, n[0]] for b, n in itertools.pairwise(batches)]
    assert all(len(b) * max(lengths[i] for i in b) > budget for b in fuller)
    assert list(micro_batches([], 10)) == []


def test_a_privileged_teacher_reads_the_solution() -> None:
    prompt = json.dumps([{"role": "system", "content": "S {x}"}, {"role": "user", "content": "Q {content} {0}"}])
    problem: dict[str, Any] = {"problem_id": "p", "question": "Q", "prompt": prompt, "solution": "R {solution} é"}
    assert messages_of(problem, False) == prompt
    system, user = json.loads(messages_of(problem, True))
    assert system["content"] == "S {x}"
    assert user["content"].startswith("Q {content} {0}\n")
    assert "\nR {solution} é\n" in user["content"]
    for nothing in (None, ""):
        with pytest.raises(DataError, match=r"problem p \('Q'\) has none"):
            messages_of(problem | {"solution": nothing}, True)
