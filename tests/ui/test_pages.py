"""Both web pages in a real browser: two runs side by side in MLflow, and a flow run with its artifacts in Prefect."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness import Finished, Server, picture, tidy
from mlflow import MlflowClient

from paced_tasks.addresses import CHARTS, compare_page, experiment_page, run_page
from paced_tasks.journal import PARENT

if TYPE_CHECKING:
    from playwright.sync_api import Page


def run_ids(server: Server, name: str) -> dict[str, str]:
    """Label -> MLflow run id."""
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("paced")
    assert experiment
    runs = client.search_runs([experiment.experiment_id], f"tags.`paced.run` = '{name}'")
    return {r.data.tags["paced.label"]: r.info.run_id for r in runs}


def values(page: "Page", name: str) -> list[str]:
    """What the comparison's tables show beside a name, run by run, without units."""
    row = page.get_by_role("row").filter(has=page.get_by_text(name, exact=True)).first
    row.wait_for()
    return [value.rstrip("mins") for value in row.inner_text().split()[1:]]


def test_two_runs_side_by_side(
    page: "Page", mlflow_pages: Server, first_run: Finished, alpha_run: Finished, tmp_path: Path
) -> None:
    first, second = (run_ids(mlflow_pages, run.folder.name) for run in (first_run, alpha_run))

    page.goto(compare_page(mlflow_pages.url, "1", [first[PARENT], second[PARENT]]))
    assert values(page, "weights.alpha") == ["1.0", "2.0"]
    page.get_by_role("link", name="base/accuracy", exact=True).wait_for()
    page.get_by_role("link", name="paced/0/train_forward/kl_per_token", exact=True).wait_for()  # curves, too
    page.screenshot(path=tmp_path / "runs.png")

    stage = "two_stage/0/train_forward"
    page.goto("about:blank")  # else only the part after # changes, and the old page stays
    page.goto(compare_page(mlflow_pages.url, "1", [first[stage], second[stage]]))
    page.get_by_role("link", name="train_forward/kl_per_token", exact=True).wait_for()
    assert [float(v) > 0 for v in values(page, "Duration:")] == [True, True]
    page.screenshot(path=tmp_path / "stages.png")


def test_the_list_of_runs(
    page: "Page", mlflow_pages: Server, first_run: Finished, alpha_run: Finished, tmp_path: Path
) -> None:
    """The link that 'paced up' prints opens on the runs, with the columns that matter first; and with their charts."""
    page.set_viewport_size({"width": 2400, "height": 700})
    page.goto(experiment_page(mlflow_pages.url, "1"))
    page.get_by_role("link", name=alpha_run.folder.name, exact=True).first.wait_for()
    heads = page.get_by_role("columnheader")
    for name in ("accuracy", "retention", "gain", "User", "Source", "Models"):
        heads.get_by_text(name, exact=True).first.wait_for()
    page.get_by_text("paced distill", exact=True).first.wait_for()
    tidy(page)
    page.set_viewport_size({"width": 1800, "height": 560})
    picture(page, tmp_path, "mlflow-runs")

    page.set_viewport_size({"width": 1800, "height": 720})
    page.locator("label", has=page.locator("input[value=CHART]")).click()
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    bars, forward, reverse = (cards.nth(i) for i in range(len(CHARTS)))
    for card, metric in zip((bars, forward, reverse), CHARTS, strict=True):
        card.get_by_text(metric, exact=True).wait_for()
    for run in (first_run, alpha_run):
        bars.get_by_text(f"{run.summary['arms']['two_stage']['accuracy']['mean']:.2f}", exact=True).first.wait_for()
        for chart, metric in ((forward, "train_forward/loss"), (reverse, "train_reverse/loss")):
            chart.get_by_text(f"{run.folder.name} ({metric})", exact=True).wait_for()
    for chart in (forward, reverse):
        chart.locator(".scatterlayer .trace:has(.point)").nth(1).wait_for()  # both runs' curves are drawn
    picture(page, tmp_path, "mlflow-charts")

    # Unfolded, a run has its students beside it in the same charts.
    page.get_by_role("row").filter(has_text=alpha_run.folder.name).locator("[col-id='1'] svg").first.click()
    for student in ("two_stage/0", "paced/0"):
        page.get_by_role("link", name=student, exact=True).wait_for()
    bars.get_by_text("paced/0", exact=True).wait_for()
    forward.get_by_text("paced/0 (train_forward/loss)", exact=True).wait_for()
    page.screenshot(path=tmp_path / "unfolded.png")


def test_the_students_of_a_run(page: "Page", mlflow_pages: Server, first_run: Finished, tmp_path: Path) -> None:
    """The link in a run's description opens its students side by side: settings that differ, and scores."""
    ids = run_ids(mlflow_pages, first_run.folder.name)
    page.goto(run_page(mlflow_pages.url, "1", ids[PARENT]))
    page.get_by_role("link", name="Flow run in Prefect").wait_for()
    link = page.get_by_role("link", name="Compare the students").get_attribute("href")
    page.screenshot(path=tmp_path / "parent.png")
    assert link
    page.goto("about:blank")
    # The run was logged into a database, whose pages are expected at MLflow's usual port.
    page.goto(link.replace("http://127.0.0.1:5000", mlflow_pages.url))
    page.get_by_text("Show diff only").first.click()  # of the parameters
    assert values(page, "arm") == ["base", "paced", "two_stage"]
    assert values(page, "schedule")[-2:] == ["forward", "two_stage"]
    assert page.get_by_text("evaluation.samples", exact=True).count() == 0
    for name in ("accuracy_low", "accuracy_high", "accuracy"):
        page.get_by_role("link", name=name, exact=True).wait_for()
    page.screenshot(path=tmp_path / "students.png", full_page=True)


def test_the_run_page(page: "Page", prefect_pages: Server, alpha_run: Finished, tmp_path: Path) -> None:
    page.goto(f"{prefect_pages.url}/runs")
    page.get_by_role("link", name=re.compile(f"^{alpha_run.folder.name}: paced, two_stage")).first.click()
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("results").first.wait_for()
    page.get_by_text("levels").first.wait_for()
    page.screenshot(path=tmp_path / "artifacts.png")
    page.get_by_text("results").first.click()
    page.get_by_text("Accuracy and retention", exact=False).first.wait_for()
    page.get_by_text("two_stage", exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "table.png")
