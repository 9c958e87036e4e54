"""``paced compare``: several runs in one paired table, which MLflow keeps as a run beside theirs."""

import json
from collections.abc import Sequence
from pathlib import Path

from paced.evaluation.compare_runs import Judged, comparison, summary_of
from paced.report import table
from paced.stage import execute
from paced.storage.artifacts import Ref, open_file
from paced.storage.files import write_json
from paced.storage.identity import digest, short
from paced.storage.runs import ComparisonSummary
from paced_tasks.addresses import compare_page
from paced_tasks.journal import PARENT, Journal
from paced_tasks.record import scores, write_table
from paced_tasks.tracking import Tracker


def compare_runs(folders: Sequence[Path], home: Path) -> tuple[ComparisonSummary, list[str]]:
    """Compare runs and note the result in MLflow, once.

    Returns:
        what a run's summary.json says, for the arms of all runs; and lines that say where to look.

    Raises:
        ConfigError: the runs cannot be compared.
    """
    spec, runs, paired = comparison(folders, home)
    ref = execute(spec, lambda event: None)
    name = "compare: " + ", ".join(run.name for run in runs)
    summary = summary_of(name, json.loads(open_file(ref, "comparison.json").read_text()), runs)
    pages = [] if paired else ["the runs share no seed: differences are paired by problem alone"]
    return summary, pages + track(name, ref, summary, runs, folders, home)


def track(
    name: str, ref: Ref, summary: ComparisonSummary, runs: Sequence[Judged], folders: Sequence[Path], home: Path
) -> list[str]:
    """One MLflow run a comparison, found again by its name; returns where to look."""
    folder = home / "comparisons" / short(digest([name, ref.identity]), 16)
    tracker, journal = Tracker(folder, home, name), Journal(folder, PARENT)
    states = [Tracker(f, home, f.name).state() for f in folders]
    ids = [run["id"] if (run := state["runs"].get(PARENT)) else None for state in states]
    known = [run for run in ids if run]
    page = compare_page(tracker.pages, states[0]["experiment"], known) if len(known) == len(ids) else None
    if not journal.finished():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "comparison.json", summary)
        write_table(folder / "comparisons.json", summary["comparisons"])
        write_table(folder / "arms.json", [{"arm": arm} | scores(of) for arm, of in summary["arms"].items()])
        shown = json.dumps([{"path": f"{n}.json", "type": "table"} for n in ("arms", "comparisons")])
        text = f"```\n{table(summary)}\n```" + (f"\n\n[Compare the runs]({page})" if page else "")
        tags = {"paced.flow": "compare", "paced.compared": json.dumps([r.name for r in runs])}
        tags |= {
            "paced.compared.runs": json.dumps(ids),
            "paced.identity": ref.identity,
            "mlflow.loggedArtifacts": shown,
        }
        journal.begin(tags, {})
        for file in ("comparison.json", "comparisons.json", "arms.json"):
            journal.file(folder / file)
        for arm, of in summary["arms"].items():
            journal.metrics(0, {f"{arm}/{k}": v for k, v in scores(of).items()})
        for c in summary["comparisons"]:
            values = {"difference": c["difference"], "difference_low": c["low"], "difference_high": c["high"]}
            journal.metrics(0, {f"{c['a']} - {c['b']}/{c['metric']}/{k}": v for k, v in values.items()})
        journal.note(text)
        journal.end("FINISHED")
    if not tracker.flush(PARENT, wait=True):
        return [f"MLflow at {tracker.uri} did not take the comparison: the same command sends it later"]
    absent = [run.name for run, known in zip(runs, ids, strict=True) if not known]
    missing = f"MLflow at {tracker.uri} has no run {', '.join(absent)}: 'paced mlflow-replay' sends it"
    return [f"table    {tracker.links()[PARENT]}", f"compare  {page}" if page else missing]
