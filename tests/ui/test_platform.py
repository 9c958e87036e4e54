"""The platform as its users have it: up, a run from the form of a real browser, down."""

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from browser import PATIENCE
from harness import bits, eventually, free_port, gone, paced, parts, picture, run_paced, tidy, told
from mlflow import MlflowClient
from platforms import ENDED, Platform
from prefect.exceptions import PrefectHTTPStatusError
from proxy import NAME, PASSWORD, USER, Proxy, documented, nginx

from paced.report.tables import headline
from paced_tasks.addresses import RUNS
from paced_tasks.journal import PARENT
from paced_tasks.who import worker

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("platform") / "home"
    home.mkdir()
    try:
        platform = Platform(home, *documented().options, env=documented().environment)
        platform.fill_form()
        yield platform
    finally:
        assert paced(home, "down").out == "stopped\n"
        gone(home)


@pytest.fixture(scope="module")
def proxy(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with nginx(tmp_path_factory.mktemp("nginx"), platform.url("prefect")) as proxy:
        yield proxy


def test_status_says_where_everything_is(platform: Platform, tmp_path: Path) -> None:
    outcome = told(platform.home, "status")
    assert outcome.status == 0
    lines = [line.split() for line in outcome.out.splitlines()]
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        (name, "running", "healthy") for name in ("prefect", "mlflow", "worker")
    ]
    assert platform.url("mlflow") in outcome.out
    other = told(tmp_path / "other", "status")
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
    assert (platform.home / "incoming").is_dir()
    platform.fill_form()
    (kept,) = platform.api("/deployments/name/retrain/retrain")["schedules"]
    assert (kept["schedule"]["cron"], kept["active"]) == ("0 3 * * 1", False)
    assert kept["parameters"] == weekly["parameters"]


def test_up_says_which_schedule_can_no_longer_run(platform: Platform) -> None:
    """Its recipe has a field of an earlier release, or names what the host's owner does not allow to a schedule."""
    retrain = platform.api("/deployments/name/retrain/retrain")
    renamed = platform.recipe | {"weights": {**platform.recipe["weights"], "exponent": 2}}
    foreign = platform.recipe | {"data": {"source": "gsm8k", "path": "/etc/passwd"}}
    for hour, parameters in ((1, {"recipe": renamed}), (2, {"recipe": foreign}), (3, {"week": 1}), (4, {})):
        schedule = {"schedule": {"cron": f"0 {hour} * * 1"}, "active": False, "parameters": parameters}
        platform.api(f"/deployments/{retrain['id']}/schedules", [schedule])
    said = [line for line in paced(platform.home, "up", *platform.options).out.splitlines() if "schedule" in line]
    assert len(said) == 3
    for hour, says in (
        (1, "recipe: weights.exponent: unknown key"), (2, "recipe.data.path: /etc/passwd is not allowed"),
        (3, "week: unknown parameter"),
    ):  # fmt: skip
        (line,) = (line for line in said if f"'0 {hour} * * 1' of retrain cannot run" in line)
        assert says in line and f"{platform.url('prefect')}/deployments/deployment/{retrain['id']}" in line
    for schedule in platform.api("/deployments/name/retrain/retrain")["schedules"]:
        platform.client.request("DELETE", f"deployments/{retrain['id']}/schedules/{schedule['id']}")


def test_servers_listen_on_this_host_alone(platform: Platform) -> None:
    ports = {platform.address["prefect_port"], platform.address["mlflow_port"]}
    found = {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port in ports}
    assert found == {"127.0.0.1"}


def test_another_sites_page_starts_nothing(platform: Platform) -> None:
    """What a page of any site may send from a browser without asking first: it has no token."""
    url = f"{platform.url('prefect')}/api/deployments/{platform.deployment['id']}/create_flow_run"
    before = platform.runs().keys()
    answer = httpx.post(url, content="{}", headers={"Content-Type": "text/plain", "Origin": "http://elsewhere.test"})
    assert answer.status_code == 403
    assert platform.runs().keys() == before


def test_another_sites_name_is_refused(platform: Platform) -> None:
    """By both servers; behind a proxy with TLS their own page's requests are let in."""
    search = "/ajax-api/2.0/mlflow/runs/search"
    for server, path in (("prefect", "/"), ("prefect", "/api/health"), ("mlflow", "/"), ("mlflow", search)):
        answer = httpx.get(platform.url(server) + path, headers={"Host": "evil.example"})
        assert answer.status_code == 403, (server, path)
    for origin, status in ((f"https://{NAME}", 200), (f"https://{NAME}:8443", 200), (f"https://{NAME}.evil", 403)):
        asked = {"Host": NAME, "Origin": origin}
        answer = httpx.post(platform.url("mlflow") + search, json={"experiment_ids": ["1"]}, headers=asked)
        assert answer.status_code == status, origin
        assert httpx.get(platform.url("prefect") + "/api/health", headers=asked).status_code == status, origin


def test_a_bad_value_is_refused_with_its_field_path(platform: Platform) -> None:
    before = platform.runs().keys()
    recipe = platform.deployment["parameters"]["recipe"]
    for changes, says in (
        ({"weights": recipe["weights"] | {"alpha": -1}}, "'recipe.weights.alpha'. Failure reason: -1 is less than"),
        ({"training": recipe["training"] | {"steps": "x"}}, "'recipe.training.steps'. Failure reason: 'x' is not"),
    ):
        with pytest.raises(PrefectHTTPStatusError) as refused:
            platform.trigger(**changes)
        assert refused.value.response.status_code == 409
        assert says in refused.value.response.json()["detail"]
    assert platform.runs().keys() == before


def filled_in(page: "Page", address: str, picture: Path) -> str:
    """A run of the form, from the page that opens first; what is wrong with a field is said before a run begins."""
    page.set_viewport_size({"width": 1400, "height": 1000})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.get_by_text("Deployments", exact=True).first.click()
    page.locator("a.deployment-list__name[title=distill]").click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()

    def field(label: str) -> "Locator":
        return page.locator(".schema-form-property", has=page.get_by_text(label, exact=True)).last

    field("recipe").locator("button", has_text="tiny").press("ArrowDown")  # opens the list
    page.get_by_text("small", exact=True).click()
    field("changes (Optional)").get_by_role("button", name="Add item").click()
    field("changes (Optional)").locator("textarea").fill("weights.alpha=2")
    field("steps (Optional)").locator("input").fill("-6")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("-6 is less than the minimum of 0").first.wait_for()
    field("steps (Optional)").locator("input").fill("6")
    page.screenshot(path=picture, full_page=True)
    with page.expect_response(lambda response: response.url.endswith("/create_flow_run")) as submitted:
        page.get_by_role("button", name="Submit").click()
    assert submitted.value.status == 201, submitted.value.text()
    run = submitted.value.json()["id"]
    page.close()  # one of a run that goes on is drawn all the time
    assert [url for url in asked if not url.startswith(address)] == []
    return run


def test_a_run_from_the_form(platform: Platform, proxy: Proxy, page: "Page", tmp_path: Path) -> None:
    """A recipe of the list, three fields filled in, by alice behind the proxy."""
    assert page.context.browser
    password: Any = {"username": USER, "password": PASSWORD}
    hers = page.context.browser.new_page(http_credentials=password, ignore_https_errors=True)
    hers.set_default_timeout(PATIENCE)
    run = filled_in(hers, proxy.pages, tmp_path / "form.png")
    assert platform.reaches(run, *ENDED) == "COMPLETED"

    assert platform.runs()[run]["parameters"] .items() >= {
        "recipe": "small", "changes": ["weights.alpha=2"], "steps": 6,
    }.items()  # fmt: skip
    name, says = platform.runs()[run]["name"].partition(":")[0], platform.runs()[run]["state"]["message"]
    summary = json.loads((platform.home / "runs" / name / "summary.json").read_text())
    assert summary["arms"]["paced"]["steps"] == 6 and says == headline(summary)

    question = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
    story = [line["message"] for line in platform.api("/logs/filter", question)]
    assert any(re.match(r"0/rollouts: .* s, \d+ problems, \d+ samples", line) for line in story)
    begins, ends = (next(line for line in story if part in line) for part in (f"run {name} in ", " stages done: "))
    assert story.index(begins) < story.index(ends) and re.match(r"(\d+) of \1 stages done: \d cached, ", ends)

    assert {"by:alice", f"as:{worker()}"} <= set(platform.runs()[run]["tags"])
    client = MlflowClient(platform.url("mlflow"))
    (parent,) = client.search_runs(["1"], f"tags.`paced.run` = '{name}' and tags.`paced.label` = '{PARENT}'")
    who = {"mlflow.user": "alice", "paced.submitter": "alice", "paced.worker": worker()}
    assert parent.data.tags.items() >= who.items()
    assert f"(https://{NAME}/runs/flow-run/{run})" in parent.data.tags["mlflow.note.content"]

    page.set_viewport_size({"width": 1500, "height": 3000})  # the list of artifacts holds only what is in sight
    page.goto(f"{platform.url('prefect')}/runs/flow-run/{run}")
    page.get_by_text("Artifacts", exact=True).first.click()
    for artifact in ("summary", "results", "levels", "mlflow", "progress-0-rollouts"):
        page.get_by_text(artifact, exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "artifacts.png")
    links = platform.api("/artifacts/filter", {"artifacts": {"key": {"any_": ["mlflow"]}}})
    assert platform.url("mlflow") in links[0]["data"]
    (top,) = platform.api("/artifacts/filter", {"artifacts": {"key": {"any_": ["summary"]}}})
    for part in ("| level 1 |", "### paired differences", "| two_stage - base | accuracy |", "| teacher tokens |"):
        assert part in top["data"]
    page.set_viewport_size({"width": 1600, "height": 1000})
    page.get_by_text("summary", exact=True).first.click()
    page.get_by_role("heading", name="paired differences").first.wait_for()
    picture(page, tmp_path, "prefect-summary")
    links_open(platform, page, top["data"], tmp_path)


def links_open(platform: Platform, page: "Page", summary: str, folder: Path) -> None:
    """Each link of a summary opens the page it names."""
    page.set_viewport_size({"width": 1400, "height": 1000})
    for title, shows, name in (
        ("Run in MLflow", "Compare the students", ""),
        ("Students side by side", "Comparing 3 Runs from 1 Experiment", "mlflow-compare"),
        ("Report in MLflow", "report.html", ""),
        ("Version 1 of tiny", "Arm two_stage (beta, two_stage) of run", "mlflow-version"),
    ):
        (address,) = re.findall(rf"\[{title}\]\(([^)]*)\)", summary)
        assert address.startswith(f"{platform.url('mlflow')}/#/") and address.endswith(RUNS)
        page.goto("about:blank")  # else only the part after # changes, and the old page stays
        page.goto(address)
        page.get_by_text(shows).first.wait_for()
        tidy(page)
        if name == "mlflow-compare":
            page.get_by_text("Show diff only").first.click()  # of the parameters
        if name:
            picture(page, folder, name)


def test_a_failed_run_says_why(platform: Platform, page: "Page", tmp_path: Path) -> None:
    """In one line: the state's message, and the first error of the log. A stage that had no turn says so."""
    broken = platform.home / "broken.jsonl"
    broken.write_text('{"question": "1 + 1", "answer": "2"}\n{"question": \n')
    run = platform.trigger(data={"source": "table", "path": str(broken)})
    assert platform.reaches(run, *ENDED) == "FAILED"
    message = platform.runs()[run]["state"]["message"]
    assert "broken.jsonl:2: not valid JSON" in message and "exception" not in message and "\n" not in message
    question = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
    log = eventually(lambda: platform.api("/logs/filter", question), 20, "its log is there")
    errors = [line["message"] for line in log if line["level"] >= 40]
    assert errors[0] == f"0/prepare: {message}"
    assert not any("Traceback" in line["message"] for line in log)
    assert any(re.match(r"2 of 21 stages done: ", line["message"]) for line in log)

    def states() -> dict[str, str]:
        found = platform.api("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}, "limit": 200})
        names = {task["name"]: task["state"]["name"] for task in found}
        return names if "Pending" not in names.values() and "NotReady" not in names.values() else {}

    final = eventually(states, 20, "nothing stays pending")
    idle = {name.rpartition("-")[0] for name, state in final.items() if state == "NotRun"}
    assert final["0/prepare"] == "Failed" and {"0/rollouts", "paced/0/weights", "compare"} <= idle  # by their labels
    page.set_viewport_size({"width": 1300, "height": 850})
    page.goto(f"{platform.url('prefect')}/runs/flow-run/{run}")
    page.locator("button", has_text="Level: all").press("ArrowDown")  # opens the list
    page.get_by_text("error and above").first.click()
    page.get_by_text(f"0/prepare: {message}").first.wait_for()
    picture(page, tmp_path, "prefect-failed")
    assert {status for status, _ in closed(platform, run).values()} <= {"FINISHED", "FAILED"}


def test_paced_run_uses_the_platform_of_its_home(platform: Platform) -> None:
    before = platform.runs().keys()
    changes = ("--set", "weights.alpha=2", "--set", "training.steps=6")  # as in the form: nothing is computed again
    outcome = paced(platform.home, "run", str(platform.home / "recipes" / "small.yaml"), *changes)
    assert outcome.status == 0, outcome.err
    assert " 0 computed" in outcome.out + outcome.err
    assert f"Prefect: {platform.url('prefect')}" in outcome.out
    (run,) = platform.runs().keys() - before
    assert platform.state(run) == "COMPLETED"


def test_a_form_starts_no_program(platform: Platform, tmp_path: Path) -> None:
    """Neither by what a retraining tells, nor by code of a model, nor by the command of the run's own process."""
    told, secret = tmp_path / "told", "hunter2"
    command = ["/bin/sh", "-c", f"touch {told}"]
    retrain = platform.api("/deployments/name/retrain/retrain")
    watched = {"watch": str(platform.home / "incoming"), "notify": {"command": command}}
    model = platform.recipe["student"] | {"trust_remote_code": True}
    data = {"source": "gsm8k", "path": "/etc/passwd"}
    variables = {"command": " ".join(command), "env": {"PACED_HOME": str(tmp_path)}}

    def submitted(deployment: dict[str, Any], parameters: dict[str, Any], **more: Any) -> str:
        url = f"/deployments/{deployment['id']}/create_flow_run"
        return platform.api(url, {"parameters": {"recipe": platform.recipe} | parameters, **more})["id"]

    runs = [
        (submitted(retrain, {"retraining": watched}), "retraining.notify.command"),
        (submitted(platform.deployment, {"recipe": platform.recipe | {"student": model}}), "trust_remote_code"),
        (
            submitted(platform.deployment, {"recipe": platform.recipe | {"data": data}}, job_variables=variables),
            "recipe.data.path: /etc/passwd is not allowed",
        ),
    ]
    for run, says in runs:
        assert platform.reaches(run, *ENDED) == "FAILED"
        assert says in platform.runs()[run]["state"]["message"]
    assert not told.exists()
    assert list(tmp_path.iterdir()) == []
    address = f"https://me:{secret}@host/x.jsonl"
    short, evaluate = (platform.api(f"/deployments/name/{name}") for name in ("distill/distill", "evaluate/evaluate"))
    for deployment, parameters in (
        (platform.deployment, {"recipe": platform.recipe | {"data": {"source": "gsm8k", "path": address}}}),
        (short, {"recipe": "tiny", "student": address}),
        (short, {"recipe": "tiny", "changes": [f"data.path={address}"]}),
        (evaluate, {"model": address}),
        (retrain, {"retraining": watched | {"watch": address}}),
        (retrain, {"retraining": watched | {"notify": {"command": ["/usr/bin/curl", address]}}}),
    ):
        with pytest.raises(PrefectHTTPStatusError) as refused:
            submitted(deployment, parameters)
        assert refused.value.response.status_code == 409
    holding = [f for f in platform.home.rglob("*") if f.is_file() and secret.encode() in f.read_bytes()]
    assert holding == []


SUSPENDED = float(os.environ.get("PACED_SUSPENDED", "0"))  # seconds; the page's button gives a run 300
ONE_ARM = {"seeds": [11], "arms": [{"name": "paced", "scheme": "beta", "schedule": "forward"}]}


def tracked(platform: Platform, run: str) -> dict[str, tuple[str, str]]:
    """Label -> status and reason of the runs in MLflow of a flow run."""
    name = platform.runs()[run]["name"].partition(":")[0]
    client = MlflowClient(platform.url("mlflow"))
    experiment = client.get_experiment_by_name("paced")
    assert experiment
    found = client.search_runs([experiment.experiment_id], f"tags.`paced.run` = '{name}'")
    return {r.data.tags["paced.label"]: (r.info.status, r.data.tags.get("paced.reason", "")) for r in found}


def closed(platform: Platform, run: str) -> dict[str, tuple[str, str]]:
    """The same, when within a minute none of them spins any more."""

    def ended() -> dict[str, tuple[str, str]]:
        found = tracked(platform, run)
        return found if PARENT in found and all(status != "RUNNING" for status, _ in found.values()) else {}

    return eventually(ended, 60, "no run spins")


def test_suspended_and_resumed_from_the_page(platform: Platform, tmp_path: Path) -> None:
    """It stops and frees the device, waits as long as it has to, and goes on from what is committed: to the same bits
    as a run in a home of its own that nothing interrupts.
    """
    run = platform.trigger(**ONE_ARM | {"seeds": [12]})
    before = parts(platform.home)
    platform.in_a_stage(run)
    eventually(lambda: parts(platform.home) > before, 120, "a part is committed")
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    details = {"pause_timeout": soon, "pause_reschedule": True}
    state = {"type": "PAUSED", "name": "Suspended", "state_details": details}  # as the button sends it
    platform.api(f"/flow_runs/{run}/set_state", {"state": state})
    eventually(lambda: not platform.processes("forkserver", "prefect.engine"), 60, "its processes are gone")
    status, reason = closed(platform, run)[PARENT]
    assert status == "KILLED" and "suspended" in reason

    def kept() -> bool:
        found = platform.api(f"/flow_runs/{run}")["state"]
        assert (found["type"], found["name"]) == ("PAUSED", "Suspended")
        return found["state_details"]["pause_timeout"] > (datetime.now(UTC) + timedelta(days=300)).isoformat()

    eventually(kept, 60, "it may wait for days")
    time.sleep(SUSPENDED)
    assert kept()
    assert platform.api("/automations/filter", {}) == []
    platform.api(f"/flow_runs/{run}/resume", {})
    assert platform.reaches(run, *ENDED) == "COMPLETED"
    name = platform.runs()[run]["name"].partition(":")[0]
    summary = json.loads((platform.home / "runs" / name / "summary.json").read_text())
    assert sum(stage["reused"] or 0 for stage in summary["stages"] if stage["name"].startswith("12/")) > 0
    assert set(tracked(platform, run).values()) == {("FINISHED", "")}

    arm = ", ".join(f"{key}: {value}" for key, value in ONE_ARM["arms"][0].items())
    whole = run_paced(tmp_path / "home", "seeds=[12]", f"arms=[{{{arm}}}]")  # nothing interrupts it
    assert bits(platform.home, name) == whole.bits


def test_cancelled_from_the_page(platform: Platform) -> None:
    run = platform.trigger(**ONE_ARM)
    platform.in_a_stage(run)
    began = time.monotonic()
    platform.api(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    while left := platform.processes("forkserver", "prefect.engine"):
        assert time.monotonic() - began < 10, left
        time.sleep(0.1)
    # The worker reports it once it has loaded the flow, to look for hooks: long on a busy machine, and harmless.
    assert platform.reaches(run, *ENDED, within=180) == "CANCELLED"
    assert closed(platform, run)[PARENT][0] == "KILLED"

    def settled() -> bool:
        chosen = {"flow_runs": {"id": {"any_": [run]}}, "limit": 200}
        types = {task["state"]["type"] for task in platform.api("/task_runs/filter", chosen)}
        return bool(types) and not types & {"PENDING", "RUNNING"}

    eventually(settled, 90, "no stage stays pending or running")
