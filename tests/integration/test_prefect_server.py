"""Prefect's server: its database under several writers, and who may ask it."""

import logging
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import ROOT, Server, environment, eventually
from prefect import task
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_SSL_CERT_FILE, PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Pending, Running
from proxy import PASSWORD, USER, Proxy, nginx

from paced.errors import DataError
from paced_deployments import hosts, submitters, worker
from paced_tasks import owner
from paced_tasks.reason import not_run, paced_flow
from paced_tasks.who import SUBMITTER

UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
PROGRAM = """
import asyncio, sys
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from paced_deployments.prefect_server import take_turns

if sys.argv[2] == "turns":
    take_turns()

async def count(database, engine):
    session = await database.session(engine)
    async with session, database.begin_transaction(session):
        (n,) = (await session.execute(sa.text("SELECT n FROM t"))).one()
        await asyncio.sleep(0.05)  # what a server does between reading and writing
        await session.execute(sa.text("UPDATE t SET n = :n"), {"n": n + 1})

async def main():
    database = AioSqliteConfiguration("sqlite+aiosqlite:///" + sys.argv[1])
    engine = await database.engine()
    await asyncio.gather(*(count(database, engine) for _ in range(4)))

asyncio.run(main())
"""


@pytest.mark.parametrize(("turns", "says"), [("turns", ""), ("no", "database is locked")])
def test_transactions_that_read_and_then_write_wait_for_each_other(turns: str, says: str, tmp_path: Path) -> None:
    """Without turns SQLite refuses: when that is no longer so, Prefect needs no help."""
    path = tmp_path / "t.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (n INTEGER)")
        database.execute("INSERT INTO t VALUES (0)")
    command = [sys.executable, "-c", PROGRAM, str(path), turns]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert says in outcome.stderr and (outcome.returncode == 0) is not bool(says)
    if not says:
        with sqlite3.connect(path) as database:
            assert database.execute("SELECT n FROM t").fetchone() == (4,)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has, beside this host's own names, the name ``trainer.example``."""
    home = tmp_path_factory.mktemp("guarded")
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    env = environment(home, settings | {hosts.VARIABLE: "trainer.example", submitters.VARIABLE: "X-Forwarded-User"})
    command = [sys.executable, "-m", "paced_deployments.prefect_server", "server", "start"]
    with Server(command, "/api/health", env, home.parent / "guarded.log") as server:
        yield server


@pytest.mark.parametrize("path", ["/", "/api/health", "/api/csrf-token?client=a", "/api/flow_runs/filter", "/docs"])
def test_another_sites_name_is_refused_on_every_route(guarded: Server, path: str) -> None:
    """A page whose name points at 127.0.0.1 (DNS rebinding), and a page that sends requests from elsewhere."""
    port = guarded.port
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": f"localhost.evil.example:{port}"},
        {"Host": f"evil.example@localhost:{port}x"},
        {"Host": f"localhost:{port}", "Origin": "http://evil.example"},
        {"Host": f"localhost:{port}", "Origin": "null"},
    ):
        for method in ("GET", "POST", "OPTIONS"):
            answer = httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers)
            assert answer.status_code == 403, (method, headers)
            assert len(answer.text.splitlines()) == 1 and "--allowed-hosts" in answer.text


def test_no_route_of_the_api_answers_another_site(guarded: Server) -> None:
    with httpx.Client(base_url=guarded.url, timeout=60) as client:  # the list of them takes long to make
        routes = client.get("/api/openapi.json").json()["paths"]
        assert len(routes) > 100
        for path, methods in routes.items():
            for method in methods:
                assert client.request(method, path, headers={"Host": "evil.example"}).status_code == 403, (method, path)


def test_its_own_names_are_answered(guarded: Server) -> None:
    port = guarded.port
    for name in ("localhost", "127.0.0.1", "trainer.example", "TRAINER.example", "[::1]"):
        own = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
        assert httpx.get(f"http://127.0.0.1:{port}/api/health", headers=own).status_code == 200, name
        assert httpx.get(f"http://127.0.0.1:{port}/api/health", headers={"Host": name}).status_code == 200, name


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Host": "localhost", "Origin": "https://evil.example"}])
def test_a_websocket_of_another_site_is_refused(guarded: Server, headers: dict[str, str]) -> None:
    answer = httpx.get(f"http://127.0.0.1:{guarded.port}/api/events/in", headers=UPGRADE | headers)
    assert answer.status_code == 403


def test_who_asked_is_on_the_run(guarded: Server) -> None:
    """As the proxy before the server says, whatever the request itself claims; and nobody where it says nothing."""
    url, alice = f"{guarded.url}/api", {"X-Forwarded-User": "alice"}
    flow = httpx.post(f"{url}/flows/", json={"name": "f"}).json()["id"]
    claimed = {SUBMITTER: "mallory", "team": "blue"}
    for headers, label in ((alice, {SUBMITTER: "alice"}), ({}, {})):
        body = {"flow_id": flow, "labels": claimed, "parameters": {"text": "é" * 70_000}}  # more than one chunk
        run = httpx.post(f"{url}/flow_runs/", json=body, headers=headers)
        assert run.status_code == 201
        assert run.json()["parameters"] == body["parameters"]
        found = {k: v for k, v in run.json()["labels"].items() if k in claimed}
        assert found == {"team": "blue"} | label
    deployment = httpx.post(f"{url}/deployments/", json={"name": "d", "flow_id": flow}).json()["id"]
    for many, body in (("", {"labels": claimed}), ("/bulk", [{}, {"labels": claimed}])):
        assert httpx.post(f"{url}/deployments/{deployment}/create_flow_run{many}", json=body, headers=alice).is_success
    runs = httpx.post(f"{url}/flow_runs/filter", json={"deployments": {"id": {"any_": [deployment]}}}).json()
    assert [run["labels"][SUBMITTER] for run in runs] == ["alice"] * 3
    for content in (b"{", b"[1]", b'"x"'):
        assert httpx.post(f"{url}/flow_runs/", content=content, headers=alice).status_code == 422


@pytest.fixture(scope="module")
def proxy(guarded: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with nginx(tmp_path_factory.mktemp("nginx"), guarded.url) as proxy:
        yield proxy


def test_behind_a_proxy_with_users(guarded: Server, proxy: Proxy) -> None:
    """The documents' own: a password says who asks, and without one nobody is let in."""
    trust = ssl.create_default_context(cafile=str(proxy.certificate))
    for path in ("/", "/api/health", "/api/csrf-token?client=a", "/api/events/in"):
        for wrong in (None, (USER, "x"), ("paced", PASSWORD)):
            url = f"https://127.0.0.1:{proxy.port}{path}"
            assert httpx.get(url, auth=wrong, verify=trust, headers=UPGRADE).status_code == 401
    forged = {"X-Forwarded-User": "mallory"}
    with httpx.Client(base_url=proxy.api, auth=(USER, PASSWORD), verify=trust, headers=forged) as alice:
        assert alice.get("/health", headers={"Host": "evil.example"}).status_code == 403
        assert alice.get("/health", headers={"Host": f"trainer.example:{proxy.port}"}).status_code == 200
        run = {"flow_id": alice.post("/flows/", json={"name": "f"}).json()["id"], "labels": {SUBMITTER: "mallory"}}
        assert alice.post("/flow_runs/", json=run).json()["labels"][SUBMITTER] == USER
        picture = {"key": "picture", "type": "markdown", "data": "x" * 3_000_000}
        assert alice.post("/artifacts/", json=picture).status_code == 201


def test_prefects_client_behind_a_proxy_with_users(guarded: Server, proxy: Proxy) -> None:
    """As on a laptop: what its tasks did reaches the server by a websocket."""

    @task
    def stage() -> None:
        pass

    @paced_flow("laptop", lambda: "laptop")
    def laptop() -> None:
        stage.with_options(name="0/rollouts")()

    changed = {
        PREFECT_API_URL: proxy.api, PREFECT_API_AUTH_STRING: f"{USER}:{PASSWORD}",
        PREFECT_API_SSL_CERT_FILE: str(proxy.certificate),
    }  # fmt: skip
    with temporary_settings(changed):
        laptop()
    question = {"flows": {"name": {"any_": ["laptop"]}}}
    (run,) = httpx.post(f"{guarded.url}/api/flow_runs/filter", json=question).json()
    assert (run["labels"][SUBMITTER], run["state"]["type"]) == (USER, "COMPLETED")

    def known() -> bool:
        log = [line["message"] for line in shown(guarded, "logs", run["id"], "TIMESTAMP_ASC")]
        stages = [task["state"]["type"] for task in shown(guarded, "task_runs", run["id"], "ID_DESC")]
        return stages == ["COMPLETED"] and "Finished in state Completed()" in log

    eventually(known, 30, "its stage and its log are there")


def shown(server: Server, kind: str, run: str, sort: str) -> list[dict[str, Any]]:
    """Logs or task runs of a flow run."""
    chosen = {"logs": {"flow_run_id": {"any_": [run]}}} if kind == "logs" else {"flow_runs": {"id": {"any_": [run]}}}
    return httpx.post(f"{server.url}/api/{kind}/filter", json=chosen | {"sort": sort}).json()


def failed(server: Server, flow: Any, error: type[Exception]) -> tuple[str, str, list[str]]:
    """The id of a flow run that fails, its state's message, and its log from the first error on."""
    with temporary_settings({PREFECT_API_URL: f"{server.url}/api"}), pytest.raises(error):
        flow()
    question = {"flows": {"name": {"any_": [flow.name]}}}
    (run,) = httpx.post(f"{server.url}/api/flow_runs/filter", json=question).json()
    assert (run["state"]["type"], run["state"]["name"]) == ("FAILED", "Failed")

    def errors() -> list[str]:
        lines = shown(server, "logs", run["id"], "TIMESTAMP_ASC")
        if not any("Finished in state" in line["message"] and not line["task_run_id"] for line in lines):
            return []
        return [line["message"] for line in lines if line["level"] >= logging.ERROR]

    return run["id"], run["state"]["message"], eventually(errors, 20, "its log is there")


def test_a_failed_run_says_why(guarded: Server) -> None:
    """In one line, and without a traceback; the stages that had no turn say so."""
    why = "train.jsonl:3: no answer"

    @task(retries=1)
    def breaks() -> None:
        raise DataError(why)

    @task
    def waits(_: Any) -> None:
        pass

    @paced_flow("breaks", lambda: "breaks")
    def fails() -> None:
        first = breaks.with_options(name="0/prepare").submit()
        behind = [waits.with_options(name=f"{n}/rollouts").submit(first) for n in range(3)]
        for future in (first, *behind):
            future.wait()
        not_run([future.task_run_id for future in behind], f"not started: {why}")
        first.result()

    run, message, errors = failed(guarded, fails, DataError)
    assert message == why == errors[0]  # once all tries are used up
    assert not any("Traceback" in line or "NotReady" in line for line in errors)

    def states() -> dict[str, tuple[str, str]]:
        tasks = shown(guarded, "task_runs", run, "ID_DESC")
        return {t["name"].rpartition("-")[0]: (t["state"]["name"], t["state"]["message"]) for t in tasks}

    idle = dict.fromkeys((f"{n}/rollouts" for n in range(3)), ("NotRun", f"not started: {why}"))
    assert states().items() >= idle.items()
    assert eventually(lambda: states()["0/prepare"][0] == "Failed", 10, "the server knows of it")
    assert states().items() >= idle.items()  # what the server learns late of them changes nothing


@pytest.mark.parametrize(
    ("state", "waited", "ran"),
    [
        (Cancelled(), ("NotRun", "not started: the run was cancelled"), ("Cancelled", "the run was cancelled")),
        (Crashed(message=worker.GONE), ("NotRun", f"not started: {worker.GONE}"), ("Crashed", worker.GONE)),
    ],
)
def test_the_stages_of_a_run_that_was_ended(
    guarded: Server, state: Any, waited: tuple[str, str], ran: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker says what became of them, once: a run cancelled or killed can not. Of another project's runs nothing."""
    monkeypatch.setattr(worker, "SETTLED", timedelta(0))

    @task
    def stage() -> None:
        pass

    @paced_flow("ended", lambda: "ended")
    def ended() -> None:
        pass

    with temporary_settings({PREFECT_API_URL: f"{guarded.url}/api"}), get_client(sync_client=True) as client:
        runs = {mine: client.create_flow_run(ended) for mine in (True, False)}
        client.request("PATCH", f"/flow_runs/{runs[True].id}/labels", json={owner.LABEL: "elsewhere:1:1"})
        tasks = {
            (mine, name): client.create_task_run(stage, run.id, name, name=name, state=now())
            for mine, run in runs.items()
            for name, now in (("0/rollouts", Running), ("0/teacher", Pending), ("0/prepare", Completed))
        }
        for run in runs.values():
            client.set_flow_run_state(run.id, state, force=True)
        worker.end_stages(client)

        def found(mine: bool, name: str) -> tuple[str, str]:
            state = client.read_task_run(tasks[mine, name].id).state
            assert state
            return state.name, state.message or ""

        assert [found(True, name) for name in ("0/teacher", "0/rollouts")] == [waited, ran]
        assert found(True, "0/prepare") == ("Completed", "")
        assert [found(False, name)[0] for name in ("0/teacher", "0/rollouts")] == ["Pending", "Running"]


def test_an_unforeseen_error_has_its_traceback_below(guarded: Server) -> None:
    @paced_flow("unforeseen", lambda: "unforeseen")
    def fails() -> None:
        raise ValueError("two\nlines")

    _, message, errors = failed(guarded, fails, ValueError)
    assert message == "ValueError: two lines"
    first, *more = errors[0].splitlines()
    assert first == message and more[0].startswith("Traceback")
