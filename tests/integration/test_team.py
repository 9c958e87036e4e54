"""The services of deployments/compose as processes: its commands, its environment, its databases in PostgreSQL."""

import base64
import itertools
import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from compose import services
from harness import BIN, ROOT, SMALL, TINY, Server, end_worker, environment, eventually, free_port, gone, need
from platforms import PATIENCE
from postgres import BIN as BINARIES
from postgres import MISSING, Postgres, postgres
from proxy import PASSWORD, USER, nginx

from paced.config.reading import load_recipe
from paced.tiny.world import tasks
from paced_tasks.journal import PARENT

PASSWORDS = {
    "POSTGRES_PASSWORD": "xq2f7d0cvw", "PREFECT_PASSWORD": "dd41c0e1b7a2", "MLFLOW_PASSWORD": "a90f3b77c1d8e2",
    "MLFLOW_SECRET_KEY": "77ab10cc42",
}  # fmt: skip
MLFLOW, PREFECT = (("paced", PASSWORDS[f"{name}_PASSWORD"]) for name in ("MLFLOW", "PREFECT"))
HOSTILE = """$(touch pwned) `touch pwned`; touch pwned & 'a' "b" %s {c} .. <script>"""
BRIEF = (
    "training.steps=4", "evaluation.benchmarks.0.data.problems=16",
    "evaluation.benchmarks.1.data.problems=8", "arms=[{name: paced, scheme: beta, schedule: forward}]",
)  # fmt: skip


class Team(NamedTuple):
    """The two servers, and what a client of theirs is told."""

    home: Path
    prefect: Server
    mlflow: Server
    client: Mapping[str, str]

    def api(self, path: str, body: Any = None) -> Any:
        status, answer = ask(f"{self.prefect.url}/api{path}", PREFECT, body=body)
        assert status < 300, (status, answer)
        return json.loads(answer)

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {d["name"]: d for d in self.api("/deployments/filter", {})}


def ask(
    url: str, user: tuple[str, str] | None = None, body: Any = None, method: str | None = None, **headers: str
) -> tuple[int, bytes]:
    """Status and body of an answer."""
    headers["Content-Type"] = "application/json"
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    need(BINARIES.exists(), MISSING)
    with postgres(PASSWORDS["POSTGRES_PASSWORD"]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def team(cluster: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    home = folder / "home"
    home.mkdir()
    found = services(PASSWORDS | {"USER_HEADER": "X-Forwarded-User"})

    def here(setting: str) -> str:
        """A setting of a container, as it is outside of it."""
        return setting.replace("/opt/paced", str(ROOT)).replace("@postgres:5432/", f"@127.0.0.1:{cluster.port}/")

    def start(name: str, path: str) -> Server:
        program, *arguments = found[name]["command"]
        place = folder / name
        place.mkdir()
        quiet = {"PREFECT_HOME": str(place), "PREFECT_LOGGING_SERVER_LEVEL": "WARNING"}
        given = {key: here(value) for key, value in found[name]["environment"].items()}
        return Server(
            [str(BIN / program), *arguments], path, environment(home, given | quiet), folder / f"{name}.log", 240, place
        )

    with ThreadPoolExecutor() as pool:
        starting = [pool.submit(start, *which) for which in (("prefect", "/api/health"), ("mlflow", "/health"))]
        prefect, mlflow = (future.result() for future in starting)
    addresses = {"PREFECT_API_URL": prefect.url + "/api", "MLFLOW_TRACKING_URI": mlflow.url}
    client = environment(home, found["worker"]["environment"] | addresses | {"PREFECT_HOME": str(home / "prefect")})
    client["PATH"] = f"{BIN}{os.pathsep}{client['PATH']}"
    with prefect, mlflow:
        yield Team(home, prefect, mlflow, client)
    gone(home)


def test_mlflow_asks_who_it_is(team: Team) -> None:
    for path in ("/", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"):
        assert ask(team.mlflow.url + path)[0] == 401
        assert ask(team.mlflow.url + path, (MLFLOW[0], "password1234"))[0] == 401
        assert ask(team.mlflow.url + path, MLFLOW)[0] == 200
        assert ask(team.mlflow.url + path, MLFLOW, Host="evil.example.org")[0] == 403
        assert ask(team.mlflow.url + path, MLFLOW, Host="mlflow:5000")[0] == 200
    create = f"{team.mlflow.url}/api/2.0/mlflow/experiments/create"
    assert ask(create, MLFLOW, body={"name": "x"}, Origin="http://evil.example.org")[0] == 403


def test_prefect_asks_who_it_is(team: Team) -> None:
    url = f"{team.prefect.url}/api/flow_runs/count"
    assert ask(url, body={})[0] == 401
    assert ask(url, ("paced", "paced"), body={})[0] == 401
    assert ask(url, PREFECT, body={}) == (200, b"0")


def test_users_of_their_own_before_prefect(team: Team, tmp_path: Path) -> None:
    """The documents' proxy gives the server's password in its users' place."""
    with nginx(tmp_path, team.prefect.url, ":".join(PREFECT)) as proxy:
        trust = ssl.create_default_context(cafile=str(proxy.certificate))
        for user, status in ((None, 401), (PREFECT, 401), ((USER, PASSWORD), 200)):
            answer = httpx.post(f"{proxy.api}/flow_runs/count", json={}, auth=user, verify=trust, timeout=60)
            assert answer.status_code == status


@pytest.fixture(scope="module")
def worker(team: Team) -> Iterator[None]:
    """The worker, which has registered the deployments before it takes its first run."""
    port, log = free_port(), team.home.parent / "worker.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            services(PASSWORDS)["worker"]["command"], env={**team.client, "PREFECT_WORKER_WEBSERVER_PORT": str(port)},
            cwd=ROOT, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip

    def healthy() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return ask(f"http://127.0.0.1:{port}/health")[0] == 200
        except OSError:
            return False

    eventually(healthy, PATIENCE, "the worker is healthy")
    yield
    end_worker(process)


@pytest.fixture(scope="module")
def run(team: Team, worker: None) -> str:
    """A flow run that the worker has carried out, of a model and a data file with hostile names."""
    student, data = (team.home.parent / "given" / f"{HOSTILE}{kind}" for kind in ("", ".jsonl"))
    shutil.copytree(ROOT / "paced" / "tiny" / "student", student)
    problems = itertools.islice(tasks(7, {1: 1, 2: 2, 3: 3}), 40)
    data.write_text("".join(json.dumps({"question": task.prompt}) + "\n" for task in problems))
    (team.home / "allowed.yaml").write_text(json.dumps({"folders": [str(student.parent)]}))
    paths = {"data": {"source": "tiny", "path": str(data)}, "student": {"path": str(student)}}
    recipe = load_recipe(TINY, (*SMALL, *BRIEF)).model_dump(mode="json") | paths
    path = f"/deployments/{team.deployments()['distill-advanced']['id']}/create_flow_run"
    run = team.api(path, {"parameters": {"recipe": recipe}})["id"]

    def end() -> str:
        time.sleep(0.5)  # a server on a busy machine has better things to answer
        state = team.api(f"/flow_runs/{run}")["state"]
        return state if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else ""

    assert (state := eventually(end, 240, "the run ends"))["type"] == "COMPLETED", state
    return run


@pytest.mark.usefixtures("run")
def test_a_run_of_the_worker_reports_to_both(team: Team) -> None:
    experiment = ask(f"{team.mlflow.url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=paced", MLFLOW)
    body = {"experiment_ids": [json.loads(experiment[1])["experiment"]["experiment_id"]]}
    runs = json.loads(ask(f"{team.mlflow.url}/api/2.0/mlflow/runs/search", MLFLOW, body=body)[1])["runs"]
    assert {PARENT, "paced/0", "paced/0/train_forward"} <= {
        tag["value"] for r in runs for tag in r["data"]["tags"] if tag["key"] == "paced.label"
    }
    # Links lead to where browsers find MLflow, which in a network of containers is elsewhere.
    links = team.api("/artifacts/filter", {"artifacts": {"key": {"any_": ["mlflow"]}}})
    assert "http://127.0.0.1:5000/#/experiments/" in links[0]["data"]


@pytest.mark.usefixtures("run")
def test_passwords_are_written_nowhere(team: Team, cluster: Postgres) -> None:
    """Neither by the flow and its stages nor by the servers: logs, artifacts, run folders, databases, as files hold."""
    cluster.execute("checkpoint")
    written = [file for folder in (team.home.parent, cluster.folder) for file in folder.rglob("*") if file.is_file()]
    assert len(written) > 100
    for secret in PASSWORDS.values():
        basic = base64.b64encode(f"paced:{secret}".encode())
        assert [file for file in written for word in (secret.encode(), basic) if word in file.read_bytes()] == []


@pytest.mark.usefixtures("run")
def test_hostile_names_of_models_and_files_are_only_names(team: Team) -> None:
    """The run above has ended well; nothing was started by them, written outside the home, or put into a page."""
    folder = team.home.parent
    expected = {"home", "given", "prefect", "mlflow", "prefect.log", "mlflow.log", "worker.log"}
    assert {path.name for path in folder.iterdir()} == expected
    assert {path.name for path in (folder / "given").iterdir()} == {HOSTILE, HOSTILE + ".jsonl"}
    for place in (folder, ROOT):
        assert not list(place.rglob("pwned"))
    (page,) = team.home.glob("runs/*/report.html")
    assert "<script" not in page.read_text()


@pytest.mark.usefixtures("worker")
def test_prefect_yaml_deploys_what_paced_up_does(team: Team) -> None:
    expected = team.deployments()
    assert expected
    for deployment in expected.values():
        ask(f"{team.prefect.url}/api/deployments/{deployment['id']}", PREFECT, method="DELETE")
    assert team.deployments() == {}
    command = [str(BIN / "prefect"), "--no-prompt", "deploy", "--all"]
    folder = ROOT / "src"
    done = subprocess.run(command, env=team.client, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = team.deployments()
    changing = {"id", "created", "updated", "last_polled", "status", "version_id", "version", "version_info"}
    for name in expected.keys() | found.keys():
        assert {k: v for k, v in found[name].items() if k not in changing} == {
            k: v for k, v in expected[name].items() if k not in changing
        }


def test_a_server_takes_the_kubernetes_template(team: Team) -> None:
    template = json.loads((ROOT / "deployments" / "kubernetes" / "base-job-template.json").read_text())
    pool = team.api("/work_pools/", {"name": "jobs", "type": "kubernetes", "base_job_template": template})
    assert pool["base_job_template"] == template


def test_users_and_a_changed_password(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/operations.md makes and changes them; the last test here, since the worker's password is the old one."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, team.client[name])
    from mlflow.server import get_app_client  # imports a web server, which the other tests need not wait for

    server = get_app_client("basic-auth", team.mlflow.url)
    server.create_user("alice", alices := "her-password-1234")
    server.update_user_admin("alice", False)
    assert ask(team.mlflow.url, ("alice", alices))[0] == 200
    server.update_user_password("paced", "another-password", MLFLOW[1])
    assert ask(team.mlflow.url, MLFLOW)[0] == 401
    assert ask(team.mlflow.url, ("paced", "another-password"))[0] == 200
