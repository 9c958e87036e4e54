"""The first thing on a run's page in Prefect: what came out, what it cost, and where to look further; Markdown."""

import contextlib
from pathlib import Path

from paced.storage.files import read_record
from paced_tasks import record
from paced_tasks.addresses import compare_page, model_page, report_page
from paced_tasks.journal import PARENT, Journal
from paced_tasks.registry import Registry, RegistryError
from paced_tasks.run import Run
from paced_tasks.stage import tracker_of


def overview(run: Run) -> str:
    """Links to the pages of a finished run, as far as MLflow has been told of it, its tables and its warnings."""
    from paced.report.tables import markdown  # and pandas with it: a flow's import does not wait for that

    places = " | ".join(f"[{title}]({address})" for title, address in links(run).items())
    blocks = [f"**{run.name}**", places, f"Report: `{run.folder / 'report.html'}`"]
    blocks.append(markdown(read_record(run.folder / "summary.json")))
    return "\n\n".join(block for block in blocks if block)


def links(run: Run) -> dict[str, str]:
    """Title -> page in MLflow: the run, its students side by side, its report, the version it has registered."""
    tracker = tracker_of(run.folder, run.home)
    state = tracker.state()
    ids = {label: sent["id"] for label, sent in state["runs"].items()}
    if PARENT not in ids:
        return {}
    found = {"Run in MLflow": tracker.links()[PARENT]}
    students = [ids[str(label)] for label in record.labels(run) if str(label) in ids]
    if len(students) > 1:
        found["Students side by side"] = compare_page(tracker.pages, state["experiment"], students)
    found["Report in MLflow"] = report_page(tracker.pages, state["experiment"], ids[PARENT])
    if version := registered(run):
        found[f"Version {version} of {run.recipe.name}"] = model_page(tracker.pages, run.recipe.name, version)
    return found


def registered(run: Run) -> int | None:
    """The number of the version that a run has registered; None where MLflow does not answer, which was said before."""
    if not tracker_of(run.folder, run.home).flush(PARENT):
        return None
    made = [entry["tags"]["identity"] for entry in Journal(run.folder, PARENT).current() if entry["kind"] == "model"]
    with contextlib.suppress(RegistryError):
        versions = Registry(Path(run.home), run.recipe.name).versions().values() if made else ()
        return next((v.number for v in versions if v.tags.get("identity") == made[-1]), None)
