"""What is left out of a data set and why: empty and unverifiable golds, scripts, length, repeats, contamination.

Every problem left out gets one reason, the first that applies; what is known about the whole file (how many distinct
questions, how many with conflicting golds) is counted before anything is left out. Imports no torch.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from paced.config import Data
from paced.data.decontamination import Hit, Index, normal
from paced.data.layouts import Problem
from paced.verify import Sample, Verifier

# Unicode's name of a letter begins with its script's; "drop_scripts" speaks of scripts by the keys.
SCRIPTS = {
    "han": ("CJK UNIFIED", "CJK COMPATIBILITY"), "kana": ("HIRAGANA", "KATAKANA"), "hangul": ("HANGUL",),
    "cyrillic": ("CYRILLIC",), "arabic": ("ARABIC",), "hebrew": ("HEBREW",), "devanagari": ("DEVANAGARI",),
    "thai": ("THAI",),
}  # fmt: skip
WRITTEN = 0.02  # share of a question's letters, LaTeX commands aside, from which it is written in a script
_LATIN = re.compile(r"[\x00-\u036f]*")
_COMMAND = re.compile(r"\\[A-Za-z]+")

KINDS = ("empty", "benchmark", "script", "length", "conflict", "duplicate", "gold")


class Cleaned(NamedTuple):
    """What stays, in the order of the file; what does not, as ``where``, ``kind``, ``reason``; and the counts."""

    kept: list[Problem]
    rejected: list[dict[str, str]]
    report: dict[str, Any]


def scripts(question: str) -> dict[str, float]:
    """Share of a question's letters, LaTeX commands aside, by script; Latin, Greek and the rest are left out."""
    if _LATIN.fullmatch(question):
        return {}
    letters = [c for c in _COMMAND.sub(" ", question) if c.isalpha()]
    found: Counter[str] = Counter()
    for character in letters:
        if character > "\u036f":
            name = unicodedata.name(character, "")
            found.update(script for script, starts in SCRIPTS.items() if name.startswith(starts))
    return {script: count / len(letters) for script, count in found.items()}


def same_gold(gold: str) -> str:
    """Golds with the same text here are one: spaces and ``$`` dropped, numbers by value."""
    plain = re.sub(r"[\s$]", "", gold)
    try:
        return str(Decimal(plain.replace(",", "")).normalize())
    except InvalidOperation:
        return plain


def clean(problems: Iterable[Problem], data: Data, index: Index | None, unique: bool) -> Cleaned:
    """Sort out what cannot or should not be used.

    Args:
        index: the benchmarks that training problems must not stand in.
        unique: leave out repeats and conflicting golds. A benchmark keeps its repeats, for its score is over them all.
    """
    problems = list(problems)
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        if not problem.fault:
            groups.setdefault(normal(problem.question) + "\n".join(problem.choices), []).append(problem)
    first = {g[0].where: key for key, g in groups.items()}
    conflicts = {key: g for key, g in groups.items() if len({same_gold(p.gold) for p in g}) > 1}
    written: Counter[str] = Counter()
    hits: list[Hit] = []
    contaminated: Counter[tuple[str, bool]] = Counter()

    def reason(problem: Problem) -> tuple[str, str] | None:
        if problem.fault:
            return "empty", problem.fault
        shares = scripts(problem.question)
        written.update(shares.keys())
        key = normal(problem.question) + "\n".join(problem.choices)
        if index and (found := list(index.find(problem.question))):
            hits.extend(found)
            worst = max(found, key=lambda h: (h.exact, h.share))
            exact = {h.benchmark for h in found if h.exact}
            contaminated.update({(h.benchmark, h.benchmark in exact) for h in found})
            how = "word for word" if worst.exact else f"{100 * worst.share:.0f}% of a problem's {index.words}-grams"
            return "benchmark", f"stands in a benchmark: {worst.benchmark}, {how}"
        for script in data.drop_scripts:
            if shares.get(script, 0) > WRITTEN:
                return "script", f"written in {script}"
        if data.max_characters and len(problem.question) > data.max_characters:
            return "length", f"question of {len(problem.question)} characters"
        if unique and key in conflicts:
            return "conflict", f"conflicting golds: {', '.join(sorted({p.gold for p in conflicts[key]}))}"
        if unique and problem.where not in first:
            return "duplicate", f"repeats {groups[key][0].where}"
        return None

    reasons = [reason(problem) for problem in problems]
    doubtful = [p for p, why in zip(problems, reasons, strict=True) if why is None and not p.choices]
    unverifiable = {p.where for p, good in zip(doubtful, verifiable(data.source, doubtful), strict=True) if not good}
    kept: list[Problem] = []
    rejected: list[dict[str, str]] = []
    for problem, why in zip(problems, reasons, strict=True):
        if why is None and problem.where in unverifiable:
            why = "gold", f"verifier rejects gold {problem.gold!r}"
        if why is None:
            kept.append(problem)
        else:
            rejected.append({"where": problem.where, "kind": why[0], "reason": why[1]})
    kinds = Counter(r["kind"] for r in rejected)
    report = {
        "source": data.source,
        "rows": len(problems),
        "usable": len(kept),
        "rejected": {kind: kinds[kind] for kind in KINDS},
        "distinct": len(groups),
        "conflicting": [
            {"golds": sorted({p.gold for p in g}), "where": [p.where for p in g]} for g in conflicts.values()
        ],
        "written_in": dict(sorted(written.items())),
        "repaired": [{"where": p.where, "reason": p.repair} for p in problems if p.repair],
        "decontamination": index and overlaps(index, hits, contaminated),
    }
    return Cleaned(kept, rejected, report)


def verifiable(source: str, problems: Sequence[Problem]) -> list[bool]:
    """Whether each gold answer passes its own verifier; one that does not would make every sample wrong."""
    with Verifier() as verifier:
        verdicts = verifier.grade_golds([Sample(source, "", p.gold, p.question) for p in problems])
    return [v.outcome == "correct" for v in verdicts]


def overlaps(index: Index, hits: Sequence[Hit], contaminated: Mapping[tuple[str, bool], int]) -> dict[str, Any]:
    """By benchmark: how many of its problems were found, and in how many training problems."""
    by_benchmark: dict[str, Any] = {}
    for name in index.sizes:
        exact = {h.problem for h in hits if h.benchmark == name and h.exact}
        partial = {h.problem for h in hits if h.benchmark == name} - exact
        by_benchmark[name] = {
            "problems": index.sizes[name],
            "exact": len(exact),
            "overlap": len(partial),
            "training_exact": contaminated[name, True],
            "training_overlap": contaminated[name, False],
        }
    return {"words": index.words, "share": index.share, "benchmarks": by_benchmark}
