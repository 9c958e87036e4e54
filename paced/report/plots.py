"""Pictures of a run, drawn from plain tables and numbers.

Each function returns a matplotlib Figure of its own (no pyplot, so drawing leaves no global state behind). ``colours``
gives every arm one colour in all pictures; names are shown as they are, never read as formulas.
"""

import base64
import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from paced.config.catalog import WEIGHTINGS
from paced.config.extensions import find
from paced.statistics import Array
from paced.weighting import beta_kernel

P = ParamSpec("P")
Curves = Mapping[str, Mapping[int, float]]
STAGES = {"forward": "stage 1: {} on the teacher's answers", "reverse": "stage 2: {} on own samples"}
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3ad",
    "axes.labelcolor": "#39424c",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "xtick.color": "#39424c",
    "ytick.color": "#39424c",
    "legend.frameon": False,
    "svg.hashsalt": "paced",  # ids that do not change from one drawing to the next
}
GREY = "#8a939d"
PALETTE = ("#0b6fb8", "#e07b00", "#0f9d76", "#c2417c", "#7a5cc2", "#8a5a2b", "#3fa7c9", "#b3a100", "#d0342c", "#4d4d4d")
VERDICTS = {"holds": "#0f9d76", "does not hold": "#d0342c", "undecided": GREY}
STEPS = {
    "prepare": "#c9ced4",
    "preflight": "#a3b18a",
    "rollouts": "#7fb3d9",
    "weights": "#e3c95f",
    "teacher": "#e07b00",
    "train_forward": "#0f9d76",
    "rescore": "#0b6fb8",
    "reweight": "#b3a100",
    "sample": "#c2417c",
    "train_reverse": "#7a5cc2",
    "diagnose": "#8a5a2b",
    "evaluate": "#8a939d",
    "compare": "#4d4d4d",
}


def colours(names: Sequence[str]) -> dict[str, str]:
    """One colour an arm, in order; the base student is grey."""
    arms = [name for name in names if name != "base"]
    return {"base": GREY} | {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(arms)}


def weighting(names: Iterable[str], name: str) -> str:
    """The colour of a weighting; one with exponents of its own takes the next of the palette."""
    if " " not in name:
        return find("weighting", name).colour
    others = [n for n in names if " " in n]
    return PALETTE[others.index(name) % len(PALETTE)]


def spelled(name: str) -> str:
    """What a weighting is called in a legend: its label, and its exponents if it has any of its own."""
    scheme, *exponents = name.split()
    return plain(" ".join([find("weighting", scheme).label, *exponents]))


def plain(name: str) -> str:
    """A name that matplotlib shows as it is: no formula between dollar signs."""
    return name.replace("$", r"\$")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under STYLE and leave the settings of the process as they were."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inner


def canvas(height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of page width and this height in inches, with axes side by side."""
    figure = Figure(figsize=(9.5, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def rendered(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The figure as a file, the same bytes each time."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        # Once for all files: matplotlib would lay it out twice for each, which takes longer than to draw it.
        if engine := figure.get_layout_engine():
            engine.execute(figure)
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else {})
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The figure as a data URL."""
    return "data:image/svg+xml;base64," + base64.b64encode(rendered(figure, "svg")).decode()


def percent(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}%"))


@styled
def pass_rates(problems: Array, seeds: int, kernels: Mapping[str, tuple[Array, Array]]) -> Figure:
    """Histogram of pass rates with the weights over it.

    Args:
        problems: [G + 1] mean count of problems a seed, by pass rate k / G.
        seeds: how many the mean is over.
        kernels: scheme to (pass rates, weights before normalisation).
    """
    figure, (left,) = canvas(3.6)
    bins = len(problems) - 1
    rates = np.arange(bins + 1) / bins
    bars = left.bar(rates, problems, width=0.8 / bins, color="#cfdbe6")
    left.bar_label(bars, [f"{n:,.0f}" for n in problems], color="#6b7680", fontsize=9, padding=1)
    left.set(xlabel="pass rate of the base student", ylabel="problems" + (", mean of the seeds" if seeds > 1 else ""))
    left.set_xticks(rates, [f"{k}/{bins}" for k in range(bins + 1)])
    left.grid(axis="x", visible=False)
    right = left.twinx()
    right.spines["right"].set_visible(True)
    for scheme, (at, weight) in kernels.items():
        style = "--" if find("weighting", scheme.split()[0]).keeps_all else "-"
        right.plot(
            at, weight / (weight.max() or 1), style, color=weighting(kernels, scheme), linewidth=2.2,
            label=spelled(scheme),
        )  # fmt: skip
    right.set(ylim=(0, 1.12), ylabel="weight, as a share of its largest")
    right.grid(visible=False)
    left.set_ylim(0, 1.12 * max(problems))
    legend(figure, [right])
    return figure


@styled
def snr(found: Mapping[str, Any]) -> Figure:
    """SNR by pass rate with the fitted kernel, and the efficiency of weightings; ``found`` is diagnosis.json."""
    figure, (left, right) = canvas(3.6, 2)
    bins = found["bins"]
    points = [{"mean": b["snr"], "low": b["low"], "high": b["high"]} for b in bins]
    interval(left, np.array([b["pass_rate"] for b in bins]), points, "#0b6fb8", "measured")
    if fit := found["fit"]:
        p = np.linspace(0, 1, 201)
        alpha, beta = fit["alpha"]["mean"], fit["beta"]["mean"]
        kernel = fit["scale"] * beta_kernel(p, alpha, beta)
        left.plot(p, kernel, color=WEIGHTINGS["beta"].colour, label=f"fitted, alpha {alpha:.2f}, beta {beta:.2f}")
    left.set(xlabel="pass rate of the student", ylabel="SNR of a problem's gradient")
    left.set_ylim(bottom=0)
    for i, row in enumerate(found["efficiency"].values()):
        right.plot([row["low"], row["high"]], [i, i], color="#0b6fb8", linewidth=7, alpha=0.35, solid_capstyle="butt")
        right.plot(row["mean"], i, "o", color="#0b6fb8", markersize=6)
        beside(right, row["high"], i, f"{100 * row['mean']:.0f}")
    rows(right, [name.replace("_", " ") for name in found["efficiency"]])
    right.set_xlim(0, 1.1)
    percent(right.xaxis)
    right.set_xlabel("efficiency of a weighting")
    legend(figure, [left])
    return figure


@styled
def weight_mass(mass: Mapping[str, Array]) -> Figure:
    """Share of all weight that lies at each pass rate; ``mass`` maps a scheme to [G + 1] shares that sum to 1."""
    figure, (axes,) = canvas(3.2)
    width = 0.8 / max(len(mass), 1)
    bins = 0
    for i, (scheme, share) in enumerate(mass.items()):
        bins = len(share) - 1
        axes.bar(
            np.arange(bins + 1) + (i + 0.5) * width - 0.4, share, width, label=spelled(scheme),
            color=weighting(mass, scheme),
        )  # fmt: skip
    axes.set_xticks(range(bins + 1), [f"{k}/{bins}" for k in range(bins + 1)])
    axes.set(xlabel="pass rate of the base student", ylabel="share of the weight")
    percent(axes.yaxis)
    axes.grid(axis="x", visible=False)
    legend(figure, [axes])
    return figure


@styled
def losses(
    curves: Mapping[str, Sequence[Curves]], chosen: Mapping[str, str | None], paint: Mapping[str, str]
) -> Figure:
    """Divergence a token by step, one panel a stage; a thin line a seed and, over them, their mean smoothed over five
    steps, where there are so many.

    Args:
        curves: arm to one entry a seed, which maps a stage (forward, reverse) to {step: divergence a token}.
        chosen: arm to its loss; None if it is its stage's, forward or reverse KL.
        paint: arm to colour.
    """
    seeds = [seed for arm in curves.values() for seed in arm]
    stages = [stage for stage in ("forward", "reverse") if any(stage in seed for seed in seeds)]
    change = {min(seed["reverse"]) for seed in seeds if "forward" in seed and "reverse" in seed}
    figure, panels = canvas(3.6, max(len(stages), 1))
    for arm in curves:
        panels[0].plot([], [], color=paint[arm], linewidth=1.8, label=plain(arm))
    for axes, stage in zip(panels, stages, strict=False):
        for arm, of_arm in curves.items():
            lines = [seed[stage] for seed in of_arm if stage in seed]
            for line in lines:
                axes.plot(list(line), list(line.values()), color=paint[arm], linewidth=0.6, alpha=0.45)
            if lines:
                steps = sorted(set().union(*lines))
                mean = [np.mean([line[step] for line in lines if step in line]) for step in steps]
                reach = 2 if len(mean) > 4 else 0
                smooth = [np.mean(mean[max(i - reach, 0) : i + reach + 1]) for i in range(len(mean))]
                axes.plot(steps, smooth, color=paint[arm], linewidth=1.8, marker="" if reach else "o", markersize=4)
        here = [arm for arm, of_arm in curves.items() if any(stage in seed for seed in of_arm)]
        named = ", ".join(dict.fromkeys(plain(find("loss", chosen[arm] or f"{stage}_kl").label) for arm in here))
        axes.set_title(STAGES[stage].format(named), fontsize=10, loc="left", color="#39424c")
        axes.set(xlabel="optimizer step of the arm", ylabel="divergence a token, nats")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if all(value > 0 for seed in seeds for value in seed.get(stage, {}).values()):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        for step in change:
            axes.axvline(step - 0.5, color="#39424c", linewidth=1, linestyle=":")
            axes.annotate(
                "change of stage", (step - 0.5, 1), xytext=(-3, 0), xycoords=("data", "axes fraction"),
                textcoords="offset points", rotation=90, fontsize=8, va="top", ha="right", color="#39424c",
            )  # fmt: skip
    legend(figure, panels)
    return figure


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, above them, each name once."""
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        columns = min(len(handles), 6)
        figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=columns, fontsize=9)


@styled
def levels(scores: Mapping[str, Mapping[str, Mapping[str, float]]], paint: Mapping[str, str]) -> Figure:
    """Accuracy by group with intervals; ``scores`` maps an arm to {group: {mean, low, high}}."""
    figure, (axes,) = canvas(3.8)
    groups = list(dict.fromkeys(group for row in scores.values() for group in row))
    for i, (arm, row) in enumerate(scores.items()):
        have = [g for g in groups if g in row]
        at = np.array([groups.index(g) for g in have]) + (i - (len(scores) - 1) / 2) * 0.75 / len(scores)
        interval(axes, at, [row[g] for g in have], paint[arm], plain(arm))
    for edge in range(1, len(groups)):
        axes.axvline(edge - 0.5, color="#e6e9ed", linewidth=1)
    axes.set_xticks(range(len(groups)), groups)
    axes.set(xlim=(-0.5, len(groups) - 0.5), ylabel="accuracy")
    axes.grid(axis="x", visible=False)
    percent(axes.yaxis)
    legend(figure, [axes])
    return figure


def interval(axes: Axes, at: Array, rows: Sequence[Mapping[str, float]], colour: str, label: str) -> None:
    """Means with their intervals as vertical bars."""
    mean = np.array([r["mean"] for r in rows])
    half = np.abs([[r["mean"] - r["low"] for r in rows], [r["high"] - r["mean"] for r in rows]])
    axes.errorbar(at, mean, half, fmt="o", markersize=4.5, elinewidth=1.8, color=colour, label=label)


@styled
def by_arm(scores: Mapping[str, Mapping[str, float]], paint: Mapping[str, str], label: str) -> Figure:
    """One interval an arm, against the base student's; ``scores`` maps an arm to {mean, low, high}."""
    figure, (axes,) = canvas(0.9 + 0.36 * len(scores))
    for i, (arm, row) in enumerate(scores.items()):
        axes.plot([row["low"], row["high"]], [i, i], color=paint[arm], linewidth=7, alpha=0.35, solid_capstyle="butt")
        axes.plot(row["mean"], i, "o", color=paint[arm], markersize=6)
        beside(axes, row["high"], i, f"{100 * row['mean']:.1f}")
    if "base" in scores:
        axes.axvline(scores["base"]["mean"], color=GREY, linestyle=":", linewidth=1.2)
    axes.margins(x=0.08)
    rows(axes, list(scores))
    percent(axes.xaxis)
    axes.set_xlabel(label)
    return figure


@styled
def claims(found: Sequence[Mapping[str, Any]]) -> Figure:
    """Paired differences with their intervals, one a claim: {label, difference, low, high, above, verdict}."""
    figure, (axes,) = canvas(0.9 + 0.36 * len(found))
    for i, row in enumerate(found):
        colour = VERDICTS[row["verdict"]]
        axes.plot([100 * row["low"], 100 * row["high"]], [i, i], color=colour, linewidth=7, alpha=0.35)
        axes.plot(100 * row["difference"], i, "o", color=colour, markersize=6)
        axes.plot([100 * row["above"]] * 2, [i - 0.4, i + 0.4], color="#39424c", linewidth=1.2)
        beside(axes, 100 * row["high"], i, row["verdict"])
    axes.margins(x=0.15)
    rows(axes, [row["label"] for row in found])
    axes.set_xlabel("difference, percentage points, with its 95% interval; the line is what the claim says it is above")
    return figure


def beside(axes: Axes, x: float, y: float, text: str) -> None:
    """Text to the right of a point."""
    axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)


def rows(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left side, the first at the top."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


@styled
def teacher_tokens(spent: Mapping[str, float], saved: Mapping[str, float], paint: Mapping[str, str]) -> Figure:
    """Tokens the teacher generated a seed for each arm, and beside them what ``saved`` (a share) came to."""
    figure, (axes,) = canvas(0.9 + 0.36 * len(spent))
    for i, (arm, tokens) in enumerate(spent.items()):
        share = saved.get(arm, 0.0)
        whole = tokens / (1 - share) if share < 1 else tokens
        axes.barh(i, tokens, 0.6, color=paint[arm])
        axes.barh(
            i, max(whole - tokens, 0), 0.6, tokens, facecolor="none", edgecolor=paint[arm], hatch="////", linewidth=0
        )
        text = f"{tokens:,.0f}" + (f"  ({100 * share:.0f}% saved)" if share > 0.005 else "")
        beside(axes, max(whole, tokens), i, text)
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
    rows(axes, list(spent))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel("tokens generated by the teacher, a seed")
    return figure


@styled
def seconds(costs: Mapping[str, Mapping[str, float]]) -> Figure:
    """Seconds a seed, stacked by step; ``costs`` maps a row (an arm, or what all share) to {step: seconds}."""
    figure, (axes,) = canvas(1.1 + 0.36 * len(costs))
    for i, row in enumerate(costs.values()):
        start = 0.0
        for step in STEPS:
            if step in row:
                axes.barh(i, row[step], 0.6, start, color=STEPS[step])
                start += row[step]
        beside(axes, start, i, f"{start:,.0f} s")
    for step in [s for s in STEPS if any(s in row for row in costs.values())]:
        axes.barh(0, 0, color=STEPS[step], label=step.replace("_", " "))
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    rows(axes, list(costs))
    axes.set_xlabel("seconds, mean of the seeds")
    legend(figure, [axes])
    return figure
