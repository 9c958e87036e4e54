"""A picture of how new problems differ from those before."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paced.evaluation.drift import KINDS, ORDERED, Distance, ProblemProfile, shares
from paced.report.plots import GREY, PALETTE, styled

NAMES = {"new": PALETTE[0], "before": GREY}


@styled
def picture_of_drift(new: ProblemProfile, before: ProblemProfile, found: dict[str, Distance]) -> Figure:
    """A panel for each kind: cumulative shares of lengths and pass rates, bars of the others."""
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    axes: Any = figure.subplots(2, 2)
    for axis, kind in zip(axes.flat, KINDS, strict=True):
        if kind not in found:
            axis.set_axis_off()
            continue
        values, counts = shares(kind, new.counts[kind], before.counts[kind])
        part = [c / c.sum() for c in counts]
        for number, (own, name) in enumerate(zip(part, NAMES, strict=True)):
            label = f"{name}, {(new if name == 'new' else before).problems:,} problems"
            if kind in ORDERED:
                axis.step(np.array(values, float), own.cumsum(), where="post", color=NAMES[name], label=label)
            else:
                axis.bar(np.arange(len(values)) + 0.4 * number - 0.2, own, 0.4, color=NAMES[name], label=label)
        if kind not in ORDERED:
            axis.set_xticks(range(len(values)), values)
        unit = " of the question, characters" if kind == "length" else " of the champion" if kind == "pass rate" else ""
        axis.set_xlabel(kind + unit)
        axis.set_ylabel("cumulative share" if kind in ORDERED else "share of problems")
        distance = found[kind]
        axis.set_title(f"distance {distance.value:.2f}, by chance up to {distance.chance:.2f}", fontsize=9, loc="left")
    axes.flat[0].legend(fontsize=8)
    return figure
