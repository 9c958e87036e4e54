"""A run's summary as one HTML page without outside assets or scripts."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from paced.report import datasheet, diagnosis
from paced.report.lengths import EVALUATION
from paced.report.tables import (
    TOKENS,
    amount,
    benchmark_cells,
    benchmark_columns,
    level_names,
    percent,
    points,
    trains,
    verdicts,
)  # fmt: skip

PICTURES = {
    "pass_rates": (
        "Pass rates and weights",
        "Bars: how many training problems the base student solves k times out of G. Lines: what one problem of that "
        "pass rate weighs. Problems under the high part of a line are the ones that teach.",
    ),
    "snr": (
        "Signal by pass rate",
        "Left: signal-to-noise ratio of the gradients of problems of one pass rate, with 95% intervals, and the Beta "
        "kernel fitted to the pass rates between 0 and 1. Right: what a weighting reaches of the largest "
        "signal-to-noise ratio that a weighted mean gradient can have.",
    ),
    "weights": (
        "Where the weight goes",
        "Share of all training weight by pass rate: how much of each scheme's effort goes to problems that are "
        "hopeless (left), at the frontier (middle) or solved already (right).",
    ),
    "accuracy": (
        "Accuracy",
        "Dots are means, bars 95% intervals, the dotted line is the base student. Bars that overlap do not say that "
        "arms are equal: the paired comparisons above are the sharper test.",
    ),
    "levels": (
        "Accuracy by level",
        "Dots are means, bars 95% intervals. Look for levels where an arm's whole bar lies above another's; "
        "the paired comparisons above are the sharper test.",
    ),
    "retention": (
        "Retention",
        "Accuracy on a skill that was not trained. What lies left of the dotted line, the base student's value, was "
        "forgotten.",
    ),
    "losses": (
        "Training",
        "Divergence from the teacher on the problems an arm draws: each line should fall and settle. Thin lines are "
        "seeds. Arms with other weights see other problems, so their heights do not compare.",
    ),
    "teacher_tokens": (
        "Teacher tokens",
        "Filled: what the teacher generated for an arm. Hatched: what problems of weight 0 saved, against uniform "
        "weights.",
    ),
    "seconds": (
        "Time",
        "What each step took when it was computed, evaluation included: look for the step that dominates. An arm that "
        "found samples of another in the store shows less.",
    ),
}
SCORES = (
    "In %; small figures are 95% intervals, by bootstrap over problems and seeds. Levels and pass@k are of the "
    "benchmarks that measure what was trained; retention is of the others. Cut off: share of responses that met the "
    "token limit; tokens: their mean length. Samples without a known verdict are left out, never counted as wrong."
)
TOGETHER = (
    "Each interval is of 95% by itself. Better and worse hold for all {} differences together: the chance that any of "
    "them is wrong is 5% (Holm's procedure), so an interval that just leaves out zero decides nothing."
)
COSTS = (
    "Means of the seeds of what making a student took, without evaluation. Sampled tokens are the student's: rollouts "
    "for pass rates (shared, counted in full for each arm; none for the first weights of scheme uniform, which needs "
    "no pass rates), re-estimates and on-policy samples. Teacher tokens count whether generated or found in the store; "
    "saved is against uniform weights."
)
LENGTHS = (
    "Mean tokens of the student's responses, and the share that met the token limit: to the training problems, to "
    "those of each round of stage 2 (sampled before the round), and to the benchmarks. Lengths that climb from round "
    "to round, or more and more cut off, are how on-policy training goes wrong first."
)
STYLE = """
:root { color-scheme: light; --ink: #1d242b; --soft: #66717c; --line: #e1e5ea; --wash: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 44px 0 8px; }
.meta { color: var(--soft); margin: 6px 0 0; }
.status { font-weight: 600; }
.good { color: #0b7a55; } .bad { color: #b3261e; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: var(--soft); vertical-align: bottom;
  white-space: nowrap; }
thead th { border-bottom: 1.5px solid #c5ccd3; }
th, td { padding: 6px 9px; } td { text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th.text, td.text { text-align: left; } td.wrap { white-space: normal; overflow-wrap: anywhere; }
th.text:first-child, td.text:first-child { padding-left: 0; }
td small { display: block; color: var(--soft); font-size: 11.5px; line-height: 1.2; }
td.name { font-weight: 600; }
code { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; color: var(--soft); }
figure { margin: 0; padding: 0; } figure img { width: 100%; height: auto; display: block; }
p.note { color: var(--soft); font-size: 13px; margin: 8px 0 0; }
p.read { margin: 0 0 10px; max-width: 76ch; color: #39424c; }
dl.made { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 14px 0 0; font-size: 13.5px; }
dl.made dt { color: var(--soft); } dl.made dd { margin: 0; overflow-wrap: anywhere; }
.sample dl { display: grid; grid-template-columns: 84px 1fr; gap: 8px 14px; margin: 0 0 18px; font-size: 13.5px; }
.sample dt { color: var(--soft); } .sample dd { margin: 0; padding: 6px 9px; background: var(--wash);
  white-space: pre-wrap; overflow-wrap: anywhere; }
details summary { cursor: pointer; color: var(--soft); margin-bottom: 8px; }
"""
Columns = Sequence[tuple[str, bool]]  # heading, and whether the cells are text (left) or numbers (right)


def page(
    summary: Mapping[str, Any], pictures: Mapping[str, str], ingredients: Mapping[str, str], samples: str = ""
) -> str:
    """The report as one HTML file.

    Args:
        pictures: a name of PICTURES -> a data URL.
        ingredients: what the run was made from, by what it is called.
        samples: the section of problems to read (paced.report.reading).
    """
    stages: Sequence[Mapping[str, Any]] = summary["stages"]
    cached = sum(s["cached"] for s in stages)
    seeds = ", ".join(map(str, summary["seeds"]))
    sections = [
        f"<h1>{escape(summary['name'])}</h1>"
        f'<p class="meta"><span class="status">{escape(summary["status"])}</span> · '
        f"seeds {escape(seeds)} · {len(stages)} stages, {cached} of them found in the cache</p>"
        + made_from(ingredients),
    ]
    if "diagnosis" in summary:
        for title, heading, rows in diagnosis.tables(summary["diagnosis"]):
            cells = [[escape(cell) for cell in row] for row in rows]
            sections.append(f"<h2>{escape(title)}</h2>" + grid([(h, not i) for i, h in enumerate(heading)], cells))
    else:
        sections.append(
            "<h2>Results</h2>" + results(summary["arms"]) + benchmark_grid(summary) + warned(summary["warnings"])
        )
    if summary["comparisons"]:
        sections.append("<h2>Paired comparisons</h2>" + comparisons(summary["comparisons"]))
    if trains(summary["arms"]):
        sections.append("<h2>What a student cost</h2>" + costs(summary["arms"]))
    for name, (title, sentence) in PICTURES.items():
        if name in pictures:
            sections.append(
                f'<h2>{escape(title)}</h2><p class="read">{escape(sentence)}</p>'
                f'<figure><img src="{escape(pictures[name])}" alt="{escape(title)}"></figure>'
            )
    if grown := length_grid(summary["arms"]):
        sections.append(f'<h2>Response lengths</h2><p class="read">{escape(LENGTHS)}</p>' + grown)
    if samples:
        sections.append(samples)
    if data := summary.get("data"):
        sections.append("<h2>Data</h2>" + data_grid(data))
    sections.append("<h2>Stages</h2>" + stage_list(stages))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(summary['name'])}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )


def made_from(ingredients: Mapping[str, str]) -> str:
    """Models, data and benchmarks, one a line."""
    lines = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in ingredients.items())
    return f'<dl class="made">{"".join(lines)}</dl>' if ingredients else ""


def grid(columns: Columns, rows: Iterable[Sequence[str]]) -> str:
    """An HTML table; cells are HTML already."""
    kinds = [' class="text"' if text else "" for _, text in columns]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, (name, _) in zip(kinds, columns, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def results(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Accuracies with their intervals, arms in rows."""
    if not any("accuracy" in arm for arm in arms.values()):
        return '<p class="read">There are no scores: the run has not reached its comparison.</p>'
    levels = level_names(arms)
    k = next((f"pass@{arm['k']}" for arm in arms.values() if "k" in arm), "pass@k")
    names = ["accuracy", *(f"level {level}" for level in levels), "retention", k, "cut off", "tokens"]
    rows: list[list[str]] = []
    for name, arm in arms.items():
        row = [arm_name(name, arm), scored(arm.get("accuracy"))]
        row += [scored(arm.get("by_level", {}).get(level)) for level in levels]
        row += [scored(arm.get("retention"))]
        row += [percent(arm[key]) if key in arm else "&ndash;" for key in ("pass_at_k", "truncated")]
        rows.append([*row, f"{arm['mean_tokens']:.0f}" if "mean_tokens" in arm else "&ndash;"])
    return grid([("arm", True), *((name, False) for name in names)], rows) + f'<p class="note">{escape(SCORES)}</p>'


def benchmark_grid(summary: Mapping[str, Any]) -> str:
    """Arms in rows, benchmarks in columns; empty where there is only one benchmark to show."""
    columns = benchmark_columns(summary)
    if not columns:
        return ""
    rows = [
        [arm_name(name, arm), *(scored(benchmark_cells(summary, name)[key]) for key in columns)]
        for name, arm in summary["arms"].items()
    ]
    return "<h3>By benchmark</h3>" + grid([("arm", True), *((h, False) for h in columns.values())], rows)


def costs(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """What each student cost, arms in rows."""
    names = ("teacher tokens", "saved", "sampled tokens", "trained tokens", "steps", "seconds")
    rows: list[list[str]] = []
    for name, arm in arms.items():
        row = [amount(arm[key]) if key in arm else "&ndash;" for key in TOKENS]
        row.insert(1, f"{percent(arm['teacher_tokens_saved'])}%" if arm.get("teacher_tokens_saved") else "")
        row += [
            f"{arm[key]:,.{digits}f}" if key in arm else "&ndash;" for key, digits in (("steps", 0), ("seconds", 1))
        ]
        rows.append([arm_name(name, arm), *row])
    return grid([("arm", True), *((name, False) for name in names)], rows) + f'<p class="note">{escape(COSTS)}</p>'


def arm_name(name: str, arm: Mapping[str, Any]) -> str:
    kind = ", ".join(str(arm[key]).replace("_", " ") for key in ("scheme", "schedule") if key in arm)
    return f"<b>{escape(name)}</b><small>{escape(kind)}</small>"


def scored(score: Mapping[str, float] | None) -> str:
    if not score:
        return "&ndash;"
    return f"{percent(score['mean'])}<small>{percent(score['low'])}&ndash;{percent(score['high'])}</small>"


def comparisons(found: Sequence[Mapping[str, Any]]) -> str:
    """One row a pair and metric: a minus b in percentage points, and what is decided of them together."""
    tone = {"better": "good", "worse": "bad", "undecided": "soft"}
    columns = [("a - b", True), ("metric", True), ("difference, points", False), ("95% interval", False)]
    columns += [("problems", False), ("seeds", False), ("a is", True)]
    return grid(
        columns,
        [
            [
                f"<b>{escape(c['a'])}</b> &minus; {escape(c['b'])}",
                escape(c["metric"]),
                points(c["difference"]),
                f"{points(c['low'])} to {points(c['high'])}",
                str(c["problems"]),
                str(c["seeds"]),
                f'<span class="{tone[word]}">{word}</span>',
            ]
            for c, word in zip(found, verdicts(found), strict=True)
        ],
    ) + f'<p class="note">{escape(TOGETHER.format(len(found)))}</p>'


def data_grid(data: Mapping[str, Any]) -> str:
    """What was left out of each data set, and which benchmarks stood in the training data."""
    heading, *rows = datasheet.cleaning(data)
    parts = [grid([(h, not i) for i, h in enumerate(heading)], [[escape(cell) for cell in row] for row in rows])]
    for name, report in data.items():
        if found := datasheet.decontamination(report):
            heading, *rows = found
            parts.append(f'<p class="read">{escape(datasheet.caption(name, report))}</p>')
            parts.append(grid([(h, not i) for i, h in enumerate(heading)], [[escape(c) for c in r] for r in rows]))
    return "\n".join(parts) + warned(datasheet.warnings(data))


def warned(lines: Iterable[str]) -> str:
    """What a reader of the figures above has to know."""
    return "".join(f'\n<p class="bad">{escape(line)}</p>' for line in lines)


def length_grid(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Mean length and share cut off, arms in rows, stages in columns; empty where no arm has sampled yet."""
    stages = list(dict.fromkeys(s["stage"] for arm in arms.values() for s in arm["lengths"]))
    stages.sort(key=lambda stage: stage == EVALUATION)
    rows: list[list[str]] = []
    for name, arm in arms.items():
        found = {s["stage"]: s for s in arm["lengths"]}
        cells = [
            f"{found[s]['mean_tokens']:.1f}<small>{percent(found[s]['truncated'])}% cut off</small>"
            if s in found
            else "&ndash;"
            for s in stages
        ]
        rows.append([arm_name(name, arm), *cells])
    return grid([("arm", True), *((s.replace("_", " "), False) for s in stages)], rows) if stages else ""


def stage_list(stages: Sequence[Mapping[str, Any]]) -> str:
    """Every stage with its identity, folded; reused and computed count samples of the store."""
    columns = [
        ("stage", True),
        ("identity", True),
        ("", True),
        ("samples reused", False),
        ("computed", False),
        ("seconds", False),
    ]
    rows = [
        [
            escape(s["name"]),
            f"<code>{escape(s['identity'].removeprefix('sha256:')[:12])}</code>",
            '<span class="soft">cached</span>' if s["cached"] else "",
            f"{s['reused']:,}" if s["reused"] or s["computed"] else "",
            f"{s['computed']:,}" if s["reused"] or s["computed"] else "",
            f"{s['seconds']:.1f}",
        ]
        for s in stages
    ]
    once = {s["identity"]: s for s in stages}.values()  # arms that share a stage list it each
    reused, computed = sum(s["reused"] for s in once), sum(s["computed"] for s in once)
    line = f"{len(stages)} stages, {reused:,} samples reused, {computed:,} computed; seconds as when they were computed"
    return f"<details open><summary>{line}</summary>{grid(columns, rows)}</details>"
