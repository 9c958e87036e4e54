"""What the cleaning of data sets left out, as tables: for ``paced data`` and for the report. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paced.data.cleaning import KINDS
from paced.report.tables import aligned

HEADINGS = {
    "empty": "empty", "benchmark": "in a benchmark", "script": "script", "length": "length", "conflict": "conflict",
    "duplicate": "repeat", "gold": "gold",
}  # fmt: skip
Table = list[list[str]]


def cleaning(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a data set: rows read, left out by reason, taken."""
    rows = [["data set", "rows", "distinct", *(HEADINGS[kind] for kind in KINDS), "usable", "taken"]]
    for name, r in reports.items():
        left_out = [f"{n:,}" if (n := r.get("rejected", {}).get(kind)) else "-" for kind in KINDS]
        rows.append(
            [
                name,
                f"{r['rows']:,}",
                f"{r.get('distinct', r['rows']):,}",
                *left_out,
                f"{r['usable']:,}",
                f"{r['problems']:,}",
            ]
        )
    return rows


def caption(name: str, report: Mapping[str, Any]) -> str:
    found = report["decontamination"]
    return (
        f"{name} against the benchmarks: problems of each that it holds word for word (but for case and spaces), or at "
        f"least {100 * found['share']:.0f}% of their {found['words']}-grams, and in how many training problems"
    )


def decontamination(report: Mapping[str, Any]) -> Table:
    """One row a benchmark; nothing where there was no benchmark to keep apart from."""
    if not report.get("decontamination"):
        return []
    rows = [["benchmark", "problems", "word for word", "in", "n-grams", "in"]]
    for name, found in report["decontamination"]["benchmarks"].items():
        numbers = ("problems", "exact", "training_exact", "overlap", "training_overlap")
        rows.append([name, *(f"{found[key]:,}" for key in numbers)])
    return rows


def warnings(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a reader of scores has to know."""
    return [
        f"{name}: decontamination was off; its problems may stand in the benchmarks"
        for name, report in reports.items()
        if report.get("decontaminated") is False
    ]


def text(folders: Mapping[str, Path]) -> str:
    """The tables of prepared data sets, by name, with an example of everything left out."""
    reports = {name: json.loads((folder / "cleaning.json").read_text()) for name, folder in folders.items()}
    blocks = [aligned(cleaning(reports))]
    for name, report in reports.items():
        if rows := decontamination(report):
            blocks.append(caption(name, report) + "\n" + aligned(rows))
    for name, folder in folders.items():
        lines = notes(reports[name], json.loads((folder / "rejected.json").read_text()))
        if lines:
            blocks.append("\n".join([f"{name}: all of it in {folder}/rejected.json and cleaning.json", *lines]))
    return "\n\n".join([*blocks, *(f"WARNING: {line}" for line in warnings(reports))])


def notes(report: Mapping[str, Any], rejected: Sequence[Mapping[str, str]]) -> list[str]:
    """One line for each reason: how many, and the first."""
    lines: list[str] = []
    for kind in KINDS:
        found = [r for r in rejected if r["kind"] == kind]
        if found:
            lines.append(
                f"  {HEADINGS[kind]}: {len(found):,}, first {Path(found[0]['where']).name}: {found[0]['reason']}"
            )
    for fact in ("conflicting", "repaired"):
        if entries := report.get(fact):
            about = entries[0].get("reason") or f"golds {', '.join(entries[0]['golds'])}"
            where = entries[0]["where"]
            place = Path(where if isinstance(where, str) else where[0]).name
            lines.append(f"  {fact}: {len(entries):,}, first {place}: {about}")
    lines += [f"  holds characters of script {s}: {n:,}" for s, n in report.get("written_in", {}).items()]
    return lines
