"""When a challenger takes the champion's place."""

from typing import Any

import pytest

from paced.evaluation.promotion import decide

BETTER, EQUAL, WORSE = (0.05, 0.01, 0.09), (0.01, 0.0, 0.05), (-0.05, -0.09, -0.01)


def summary(gain: tuple[float, ...], retention: tuple[float, ...] | None, second: tuple[float, ...] = ()) -> Any:
    """A summary of arms base and new; with ``second`` there are two main benchmarks."""
    metrics = {"accuracy": gain} | ({"first": gain, "second": second, "accuracy": WORSE} if second else {})
    metrics |= {"retention": retention} if retention else {}
    names = ["first", *(["second"] if second else [])]
    return {
        "benchmarks": [{"name": "kept", "retention": True}, *({"name": n, "retention": False} for n in names)],
        "comparisons": [
            {"a": a, "b": b, "metric": m, "difference": sign * d, "low": sign * low, "high": sign * high}
            for a, b, sign in (("other", "base", -1), ("new", "other", -1), ("new", "base", 1))
            for m, (d, low, high) in metrics.items()
        ],
    }


@pytest.mark.parametrize(
    ("gain", "retention", "limit", "promoted", "says"),
    [
        (BETTER, (0.0, -0.019, 0.02), 2.0, True, "first +5.0 points [+1.0, +9.0], retention +0.0 points [-1.9, +2.0]"),
        (BETTER, (0.0, -0.021, 0.02), 2.0, False, "may forget more than the limit of 2 points: first +5.0"),
        (BETTER, (-0.5, -0.6, -0.4), None, True, "first +5.0 points"),
        (BETTER, None, None, True, "first +5.0 points [+1.0, +9.0]"),
        (BETTER, None, 2.0, False, "no paired difference on retention"),
        (EQUAL, (0.0, 0.0, 0.0), 2.0, False, "not better for sure: first +1.0 points [+0.0, +5.0]"),
        (WORSE, (0.0, 0.0, 0.0), 2.0, False, "worse: first -5.0 points [-9.0, -1.0]"),
    ],
)
def test_the_rule(gain: Any, retention: Any, limit: float | None, promoted: bool, says: str) -> None:
    decision = decide(summary(gain, retention), "new", limit)
    assert decision.promote is promoted
    assert says in decision.reason


def test_the_first_of_several_benchmarks_decides() -> None:
    assert decide(summary(BETTER, None, second=WORSE), "new", None).promote
    assert not decide(summary(WORSE, None, second=BETTER), "new", None).promote
