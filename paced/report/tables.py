"""A run's summary as plain text for the terminal and as Markdown, and the cells that the HTML page shares with it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from paced.evaluation.compare import is_base
from paced.report import diagnosis
from paced.statistics import holm, p_value

WRONG = 0.05  # chance that any of the words of a table of differences is
TOKENS = ("teacher_tokens", "sampled_tokens", "train_tokens")


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference of two accuracies, in percentage points."""
    return f"{100 * value:+.1f}"


def amount(value: float) -> str:
    """A count in three figures: 940, 34.1 k, 1.20 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:#.3g}".rstrip(".") + f" {unit}"
    return f"{value:.0f}"


def verdicts(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each difference a - b says about a, all of them together (paced.statistics.holm)."""
    p_values = holm([p_value(c["difference"], c["low"], c["high"]) for c in comparisons])
    return [
        "undecided" if p >= WRONG else "better" if c["difference"] > 0 else "worse"
        for p, c in zip(p_values, comparisons, strict=True)
    ]


def trains(arms: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the run trains students, or only judges a model that was made elsewhere."""
    return any("schedule" in arm for arm in arms.values())


def level_names(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return sorted({level for arm in arms.values() for level in arm.get("by_level", {})}, key=int)


class Table(NamedTuple):
    """Rows of equal length, the first of them the heading, which may be empty; columns of text are to the left."""

    title: str
    rows: Sequence[Sequence[str]]
    left: Sequence[int] = (0,)


def table(summary: Mapping[str, Any]) -> str:
    """The results as aligned plain text: accuracies in %, costs a seed, then the comparisons."""
    blocks = [
        f"{t.title}\n{aligned(t.rows if any(t.rows[0]) else t.rows[1:], t.left)}".lstrip("\n") for t in tables(summary)
    ]
    return "\n\n".join([*blocks, *(f"WARNING: {line}" for line in remarks(summary))])


def markdown(summary: Mapping[str, Any]) -> str:
    """The same as Markdown."""
    blocks = [f"### {t.title or 'accuracy and retention, %'}\n\n{piped(t.rows, t.left)}" for t in tables(summary)]
    return "\n\n".join([*blocks, *(f"**Warning:** {line}" for line in remarks(summary))])


def headline(summary: Mapping[str, Any]) -> str:
    """The last arm, which is the one registered, in a line: its accuracy in %, the points it has gained on the base."""
    arm = list(summary["arms"])[-1]
    score = summary["arms"][arm].get("accuracy")
    if not score:
        return ""
    mean, low, high = (percent(score[key]) for key in ("mean", "low", "high"))
    found = [c for c in summary["comparisons"] if (c["a"], c["metric"]) == (arm, "accuracy") and is_base(c["b"])]
    gained = f", {points(found[0]['difference'])} points on {found[0]['b']} {bracket(found[0])}" if found else ""
    return f"{arm}: accuracy {mean}% [{low}, {high}]{gained}"


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """The results: scores, benchmarks where there are several, costs and paired differences; or the diagnosis."""
    if "diagnosis" in summary:
        found = diagnosis.tables(summary["diagnosis"])
        return [Table(title, [heading, *rows]) for title, heading, rows in found]
    arms: Mapping[str, Mapping[str, Any]] = summary["arms"]
    levels = level_names(arms)
    scores = [["arm", "accuracy", "95%", *(f"level {level}" for level in levels), "retention", "95%"]]
    costs = [["arm", "teacher tokens", "", "sampled tokens", "trained tokens", "seconds"]]
    for name, arm in arms.items():
        by_level = [mean_and_range(arm.get("by_level", {}).get(level))[0] for level in levels]
        scores.append([name, *mean_and_range(arm.get("accuracy")), *by_level, *mean_and_range(arm.get("retention"))])
        tokens = [amount(arm[key]) if key in arm else "-" for key in TOKENS]
        tokens.insert(1, f"{-100 * arm['teacher_tokens_saved']:+.0f}%" if arm.get("teacher_tokens_saved") else "")
        costs.append([name, *tokens, f"{arm['seconds']:.0f}" if "seconds" in arm else "-"])
    found = [Table("", scores), *benchmark_table(summary)]
    if trains(arms):
        found.append(Table("what a student cost, mean of the seeds", costs))
    if summary["comparisons"]:
        rows = [
            [f"{c['a']} - {c['b']}", c["metric"], points(c["difference"]), bracket(c), word]
            for c, word in zip(summary["comparisons"], verdicts(summary["comparisons"]), strict=True)
        ]
        title = "paired differences, percentage points, each with its 95% interval"
        found.append(Table(f"{title}; the words hold for all {len(rows)} together", [[""] * 5, *rows], (0, 1, 4)))
    return found


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What there is to warn of."""
    if "diagnosis" in summary or any("accuracy" in arm for arm in summary["arms"].values()):
        return list(summary.get("warnings", ()))
    missing = f"no scores: the comparison is missing (run {summary['name']}: {summary['status']})"
    return [*summary["warnings"], missing]


def benchmark_table(summary: Mapping[str, Any]) -> list[Table]:
    """Arms in rows, benchmarks in columns, as papers print it; nothing where there is only one benchmark to show."""
    columns = benchmark_columns(summary)
    if not columns:
        return []
    rows = [["arm", *(cell for heading in columns.values() for cell in (heading, "95%"))]]
    for name in summary["arms"]:
        cells = benchmark_cells(summary, name)
        rows.append([name, *(cell for key in columns for cell in mean_and_range(cells[key]))])
    return [Table("by benchmark, %; forgetting is what retention lost against the base, lower is better", rows)]


def benchmark_columns(summary: Mapping[str, Any]) -> dict[str, str]:
    """Heading by benchmark, ``math500 avg@4``, and of ``forgetting``; empty with fewer than two skills to show."""
    skills = [b["name"] for b in summary.get("benchmarks", ()) if not b["retention"]]
    base = next((a["by_benchmark"] for a in summary["arms"].values() if "by_benchmark" in a), None)
    if len(skills) < 2 or base is None:
        return {}
    headings = {name: f"{name} avg@{base[name]['k']}" for name in skills}
    return headings | ({"forgetting": "forgetting"} if len(summary["benchmarks"]) > len(skills) else {})


def benchmark_cells(summary: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """An arm's score by column; forgetting with the interval of the paired difference, turned round."""
    lost = [c for c in summary["comparisons"] if (c["a"], c["metric"]) == (arm, "retention") and is_base(c["b"])]
    forgetting = [{"mean": -c["difference"], "low": -c["high"], "high": -c["low"]} for c in lost]
    scores: Mapping[str, Any] = summary["arms"][arm].get("by_benchmark", {})
    found = {key: scores.get(key) for key in benchmark_columns(summary)}
    return found | ({"forgetting": forgetting[0] if forgetting else None} if "forgetting" in found else {})


def bracket(comparison: Mapping[str, Any]) -> str:
    return f"[{points(comparison['low'])}, {points(comparison['high'])}]"


def mean_and_range(score: Mapping[str, float] | None) -> list[str]:
    return [percent(score["mean"]), f"{percent(score['low'])}-{percent(score['high'])}"] if score else ["-", ""]


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Columns padded to their widest cell, text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def piped(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A table in Markdown, whose first row is the heading."""
    head, *body = rows
    rule = ["---" if i in left else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (head, rule, *body))
