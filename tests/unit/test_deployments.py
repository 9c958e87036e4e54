"""What teams deploy with: nothing open, no password that is known, nothing that contradicts the code."""

import json
import os
import re
import shlex
from datetime import timedelta
from pathlib import Path

import prefect
import pytest
import yaml
from compose import FOLDER, MissingVariableError, services, variables
from harness import ROOT
from prefect.settings import Settings as PrefectSettings
from supervisor.options import UnhosedConfigParser

from paced.config.reading import load_recipe
from paced.errors import ConfigError
from paced_deployments import environment, platform
from paced_deployments.definitions import DEFINITIONS, sections
from paced_deployments.platform import POOL, RUNS, SERVER, Settings, literal, quoted
from paced_deployments.platform import services as platform_services
from paced_tasks.addresses import tracking_uri

SECRETS = {name: f"{name.lower()}-of-the-test" for name in (
    "POSTGRES_PASSWORD", "PREFECT_PASSWORD", "MLFLOW_PASSWORD", "MLFLOW_SECRET_KEY",
)}  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_no_password_has_a_default(name: str) -> None:
    with pytest.raises(MissingVariableError, match=rf"^{name}: in \.env"):
        services(SECRETS | {name: ""})


def test_every_credential_is_a_secret_of_the_owner() -> None:
    """What looks like one in the services' environment holds one of the four, and nothing else does."""
    named = re.compile("PASSWORD|SECRET|AUTH_STRING|CONNECTION_URL|STORE_URI")
    for service, definition in services(SECRETS).items():
        for key, value in definition["environment"].items():
            assert bool(named.search(key)) == any(secret in value for secret in SECRETS.values()), (service, key)


def test_the_example_names_every_variable_and_fills_in_none() -> None:
    lines = [line for line in (FOLDER / ".env.example").read_text().splitlines() if line and line[0] != "#"]
    assert {line.removesuffix("=") for line in lines} == variables()
    assert SECRETS.keys() < variables()
    assert "**/.env" in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_services() -> None:
    """Published on loopback alone, with a health check, of an image of one version; one waits for what it needs."""
    found = services(SECRETS)
    assert set(found) == {"postgres", "prefect", "mlflow", "worker"}
    for name, service in found.items():
        assert re.search(r":\d+\.\d+", service["image"]), name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert all(needed["condition"] == "service_healthy" for needed in service.get("depends_on", {}).values())
    assert [name for name, service in found.items() if "ports" in service] == ["prefect", "mlflow"]
    open_to_all = services(SECRETS | {"BIND": "0.0.0.0"})
    assert open_to_all["mlflow"]["ports"] == ["0.0.0.0:5000:5000"]


def test_the_image_is_built_from_the_pinned_set() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    assert re.fullmatch(r"FROM python:3\.11\.\d+-slim-\w+", next(line for line in lines if line.startswith("FROM")))
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 2
    assert all(line.endswith("--constraint constraints.txt") for line in installs)
    pinned = (ROOT / "constraints.txt").read_text()
    torch = re.search(r"^torch==(\S+)$", pinned, re.MULTILINE)
    assert torch
    assert f"ARG TORCH=torch=={torch[1]}" in lines
    auth = services(SECRETS)["mlflow"]["environment"]["MLFLOW_AUTH_CONFIG_PATH"]
    assert "WORKDIR /opt/paced" in lines and (ROOT / Path(auth).relative_to("/opt/paced")).exists()
    assert all(f"\n{name}==" in pinned for name in ("Flask-WTF", "psycopg2-binary", "asyncpg"))


def test_a_kubernetes_job_is_prefects_own_with_a_device_a_home_and_secrets() -> None:
    mine = json.loads((ROOT / "deployments" / "kubernetes" / "base-job-template.json").read_text())
    views = Path(prefect.__file__).parent / "server" / "api" / "collections_data" / "views"
    workers = json.loads((views / "aggregate-worker-metadata.json").read_text())
    theirs = workers["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    added = {"gpus", "home_claim", "secret"}
    assert mine["variables"]["properties"].keys() == theirs["variables"]["properties"].keys() | added
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(mine["job_configuration"])))
    assert used == mine["variables"]["properties"].keys()
    pod = mine["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    assert container["envFrom"] == [{"secretRef": {"name": "{{ secret }}"}}]
    dockerfile = (FOLDER / "Dockerfile").read_text()
    home = Path(next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "home"))
    assert f"PACED_HOME={home} " in dockerfile
    given = mine["variables"]["properties"]["env"]["default"]
    assert given.items() <= (environment.settings(home) | RUNS).items()
    # The rest of them is the worker's own.
    assert {name for name in RUNS if "WORKER" not in name and "RUNNER" not in name} <= given.keys()


def test_what_prefect_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Prefect's own settings read it, of ``paced up`` and of compose."""
    for name, value in SERVER.items():
        monkeypatch.setenv(name, value)
    server = PrefectSettings().server
    assert server.services.db_vacuum.enabled_vacuum_types >= {"events", "flow_runs"}
    assert server.services.db_vacuum.retention_period == timedelta(days=180)
    assert server.events.retention_period == timedelta(days=14)
    assert SERVER.items() <= services(SECRETS)["prefect"]["environment"].items()


def test_a_new_home_is_its_owners_alone(tmp_path: Path) -> None:
    """One that is there keeps its mode, and who can look into it is told."""
    home = tmp_path / "new" / "home"
    environment.make_folders(home)
    assert home.stat().st_mode & 0o777 == 0o700
    for mode, told in ((0o700, False), (0o750, False), (0o755, True), (0o701, True)):
        home.chmod(mode)
        environment.make_folders(home)
        assert home.stat().st_mode & 0o777 == mode
        assert bool(environment.open_to_others(home)) == told


def test_prefect_yaml_has_every_deployment_with_all_its_parameters() -> None:
    """That a server then holds the same is in tests/integration/test_team.py."""
    listed = yaml.safe_load((ROOT / "src" / "prefect.yaml").read_text())["deployments"]
    assert [(d["name"], d["entrypoint"]) for d in listed] == [(d.name, d.entrypoint) for d in DEFINITIONS]
    for entry, definition in zip(listed, DEFINITIONS, strict=True):
        keys = ["recipe", *definition.more]
        assert entry["parameters"] == {key: f"{{{{ paced.{definition.name}.{key} }}}}" for key in keys}
        assert entry["work_pool"] == {"name": POOL} and entry["enforce_parameter_schema"]


def test_a_schedule_of_the_short_form_names_a_recipe() -> None:
    """One that was made when the form took a whole recipe is told where that belongs."""
    assert sections({"recipe": "tiny"}, short=True)["recipe"] == load_recipe(ROOT / "recipes" / "tiny.yaml")
    with pytest.raises(ConfigError, match="the deployment distill-advanced takes a whole one"):
        sections({"recipe": {"name": "tiny"}}, short=True)


def test_who_may_ask_a_platform_that_listens_to_all(tmp_path: Path) -> None:
    for host, private in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.5", False)):
        settings = Settings(host=host)
        mlflow = platform_services(tmp_path, settings)[1].command
        allowed = mlflow[mlflow.index("--allowed-hosts") + 1].split(",")
        assert settings.private == private
        assert "*" not in allowed
        assert {"localhost:*", "127.0.0.1:*", f"{settings.name}:*"} <= set(allowed)
        assert mlflow[mlflow.index("--host") + 1] == host
        assert host == "0.0.0.0" or host in settings.mlflow


@pytest.mark.parametrize(
    ("host", "running", "joined"),
    [
        ("127.0.0.1", False, False),
        ("0.0.0.0", False, False),
        ("127.0.0.1", True, True),
        ("10.0.0.5", False, True),  # of a platform on another host
    ],
)
def test_servers_of_another_home_at_the_same_ports_are_not_joined(
    host: str, running: bool, joined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(platform, "answers", lambda url: True)
    monkeypatch.setattr(platform, "connect", lambda home: object() if running else None)
    platform.folder(tmp_path).mkdir()
    platform.remember(tmp_path, Settings(host=host))
    platform.join(tmp_path)
    assert ("PREFECT_API_URL" in os.environ, "MLFLOW_TRACKING_URI" in os.environ) == (joined, joined)


def test_a_home_by_another_path_is_the_same_platforms(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert platform.control(tmp_path / "link") == platform.control(tmp_path)


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        ({"prefect_port": 99999}, "--prefect-port 99999: a port is a number from 1 to 65535"),
        ({"mlflow_port": 0}, "--mlflow-port 0: a port is"),
        ({"mlflow_port": -1}, "--mlflow-port -1: a port is"),
        ({"mlflow_port": 4200}, "--mlflow-port 4200: Prefect's port too"),
    ],
)
def test_what_cannot_be_two_ports_is_refused(
    tmp_path: Path, ports: dict[str, int], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("connect", "supervise"):  # nothing is asked, still less started
        monkeypatch.setattr(platform, name, lambda *_: pytest.fail("too late"))
    with pytest.raises(ConfigError, match=f"^{says}"):
        platform.up(tmp_path, Settings().model_copy(update=ports))
    assert not platform.folder(tmp_path).exists()


@pytest.mark.parametrize("word", ["/a %(x)s/%s", "$(touch x)", "a\\ b'\"c", "{d}|&;#", "a b"])
def test_supervisord_reads_paths_as_they_are(word: str) -> None:
    """By supervisord's own parser, as it reads a service's log and command."""
    conf = UnhosedConfigParser()
    conf.read_string(f"[program:x]\nstdout_logfile = {literal(word)}\ncommand = program {quoted(word)}\n")
    assert conf.saneget("program:x", "stdout_logfile", "") == word
    assert shlex.split(conf.saneget("program:x", "command", "")) == ["program", word]


@pytest.mark.parametrize("word", ["a ;b", "a #b", "a\nb"])
def test_a_path_that_supervisord_would_cut_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the path"):
        literal(word)


@pytest.mark.parametrize("uri", ["https://me:secret@mlflow.example.org", "postgresql://me:secret@db/mlflow"])
def test_a_password_in_the_tracking_address_is_refused(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        tracking_uri(tmp_path)
    assert "secret" not in str(refused.value)
