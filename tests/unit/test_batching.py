"""Which problems a step draws, how a step is split, and what each model reads."""

import itertools
import json
from typing import Any

import numpy as np
import pytest

from paced.batching import draws, micro_batches
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
