"""Retraining on real files, with real registries and a real endpoint that is told.

One home, one story: nothing yet, a first champion, a better one, a worse challenger, rollback; then the same data under
MLflow's own server, which dies before the decision. The worse challenger is trained by a schedule, in a worker.
"""

import http.server
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
import yaml
from harness import (
    COMMIT,
    ROOT,
    TINY,
    Command,
    Outcome,
    Server,
    commits_since,
    end_worker,
    environment,
    eventually,
    gone,
    mlflow_server,
    paced,
    picture,
    prefect_server,
    told,
)  # fmt: skip
from mlflow import MlflowClient
from mlflow.models import get_model_info
from prefect.blocks.system import Secret
from prefect.blocks.webhook import Webhook
from prefect.settings import PREFECT_API_URL, temporary_settings
from safetensors.torch import load_file, save_file

from paced.config import Retraining
from paced.config.reading import load_recipe
from paced.errors import CacheError, ConfigError, DataError
from paced.stage import exclusive
from paced.storage.housekeeping import garbage
from paced.storage.identity import short
from paced.tiny.world import tasks
from paced_deployments import definitions
from paced_deployments import environment as settings_of
from paced_flows.retrain import Busy, alone
from paced_tasks.notify import signature
from paced_tasks.registry import Registry, registered

if TYPE_CHECKING:
    from playwright.sync_api import Page

MLFLOW = "http://127.0.0.1:5000"  # where the pages of a database are expected
SETTINGS = (
    "rollouts.samples=4",
    "training={steps: 6, batch: 16, learning_rate: 6.0e-4, warmup: 2, betas: [0.9, 0.98]}",
    "arms=[{name: plain, scheme: uniform, schedule: forward}, {name: paced, scheme: beta, schedule: forward}]",
    "evaluation.samples=1",
    "evaluation.benchmarks.0.data={source: tiny, problems: 192, mix: {1: 1, 2: 1}, seed: 1000}",
    "evaluation.benchmarks.1.data.problems=16",
    "data.problems=100",  # fewer than a week brings, all of which is taken
)
THOROUGH = "training={steps: 36, batch: 32, learning_rate: 5.0e-4, warmup: 2, betas: [0.9, 0.98]}"
RUINOUS = "training={steps: 4, batch: 16, learning_rate: 0.05, warmup: 1}"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVERY = 20  # seconds between firings of the schedule; the worker takes one run at a time


def week(folder: Path, name: str, mix: dict[int, float], seed: int, problems: int) -> None:
    """A file of new problems; its name is there only once it is whole."""
    drawn = (task for _, task in zip(range(problems), tasks(seed, mix), strict=False))
    part = folder / f"{name}.part"
    part.write_text("".join(json.dumps({"question": task.prompt}) + "\n" for task in drawn))
    part.rename(folder / f"{name}.jsonl")


class World(NamedTuple):
    """A home, the folder it watches, a student with much to learn again, and who is told."""

    home: Path
    watch: Path
    student: Path
    prefect: Server
    told: list[dict[str, Any]]

    def settings(self, model: str = "tiny") -> list[str]:
        return [f"student.path={self.student}", f"name={model}", *SETTINGS]

    def arguments(self, *more: str, model: str = "tiny") -> list[str]:
        words = [word for setting in self.settings(model) for word in ("--set", setting)]
        return ["retrain", str(TINY), "--watch", str(self.watch), "--settle", "0.5", "--forgetting-limit", "40",
                "--webhook", "told", "--webhook-secret", "key", *words, *more]  # fmt: skip

    def env(self, **more: str) -> dict[str, str]:
        return {"PREFECT_API_URL": self.prefect.url + "/api"} | more

    def retrain(self, *more: str) -> Outcome:
        outcome = paced(self.home, *self.arguments(*more), env=self.env())
        assert outcome.status == 0, outcome.err
        return outcome

    def api(self, path: str, body: Any = None, method: str = "POST") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.prefect.url}/api{path}", data, {"Content-Type": "application/json"}, method=method
        )

        def answered() -> tuple[Any] | None:
            try:
                with urllib.request.urlopen(request) as answer:
                    return (json.loads(answer.read() or "null"),)
            except urllib.error.HTTPError as error:
                if error.code != 503:  # a locked database: Prefect's own clients ask again
                    raise
            return None

        return eventually(answered, 60, path)[0]

    def state(self, flow: str) -> tuple[str, str]:
        """Name and message of the final state of the last run of a flow, as Prefect's server has it."""
        question = {"flows": {"name": {"any_": [flow]}}, "sort": "END_TIME_DESC", "limit": 1}
        state = self.api("/flow_runs/filter", question)[0]["state"]
        assert state["type"] == "COMPLETED"
        return state["name"], state["message"]

    def named(self, message: str) -> str:
        """The name of the state with a message."""
        states = [run["state"] for run in self.api("/flow_runs/filter", {"flows": {"name": {"any_": ["retrain"]}}})]
        return next(state["name"] for state in states if state["message"] == message)

    def fired(self) -> list[tuple[str, str]]:
        """State and message of the runs that the schedule has begun and that have ended, in order.

        A firing that none had time for is skipped, and the next one takes its place.
        """
        question = {
            "deployments": {"name": {"any_": ["retrain"]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}},
            "sort": "START_TIME_ASC",
        }
        runs = self.api("/flow_runs/filter", question)
        assert all(run["auto_scheduled"] for run in runs)
        began = [run["state"] for run in runs if run["state"]["name"] != "Skipped"]
        return [(state["type"], state["message"]) for state in began]

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}")

    def aliases(self, client: MlflowClient, model: str = "tiny") -> dict[str, int]:
        return {alias: int(version) for alias, version in client.get_registered_model(model).aliases.items()}


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Keeps the JSON that is posted to it."""

    told: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        signed = signature(SECRET, self.headers["webhook-id"], int(self.headers["webhook-timestamp"]), body)
        if signed["webhook-signature"] == self.headers["webhook-signature"]:  # else nobody is told
            self.told.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("retrain")
    student = folder / "student"
    shutil.copytree(ROOT / "paced" / "tiny" / "student", student)
    noise = torch.Generator().manual_seed(0)
    weights = {
        name: w + 0.4 * w.std() * torch.randn(w.shape, generator=noise) if w.ndim > 1 else w
        for name, w in load_file(student / "model.safetensors").items()
    }
    save_file(weights, student / "model.safetensors", metadata={"format": "pt"})
    for name in ("home", "in"):
        (folder / name).mkdir()
    told: list[dict[str, Any]] = []
    endpoint = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Told", (Endpoint,), {"told": told}))
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    with prefect_server(folder / "home" / "prefect", folder / "prefect.log") as server:
        world = World(folder / "home", folder / "in", student, server, told)
        with temporary_settings({PREFECT_API_URL: f"{server.url}/api"}):
            Webhook(url=f"http://127.0.0.1:{endpoint.server_port}/hook").save("told")
            Secret(value=SECRET).save("key")
        yield world
    endpoint.shutdown()
    gone(world.home)


def test_no_new_data_and_a_half_written_file(world: World) -> None:
    """A short run that says so; a file that grows while it is looked at is not taken."""
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.05):
            with (world.watch / "growing.jsonl").open("a") as file:
                file.write('{"question": "75+6="}\n')

    writer = threading.Thread(target=write)
    writer.start()
    try:
        outcome = world.retrain()
    finally:
        done.set()
        writer.join()
        (world.watch / "growing.jsonl").unlink()
    assert outcome.out == f"no new data in {world.watch}: 0 known, 1 still being written\n"
    assert world.state("retrain") == ("No new data", outcome.out.strip())
    assert world.told == []
    assert not (world.home / "runs").exists()


@pytest.fixture(scope="module")
def waiting(world: World) -> Outcome:
    """A week that teaches too little."""
    week(world.watch, "week1", {1: 1}, seed=6, problems=60)
    return world.retrain("--least-kept", "61")


def test_a_week_that_teaches_too_little_waits(world: World, waiting: Outcome) -> None:
    """It is sampled, which the next retraining need not do again; nothing is trained, decided, noted or told."""
    assert re.fullmatch(
        r"tiny: waits: of the problems in 1 files \d+ problems have a positive weight, of at least 61 \(least_kept\)\n",
        waiting.out,
    )
    assert world.state("retrain") == ("Waiting", waiting.out.strip())
    assert world.told == []
    assert not (world.home / "retrain" / "tiny" / "ledger.json").exists()
    assert not list((world.home / "artifacts").glob("t*/*/manifest.json"))  # of stages teacher and train


@pytest.fixture(scope="module")
def first(world: World, waiting: Outcome) -> Outcome:
    """The first champion; a second retraining is refused while the first one runs."""
    command = Command(world.home, *world.arguments("--notify", f"tee -a {world.home}/told.jsonl"), env=world.env())
    command.until(lambda: "run tiny-" in command.err, "the challenger's run begins")
    refused = paced(world.home, *world.arguments(), env=world.env())
    assert command.status is None
    assert refused.status == 0
    assert refused.out == "tiny: another retraining is running, this one does nothing (overlap refuse)\n"
    outcome = command.finish()
    assert outcome.status == 0, outcome.err
    return outcome


def test_a_first_champion(world: World, first: Outcome) -> None:
    assert first.out.startswith("tiny: version 1 takes the place of the recipe's student: arithmetic +"), first.out
    assert world.state("retrain") == ("Promoted", first.out.strip())
    assert world.named("tiny: another retraining is running, this one does nothing (overlap refuse)") == "Refused"
    assert world.aliases(world.client) == {"champion": 1}
    [told] = world.told
    lines = (world.home / "told.jsonl").read_text()
    assert told == json.loads(lines) and lines.endswith("}\n")
    assert (told["event"], told["model"], told["champion"], told["challenger"]) == ("promoted", "tiny", 1, 1)
    assert told["files"] == [f"{world.watch}/week1.jsonl"]
    assert told["figures"]["arithmetic"]["low"] > 0
    # The recipe's last arm trains the challenger, and no other.
    assert {a["name"] for a in json.loads((world.home / "runs" / told["run"] / "run.json").read_text())["arms"]} == {
        "paced"
    }


def test_what_a_version_says(world: World, first: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    client, run = world.client, world.home / "runs" / world.told[0]["run"]
    stages = {s["label"]: s["identity"] for s in json.loads((run / "run.json").read_text())["stages"]}
    version = client.get_model_version("tiny", "1")
    expected = {
        "identity": stages["paced/0/train_forward"], "data": stages["0/prepare"],
        "answers": stages["paced/0/teacher"], "run": run.name, "parent": "recipe", "decision": "promoted",
        "trained_on": f"{world.watch}/week1.jsonl",
    }  # fmt: skip
    assert {key: version.tags[key] for key in expected} == expected
    figure = json.loads((run / "summary.json").read_text())["arms"]["paced"]["accuracy"]
    assert f"| accuracy | {100 * figure['mean']:.1f} [" in version.description
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{world.home / 'mlflow' / 'mlflow.db'}")
    path = client.download_artifacts(version.run_id, "model")
    signature = get_model_info(path).signature
    assert signature.params.to_dict()[0]["name"] == "temperature"
    assert signature.inputs.input_names() == ["prompt"]


@pytest.fixture(scope="module")
def second(world: World, first: Outcome) -> Outcome:
    week(world.watch, "week2", {1: 1, 2: 2}, seed=7, problems=200)
    return world.retrain("--notify", "false", "--set", THOROUGH)


def test_a_better_challenger(world: World, second: Outcome) -> None:
    """Trained from the champion, on the new file alone; a notification that fails costs a warning."""
    assert second.out.startswith("tiny: version 2 takes the place of version 1: arithmetic +"), second.out
    assert "warning: notification by command false failed: exit status 1" in second.err
    # The run's page has the warning, too.
    logged = world.api("/logs/filter", {"logs": {"level": {"ge_": logging.WARNING}}, "limit": 200})
    assert any("notification by command false failed: exit status 1" in line["message"] for line in logged)
    assert world.aliases(world.client) == {"champion": 2}
    told = world.told[-1]
    assert (told["event"], told["files"]) == ("promoted", [f"{world.watch}/week2.jsonl"])
    stages = json.loads((world.home / "runs" / told["run"] / "run.json").read_text())["stages"]
    counts = {s["label"]: s["counts"] for s in stages}
    assert 180 <= counts["0/prepare"]["problems"] <= 200  # those that stand in a benchmark are left out
    assert counts["base/evaluate"]["computed"] == 0  # judged before, as a challenger
    # How this week differs from the one before is said and shown.
    assert re.search(r"tiny: the new problems and those before: length 0\.[56]\d \(by chance up to 0\.", second.err)
    [picture] = world.api("/artifacts/filter", {"artifacts": {"key": {"any_": ["drift"]}}})
    assert picture["type"] == "image" and picture["data"].startswith("data:image/png")
    tags = {n: world.client.get_model_version("tiny", str(n)).tags for n in (1, 2)}
    assert tags[2]["student"] == tags[1]["model"]
    assert (tags[2]["parent"], tags[2]["replaced"]) == ("1", "1")


@contextmanager
def scheduled(world: World) -> Iterator[None]:
    """The deployment 'retrain' in a worker's hands, with a schedule that has a recipe of its own."""
    recipe = load_recipe(TINY, (*world.settings(), RUINOUS))
    retraining = Retraining.model_validate(
        {
            "watch": str(world.watch), "settle": 0.5, "forgetting_limit": 40,
            "notify": {"webhook": "told", "webhook_secret": "key"},
        }
    )  # fmt: skip
    with temporary_settings({PREFECT_API_URL: f"{world.prefect.url}/api"}):
        definitions.work_pool()
        definitions.deploy(next(d for d in definitions.DEFINITIONS if d.name == "retrain"))
    world.api("/work_pools/paced", {"concurrency_limit": 1}, "PATCH")
    deployment = world.api("/deployments/name/retrain/retrain", method="GET")["id"]
    parameters = {"recipe": recipe.model_dump(mode="json"), "retraining": retraining.model_dump(mode="json")}
    every = {"schedule": {"interval": EVERY}, "active": True, "parameters": parameters}
    (schedule,) = world.api(f"/deployments/{deployment}/schedules", [every])
    tracking = f"sqlite:///{world.home / 'mlflow' / 'mlflow.db'}"
    (world.home / "allowed.yaml").write_text(yaml.safe_dump({"folders": [str(world.home.parent)]}))
    own = settings_of.settings(world.home)
    own |= world.env(PREFECT_WORKER_QUERY_SECONDS="1", MLFLOW_TRACKING_URI=tracking)
    with (world.home.parent / "worker.log").open("w") as log, subprocess.Popen(
        [sys.executable, "-m", "paced_deployments.worker"], stdout=log, stderr=log, cwd=ROOT,
        env=environment(world.home, own), start_new_session=True,
    ) as worker:  # fmt: skip
        try:
            yield
            world.api(f"/deployments/{deployment}/schedules/{schedule['id']}", method="DELETE")
            going = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
            eventually(lambda: not world.api("/flow_runs/count", going), 120, "the last run ends")
        finally:
            end_worker(worker)


@pytest.fixture(scope="module")
def third(world: World, second: Outcome) -> list[str]:
    """What the schedule's runs say, until one has found week 3 and the next has found nothing more."""

    def said(number: int) -> list[str]:
        runs = world.fired()
        assert {state for state, _ in runs} <= {"COMPLETED"}
        return [message for _, message in runs] if len(runs) >= number else []

    with scheduled(world):
        before = eventually(lambda: said(1), 300, "the schedule fires")
        week(world.watch, "week3", {1: 1}, seed=8, problems=60)
        eventually(lambda: len(set(said(1))) > 1, 300, "a run finds the new file")
        number = next(i for i, message in enumerate(said(1)) if message != before[0])
        return eventually(lambda: said(number + 2), 300, "the schedule fires again")[number - 1 :]


def test_a_schedule_takes_a_worse_challenger_and_keeps_it_out(world: World, third: list[str]) -> None:
    nothing, kept, again = third[:3]
    assert nothing == f"no new data in {world.watch}: 2 known"
    assert kept.startswith("tiny: version 2 stays champion, version 3 is worse: arithmetic -"), kept
    assert again == f"no new data in {world.watch}: 3 known"
    assert [world.named(message) for message in third[:3]] == ["No new data", "Kept", "No new data"]
    assert world.aliases(world.client) == {"champion": 2, "challenger": 3}
    assert (world.told[-1]["event"], world.told[-1]["champion"]) == ("kept", 2)
    assert world.client.get_model_version("tiny", "3").tags["reason"] == kept
    # The worker knows no command that names a commit, and is told of none: the run is tagged with that of the code.
    run = world.client.get_run(world.client.get_model_version("tiny", "3").run_id)
    assert run.data.tags["paced.submitter"] == "schedule"
    assert run.data.tags["paced.commit"].removesuffix("-dirty") in commits_since(COMMIT)


def test_what_the_pages_show(world: World, third: list[str], page: "Page", tmp_path: Path) -> None:
    """The list of runs tells the outcomes; a run's page has on top what was decided, on which files, and the tables."""
    flow = world.api("/flows/filter", {"flows": {"name": {"any_": ["retrain"]}}})[0]["id"]
    page.set_viewport_size({"width": 1300, "height": 850})
    # It lists ten at first, and on a slow machine the schedule fires often while a challenger is trained.
    page.goto(f"{world.prefect.url}/flows/flow/{flow}?runs.limit=100")
    for outcome in ("Promoted", "Kept", "No new data"):
        page.get_by_text(outcome, exact=True).first.wait_for()
    picture(page, tmp_path, "prefect-retrainings")
    chosen = {"artifacts": {"key": {"any_": ["summary"]}}, "flows": {"name": {"any_": ["retrain"]}}}
    told = "\n".join(artifact["data"] for artifact in world.api("/artifacts/filter", chosen))
    for part in (
        f"**kept**: {third[1]}", f"- `{world.watch}/week3.jsonl`",
        f"[Version 3 of tiny]({MLFLOW}/#/models/tiny/versions/3?", "| arm | accuracy |", "| paced - base | accuracy |",
    ):  # fmt: skip
        assert part in told


def test_rollback(world: World, third: list[str]) -> None:
    outcome = paced(world.home, "rollback", "tiny", "--webhook", "told", "--webhook-secret", "key", env=world.env())
    assert outcome.status == 0, outcome.err
    assert outcome.out == "tiny: version 1 is champion again, version 2 no longer is\n"
    assert (world.told[-1]["event"], world.told[-1]["champion"]) == ("rolled_back", 1)
    assert world.aliases(world.client)["champion"] == 1
    assert world.client.get_model_version("tiny", "2").tags["rolled_back"].endswith("to version 1")
    registry = Registry(world.home, "tiny")
    for to, says in (
        (None, "version 1 is the first champion of tiny: name another with --to"),
        (1, "--to 1: is the champion already"),
        (9, "--to 9: tiny has no such version"),
    ):
        with pytest.raises(ConfigError, match=says):
            registry.rollback(to)
    assert (undone := registry.rollback(2)).event == "restored"
    assert (undone.before, undone.after) == (1, 2)
    shown = told(world.home, "champion", "tiny")
    assert shown.status == 0, shown.err
    moves = [line.split()[1] for line in shown.out.splitlines()[:-2]]
    assert moves == ["promoted", "promoted", "rolled_back", "restored"]
    assert world.told[1]["message"] in shown.out
    assert shown.out.endswith("champion of tiny: version 2\ncompared with it: 1 challengers, versions 3\n")
    with pytest.raises(ConfigError, match="no such model"):
        Registry(world.home, "other").rollback(None)
    with pytest.raises(ConfigError, match="is no name of a model"):
        Registry(world.home, "../x' or 1=1")


def test_an_interrupted_decision(
    world: World, third: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's server dies between training and decision: one line; the next trigger only decides."""
    for name in ("week2", "week3"):
        (world.watch / f"{name}.jsonl").unlink()
    arguments = world.arguments(model="served")
    with mlflow_server(world.home / "mlflow" / "mlflow.db", tmp_path / "log") as server:
        env = world.env(MLFLOW_TRACKING_URI=server.url)
        command = Command(world.home, *arguments, env=env)
        command.until(lambda: "run served-" in command.err, "the challenger's run begins")
        server.stop(signal.SIGKILL)
        failed = command.finish()
        assert failed.status == 1
        [line] = [line for line in failed.err.splitlines() if line.startswith("error: ")]
        assert f"MLflow at {server.url} does not take what run served-" in line
        assert "Traceback" not in failed.err
        assert (world.told[-1]["event"], world.told[-1]["message"]) == ("failed", f"served: {line[7:]}")
        assert not (world.home / "retrain" / "served" / "ledger.json").exists()

        server.start()
        outcome = paced(world.home, *arguments, env=env)
        assert outcome.status == 0, outcome.err
        assert " cached, 0 computed" in outcome.err
        assert outcome.out.startswith("served: version 1 takes the place of the recipe's student: ")
        client = MlflowClient(server.url)
        assert world.aliases(client, "served") == {"champion": 1}
        assert world.told[-1]["event"] == "promoted"

        # Killed after the promotion, before the file was noted: said again, not trained again.
        (world.home / "retrain" / "served" / "ledger.json").unlink()
        again = paced(world.home, *arguments, env=env)
        assert (again.status, again.out) == (0, outcome.out)
        assert "run served-" not in again.err
        assert len(client.search_model_versions("name = 'served'")) == 1

        # A host that has not trained the champion fetches its weights, and takes no others.
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        elsewhere = Registry(tmp_path / "elsewhere", "served")
        champion = elsewhere.champion()
        assert champion
        fetched = elsewhere.weights(champion)
        assert fetched.is_relative_to(tmp_path / "elsewhere")
        assert (fetched / "model.safetensors").read_bytes() == (
            Registry(world.home, "served").weights(champion) / "model.safetensors"
        ).read_bytes()
        shutil.rmtree(tmp_path / "elsewhere")
        source = client.get_model_version("served", "1").source.removeprefix("file://")
        stored = Path(source) / "model.safetensors"
        stored.write_bytes(stored.read_bytes()[:-1] + b"\0")
        with pytest.raises(DataError, match=r"version 1 of served in MLflow are not those that were registered"):
            elsewhere.weights(champion)


def test_a_challenger_that_waits_for_a_person(world: World, third: list[str]) -> None:
    """Of files that other models were trained on, so nothing is computed."""
    outcome = paced(world.home, *world.arguments("--approval", model="asked"), env=world.env())
    assert outcome.status == 0, outcome.err
    waits = "asked: version 1 may take the place of the recipe's student and waits for 'paced promote asked 1': arithm"
    assert outcome.out.startswith(waits), outcome.out
    assert (world.told[-1]["event"], world.told[-1]["champion"]) == ("passed", None)
    assert world.aliases(world.client, "asked") == {"challenger": 1}
    with exclusive(world.home / "retrain" / "asked" / "retrain.lock"):
        refused = paced(world.home, "promote", "asked", "1", env=world.env())
    assert refused.status == 1, refused.err
    assert "a retraining of asked is running" in refused.err
    promoted = paced(world.home, "promote", "asked", "1", env=world.env())
    assert promoted.out == "asked: version 1 is champion now, by approval\n", promoted.err
    assert world.aliases(world.client, "asked") == {"champion": 1}
    ledger = json.loads((world.home / "retrain" / "asked" / "ledger.json").read_text())
    assert [f["outcome"] for f in ledger["files"]] == ["passed", "promoted"]


def test_nothing_spins_in_mlflow(world: World, third: list[str]) -> None:
    """After promotions and refusals, no new data, a firing that another one keeps out, failures and interruptions."""
    experiment = world.client.get_experiment_by_name("paced")
    assert experiment
    assert world.client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'") == []


def test_garbage(world: World, third: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs deleted: what registered versions were made of stays, and what a coming retraining will take."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry, tags = Registry(world.home, "tiny"), registered(world.home)
    assert {v.tags["identity"] for v in registry.versions().values()} <= {t["identity"] for t in tags}
    copies = list((registry.folder / "data").iterdir())
    assert len(copies) == 3
    assert not {*copies} & {*garbage(world.home, False, tags)[0]}  # their runs can still be run again
    shutil.rmtree(world.home / "runs")
    (pending := registry.folder / "data" / "pending").mkdir()
    (pending / "0123456789ab-week4.jsonl").touch()
    idle = [registry.folder / "arriving", registry.folder / "weights" / "of-no-version"]
    for folder in idle:
        folder.mkdir(parents=True, exist_ok=True)  # arriving may be left of a retraining that found nothing
    with alone(registry, Retraining(watch="in")), pytest.raises(CacheError, match="a retraining is running"):
        garbage(world.home, True, tags)
    found, _ = garbage(world.home, True, tags)
    assert {*copies, *idle} <= set(found)
    assert not any(folder.exists() for folder in found)
    assert pending.exists()
    for version in registry.versions().values():
        assert registry.weights(version).is_relative_to(world.home / "artifacts")
        for made, stage in (("data", "prepare"), ("answers", "teacher")):
            name = short(version.tags[made])
            assert (world.home / "artifacts" / stage / name / "manifest.json").exists()
    assert not list(world.home.glob("artifacts/rollouts/*"))
    assert garbage(world.home, False, tags)[0] == []


def test_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one holds the turn another is refused, or waits until it is given back."""
    registry, order, tries = Registry(tmp_path, "tiny"), list[str](), list[Path]()

    def noted(path: Path, wait: bool) -> AbstractContextManager[None]:
        tries.append(path)
        return exclusive(path, wait)

    monkeypatch.setattr("paced_flows.retrain.exclusive", noted)

    def queued() -> None:
        with alone(registry, Retraining(watch="in", overlap="queue")):
            order.append("second")

    with alone(registry, Retraining(watch="in")):
        with pytest.raises(Busy), alone(registry, Retraining(watch="in", overlap="refuse")):
            pass
        waiting = threading.Thread(target=queued)
        waiting.start()
        eventually(lambda: len(tries) >= 4, 20, "it has tried twice")
        order.append("first")
    waiting.join(20)
    assert order == ["first", "second"]
