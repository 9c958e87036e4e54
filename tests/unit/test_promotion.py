"""When a challenger takes the champion's place: at one look, and over a year of looks."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.gate import RULES, SETTINGS, Models, forgetting, low, no_gain, recorded
from paced.config import Retraining
from paced.evaluation.promotion import Look, better, decide, look, retains
from paced.statistics import Array, t_interval, t_quantile

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
AT_95 = Look(1, 0.025)


def differences(mean: float, reach: float, problems: int = 400) -> Array:
    """Differences on problems whose interval at 95% is ``mean`` plus and minus ``reach``."""
    deviation = reach * math.sqrt(problems - 1) / stats.t.ppf(0.975, problems - 1)
    return mean + deviation * np.tile([-1.0, 1.0], problems // 2)


@pytest.mark.parametrize(
    ("gain", "retention", "limit", "promoted", "says"),
    [
        ((0.05, 0.04), (0.0, 0.019), 2.0, True,
         "first +5.0 points [+1.0, +9.0] at 95%, retention +0.0 points [-1.9, +1.9] at 95%; look 1"),
        ((0.05, 0.04), (0.0, 0.021), 2.0, False, "may forget more than the limit of 2 points: first +5.0"),
        ((0.05, 0.04), (-0.05, 0.01), 2.0, False, "forgets more than the limit of 2 points: first +5.0"),
        ((0.05, 0.04), (-0.5, 0.1), None, True, "first +5.0 points [+1.0, +9.0] at 95%; look 1"),
        ((0.01, 0.04), (0.0, 0.0), 2.0, False, "not better for sure: first +1.0 points [-3.0, +5.0]"),
        ((0.0, 0.0), (0.0, 0.0), 2.0, False, "not better for sure: first +0.0 points [+0.0, +0.0]"),
        ((-0.05, 0.04), (0.0, 0.0), 2.0, False, "worse: first -5.0 points [-9.0, -1.0]"),
    ],
)  # fmt: skip
def test_the_rule(
    gain: tuple[float, float], retention: tuple[float, float], limit: float | None, promoted: bool, says: str
) -> None:
    conditions = [better("first", differences(*gain), AT_95)]
    if limit is not None:
        conditions.append(retains("retention", differences(*retention), limit, 0.025))
    decision = decide(conditions, AT_95)
    assert decision.promote is promoted
    assert decision.reason.startswith(says)


def test_without_a_verdict_nothing_is_judged() -> None:
    unknown = retains("retention", np.array([]), 2, 0.025)
    decision = decide([better("first", differences(0.05, 0.04), AT_95), unknown], AT_95)
    assert not decision.promote
    assert decision.reason.startswith("not to be judged: no paired difference on retention: first +5.0")


def test_what_adds_up_is_refused_although_each_step_is_small() -> None:
    """A challenger a point below its champion, which is 3.5 below the first student: 4 in all are allowed."""
    step, all_of_it = differences(-0.005, 0.01), differences(-0.035, 0.01)
    conditions = [
        better("first", differences(0.05, 0.04), AT_95),
        retains("retention", step, 2.0, 0.025),
        retains("retention since the first student", all_of_it, 4.0, 0.025),
    ]
    assert decide(conditions[:2], AT_95).promote
    decision = decide(conditions, AT_95)
    assert not decision.promote
    assert decision.reason.startswith("may forget more than the limit of 4 points: ")
    assert "retention since the first student -3.5 points [-4.5, -2.5] at 95%" in decision.reason


def test_later_looks_ask_for_more() -> None:
    """What would be promoted at the first look is not at the tenth; all looks together stay within the budget."""
    gain = differences(0.05, 0.035)  # 2.8 standard errors
    decided = [decide([better("first", gain, here)], here) for here in (look(1, 0.05), look(10, 0.05))]
    assert [d.promote for d in decided] == [True, False]
    assert decided[1].reason.endswith("; look 10")
    spent = [look(k, 0.05).outside for k in range(1, 100_000)]
    assert sum(spent[:8]) == pytest.approx(0.025)
    assert 0.0499 < sum(spent) < 0.05
    assert spent == sorted(spent, reverse=True)
    assert {look(k, None).outside for k in (1, 50)} == {0.025}


def test_students_quantile() -> None:
    for freedom, accuracy in ((10, 0.01), (50, 2e-3), (200, 5e-4), (2000, 1e-4)):
        for outside in (0.025, 0.005, 1e-3, 1e-4, 1e-5):
            assert t_quantile(outside, freedom) == pytest.approx(stats.t.isf(outside, freedom), rel=accuracy)
    values = np.random.default_rng(0).normal(0.1, 1, 300)
    found = stats.ttest_1samp(values, 0).confidence_interval(0.99)
    assert t_interval(values, 0.005) == pytest.approx((values.mean(), *found), abs=1e-4)
    assert low(values[None], np.array([0.005])) == pytest.approx([found[0]], abs=1e-4)


def test_a_year_without_gain() -> None:
    """The simulation of benchmarks/gate.py with fewer sequences: false promotions within the budget, which looks that
    are each judged by themselves exceed by far; forgetting within its limit.
    """
    rates = recorded()["arithmetic"]
    found = {rule: no_gain(rates, 300, 576, 4, level)["sequences with a promotion"] for rule, level in RULES.items()}
    assert found["budget"] <= 0.05
    assert found["each alone at 95%"] > 0.15
    year = forgetting(40, 2000, RULES["budget"], SETTINGS.total_forgetting_limit)
    assert year["sequences beyond 4 points"] <= 0.05
    assert year["promotions a year"] > 1
    assert forgetting(40, 2000, RULES["each alone at 95%"], None)["sequences beyond 4 points"] > 0.2


def test_simulated_students_have_the_accuracy_asked_for() -> None:
    for name, expected in (("arithmetic", 0.475), ("arithmetic", 0.8), ("sorting", 0.85)):
        models = Models(recorded()[name], 20, 4000, 4, np.random.default_rng(0))
        assert models.scores(np.full(20, expected)).mean() == pytest.approx(expected, abs=0.006)


def test_the_recorded_simulation() -> None:
    """What docs/retraining.md says of it: 1,000 sequences of 52 weeks."""
    measured = json.loads((BENCHMARKS / "gate.json").read_text())
    assert (measured["sequences"], measured["weeks"]) == (1000, 52)
    for rules in measured["results"]["no gain"].values():
        assert rules["budget"]["sequences with a promotion"] <= 0.05 < rules["each alone at 95%"]["promotions a year"]
    for rules in measured["results"]["1 point forgotten a promotion"].values():
        assert rules["budget"]["sequences beyond 4 points"] <= 0.05
        assert rules["each alone at 95%"]["sequences beyond 4 points"] > 0.05


def test_settings_of_older_releases_mean_what_they_did() -> None:
    old = Retraining.model_validate({"watch": "in", "forgetting_limit": 40})
    assert (old.forgetting_limit, old.total_forgetting_limit, old.false_promotions) == (40, 80, 0.05)
    assert Retraining.model_validate({"watch": "in", "forgetting_limit": None}).total_forgetting_limit is None
    with pytest.raises(ValueError, match="first has no effect without total_forgetting_limit"):
        Retraining.model_validate({"watch": "in", "forgetting_limit": None, "first": 2})
