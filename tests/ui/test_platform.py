"""The platform as its users have it: up, a run from the form of a real browser, faults, down."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml
from harness import ROOT, SMALL, TINY, environment, eventually, free_port, gone, paced, parts

from paced.config import load_recipe

if TYPE_CHECKING:
    from playwright.sync_api import Page

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Platform:
    """A running platform of a home of its own, its deployment ``distill`` filled from the small recipe."""

    def __init__(self, home: Path):
        self.home, self.ports = home, ("--prefect-port", str(free_port()), "--mlflow-port", str(free_port()))
        self.recipe = load_recipe(TINY, SMALL).model_dump(mode="json")
        (home.parent / "small.yaml").write_text(yaml.safe_dump(self.recipe))
        self.up()

    def up(self) -> None:
        outcome = paced(self.home, "up", *self.ports)
        assert outcome.status == 0, outcome.err
        self.address = json.loads((self.home / "platform" / "platform.json").read_text())
        program = (
            "import sys, pathlib; from deployments.definitions import DEFINITIONS, deploy;"
            "deploy(DEFINITIONS[0]._replace(recipe=pathlib.Path(sys.argv[1])))"
        )
        env = environment(self.home, {"PREFECT_API_URL": self.url("prefect") + "/api"})
        recipe = str(self.home.parent / "small.yaml")
        subprocess.run([sys.executable, "-c", program, recipe], env=env, check=True, cwd=ROOT)

    def url(self, server: str) -> str:
        return f"http://127.0.0.1:{self.address[f'{server}_port']}"

    def api(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url("prefect") + "/api" + path, data, {"Content-Type": "application/json"}
        )

        def answered() -> tuple[Any] | None:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return (json.loads(answer.read() or "null"),)
            except urllib.error.HTTPError as error:
                if error.code != 503:  # a locked database: Prefect's own clients ask again
                    raise
            return None

        return eventually(answered, 30, path)[0]

    @property
    def deployment(self) -> dict[str, Any]:
        return self.api("/deployments/name/distill/distill")

    def trigger(self, **changes: Any) -> str:
        """A flow run of the small recipe with other top-level settings."""
        recipe = self.recipe | changes
        run = self.api(f"/deployments/{self.deployment['id']}/create_flow_run", {"parameters": {"recipe": recipe}})
        return run["id"]

    def runs(self) -> dict[str, dict[str, Any]]:
        return {run["id"]: run for run in self.api("/flow_runs/filter", {})}

    def state(self, run: str) -> str:
        return self.api(f"/flow_runs/{run}")["state"]["type"]

    def reaches(self, run: str, *states: str, within: float = 240) -> str:

        def reached() -> str:
            time.sleep(0.5)  # a server on a busy machine has better things to answer
            return state if (state := self.state(run)) in states else ""

        return eventually(reached, within, f"{run} {states}")

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this platform whose command has one of the words, all without words."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("PACED_PLATFORM") == str(self.home)
                line = " ".join(process.cmdline())
                if mine and (not words or any(word in line for word in words)):
                    found.append(process)
        return found

    def in_a_stage(self, run: str) -> None:
        """Wait until a flow run has a stage's process at work."""
        self.reaches(run, "RUNNING")
        eventually(lambda: len(self.processes("forkserver")) > 1, 60, "a stage runs")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("platform") / "home"
    home.mkdir()
    try:
        yield Platform(home)
    finally:
        assert paced(home, "down").out == "stopped\n"
        gone(home)


def test_status_says_where_everything_is(platform: Platform, tmp_path: Path) -> None:
    outcome = paced(platform.home, "status")
    assert outcome.status == 0
    lines = [line.split() for line in outcome.out.splitlines()]
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        (name, "running", "healthy") for name in ("prefect", "mlflow", "worker")
    ]
    assert platform.url("mlflow") in outcome.out
    other = paced(tmp_path / "other", "status")
    assert (other.status, other.out) == (1, f"no platform runs in {tmp_path / 'other'}; 'paced up' starts one\n")


def test_a_taken_port_is_named(platform: Platform, tmp_path: Path) -> None:
    taken = str(platform.address["mlflow_port"])
    outcome = paced(tmp_path / "other", "up", "--prefect-port", str(free_port()), "--mlflow-port", taken)
    assert outcome.status == 1
    assert outcome.err.startswith(f"error: mlflow cannot listen on 127.0.0.1:{taken} (Address already in use)")
    assert "--mlflow-port" in outcome.err and len(outcome.err.splitlines()) == 1


def test_up_again_keeps_the_schedules(platform: Platform) -> None:
    retrain = platform.api("/deployments/name/retrain/retrain")
    weekly = {"schedule": {"cron": "0 3 * * 1"}, "active": False, "parameters": {"recipe": platform.recipe}}
    platform.api(f"/deployments/{retrain['id']}/schedules", [weekly])
    platform.up()
    (kept,) = platform.api("/deployments/name/retrain/retrain")["schedules"]
    assert (kept["schedule"]["cron"], kept["active"]) == ("0 3 * * 1", False)
    assert kept["parameters"] == weekly["parameters"]


def test_servers_listen_on_this_host_alone(platform: Platform) -> None:
    ports = {platform.address["prefect_port"], platform.address["mlflow_port"]}
    found = {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port in ports}
    assert found == {"127.0.0.1"}


def test_a_bad_value_is_refused_with_its_field_path(platform: Platform) -> None:
    before = platform.runs().keys()
    recipe = platform.deployment["parameters"]["recipe"]
    for changes, says in (
        ({"weights": recipe["weights"] | {"alpha": -1}}, "'recipe.weights.alpha'. Failure reason: -1 is less than"),
        ({"training": recipe["training"] | {"steps": "x"}}, "'recipe.training.steps'. Failure reason: 'x' is not"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            platform.trigger(**changes)
        assert refused.value.code == 409
        assert says in refused.value.read().decode()
    assert platform.runs().keys() == before


def test_a_run_from_the_form(platform: Platform, page: "Page", tmp_path: Path) -> None:
    page.goto(f"{platform.url('prefect')}/deployments/deployment/{platform.deployment['id']}/run")

    def field(group: str, label: str) -> Any:
        """The input of a field in a group of fields."""
        within = page.locator(".schema-form-property", has=page.get_by_text(group, exact=True)).last
        return within.locator(".schema-form-property", has=page.get_by_text(label, exact=True)).last.locator("input")

    field("Weights (Optional)", "Alpha (Optional)").fill("2")
    field("Training (Optional)", "Steps (Optional)").fill("6")
    page.screenshot(path=tmp_path / "form.png", full_page=True)
    with page.expect_response(lambda response: response.url.endswith("/create_flow_run")) as submitted:
        page.get_by_role("button", name="Submit").click()
    run = submitted.value.json()["id"]
    assert platform.reaches(run, *ENDED) == "COMPLETED"

    recipe = platform.runs()[run]["parameters"]["recipe"]
    assert (recipe["weights"]["alpha"], recipe["training"]["steps"]) == (2, 6)
    name = platform.runs()[run]["name"].partition(":")[0]
    summary = json.loads((platform.home / "runs" / name / "summary.json").read_text())
    assert summary["arms"]["paced"]["steps"] == 6

    page.goto(f"{platform.url('prefect')}/runs/flow-run/{run}")
    page.get_by_text("Artifacts", exact=True).first.click()
    for artifact in ("results", "levels", "mlflow", "progress-0-rollouts"):
        page.get_by_text(artifact, exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "artifacts.png")
    links = platform.api("/artifacts/filter", {"artifacts": {"key": {"any_": ["mlflow"]}}})
    assert platform.url("mlflow") in links[0]["data"]
    page.get_by_text("results", exact=True).first.click()
    page.get_by_text("two_stage", exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "table.png")


def test_paced_run_uses_the_platform_of_its_home(platform: Platform) -> None:
    before = platform.runs().keys()
    changes = ("--set", "weights.alpha=2", "--set", "training.steps=6")  # as in the form: nothing is computed again
    outcome = paced(platform.home, "run", str(platform.home.parent / "small.yaml"), *changes)
    assert outcome.status == 0, outcome.err
    assert " 0 computed" in outcome.out + outcome.err
    assert f"Prefect: {platform.url('prefect')}" in outcome.out
    (run,) = platform.runs().keys() - before
    assert platform.state(run) == "COMPLETED"


ONE_ARM = {"seeds": [11], "arms": [{"name": "paced", "scheme": "beta", "schedule": "forward"}]}


def test_cancelled_from_the_page(platform: Platform) -> None:
    run = platform.trigger(**ONE_ARM)
    platform.in_a_stage(run)
    began = time.monotonic()
    platform.api(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    eventually(lambda: not platform.processes("forkserver", "prefect.engine"), 10, "its processes are gone")
    assert time.monotonic() - began < 10
    # The worker reports it once it has loaded the flow, to look for hooks: long on a busy machine, and harmless.
    assert platform.reaches(run, *ENDED, within=180) == "CANCELLED"


def test_the_host_goes_down_and_comes_back(platform: Platform) -> None:
    before = parts(platform.home)
    run = platform.trigger(**ONE_ARM)
    eventually(lambda: parts(platform.home) >= before + 2, 120, "two parts of its rollouts are committed")
    died = time.monotonic()
    for process in platform.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)
    platform.up()
    assert platform.reaches(run, *ENDED, within=60) == "CRASHED"
    assert time.monotonic() - died < 120
    again = platform.trigger(**ONE_ARM)
    assert platform.reaches(again, *ENDED) == "COMPLETED"
    assert platform.state(run) == "CRASHED"
    name = platform.runs()[again]["name"].partition(":")[0]
    summary = json.loads((platform.home / "runs" / name / "summary.json").read_text())
    (rollouts,) = (stage for stage in summary["stages"] if stage["name"] == "11/rollouts")
    assert summary["status"] == "completed" and rollouts["reused"] > 0 < rollouts["computed"]
