"""Does a challenger take the champion's place? The rule, on the paired differences of one run (method section 9)."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class PromotionDecision(NamedTuple):
    """``figures`` holds difference, low and high of the gain and of retention, as shares."""

    promote: bool
    reason: str
    figures: dict[str, dict[str, float]]


def decide(summary: Mapping[str, Any], arm: str, limit: float | None) -> PromotionDecision:
    """Promote only if the challenger is better for sure, and for sure forgets no more than it may.

    The 95% interval of the gain on the main benchmark, the recipe's first that does not measure retention, must lie
    above zero; that of the retention difference must lie above ``-limit``, all of it: a wide interval keeps the
    champion, and more problems make it narrower.

    Args:
        summary: ``summary.json`` of a run whose base is the champion.
        arm: the challenger.
        limit: percentage points of retention; None where forgetting does not matter.
    """
    main = [b["name"] for b in summary["benchmarks"] if not b["retention"]]
    paired = {c["metric"]: c for c in summary["comparisons"] if (c["a"], c["b"]) == (arm, "base")}
    gain = paired.get(main[0] if len(main) > 1 else "accuracy")
    retention = paired.get("retention")
    figures = {
        name: {key: c[key] for key in ("difference", "low", "high")}
        for name, c in ((main[0], gain), ("retention", retention))
        if c is not None
    }
    told = ", ".join(f"{name} {points(figure)}" for name, figure in figures.items())
    if gain is None or (limit is not None and retention is None):
        missing = main[0] if gain is None else "retention"
        return PromotionDecision(False, f"not to be judged: no paired difference on {missing}; {told}", figures)
    if not gain["low"] > 0:
        why = "worse" if gain["high"] < 0 else "not better for sure"
        return PromotionDecision(False, f"{why}: {told}", figures)
    if limit is not None and retention is not None and 100 * retention["low"] < -limit:
        return PromotionDecision(False, f"may forget more than the limit of {limit:g} points: {told}", figures)
    return PromotionDecision(True, told, figures)


def points(figure: Mapping[str, float]) -> str:
    """A difference with its interval, in percentage points."""
    return f"{100 * figure['difference']:+.1f} points [{100 * figure['low']:+.1f}, {100 * figure['high']:+.1f}]"
