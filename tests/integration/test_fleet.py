"""Fleets: real copies fill a store; one is killed, all are stopped, their driver dies; the bits are one host's."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from batch import cluster
from forks import forked
from harness import TINY, Chain, Command, contents, eventually, processes_of, run_arguments

from paced.config import Fleet
from paced.config.label import Label
from paced.config.reading import load_recipe
from paced.errors import ConfigError, TransientError
from paced.events import StageEvent
from paced.stage import Spec, execute
from paced.storage import shared
from paced.storage.artifacts import read_manifest
from paced.storage.placing import exchange
from paced.storage.shared import SharedStore, objects_at
from paced_tasks.fleets import member, watch
from paced_tasks.fleets.base import Member
from paced_tasks.fleets.kinds import check

WHOLE = "PACED_CLUSTER" in os.environ


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedStore:
    """A folder that hosts share; stages of this process run in it, since they have no device to give back."""
    (folder := tmp_path / "store").mkdir()
    monkeypatch.setenv("PACED_STORE", str(folder))
    shared._shared.cache_clear()
    monkeypatch.setattr(watch, "run_stage", lambda spec, log, listen, leased=True: execute(spec, listen))
    return SharedStore(objects_at(str(folder)))


def stage(chain: Chain, name: str, home: Path, **fleet: Any) -> Spec:
    """A stage of the chain in another home, whose inputs lie in the store, with a fleet."""
    spec = chain.specs[name]
    inputs = dict(spec.inputs)
    for what, ref in inputs.items():
        if ref.kind != "model":
            place = home / ref.folder.relative_to(chain.home)
            shutil.copytree(ref.folder, place)
            exchange(place)
            inputs[what] = ref.model_copy(update={"path": str(place)})
    runtime = spec.runtime.model_copy(update={"fleet": Fleet.model_validate(fleet)})
    return spec.model_copy(update={"home": str(home), "inputs": inputs, "runtime": runtime})


def copies(store: SharedStore) -> list[psutil.Process]:
    """Living copies that work for a store, in the order of their numbers."""
    found = list[tuple[str, psutil.Process]]()
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "paced_tasks.fleets.member" in words and f'"store":"{store.url}"' in words[-2]:
            found.append((words[-1], process))
    return [process for _, process in sorted(found, key=lambda pair: pair[0])]


class Told:
    """What people are told of a stage, and what the run's page shows."""

    def __init__(self, then: Callable[[StageEvent], object] = lambda event: None):
        self.lines, self.warnings, self.rows, self._then = list[str](), list[str](), list[dict[str, Any]](), then

    def listen(self, event: StageEvent) -> None:
        if event["event"] in ("log", "warning"):
            (self.lines if event["event"] == "log" else self.warnings).append(event["message"])
        self._then(event)

    def show(self, rows: list[dict[str, Any]], last: bool) -> None:
        self.rows = rows


def test_a_copy_that_dies_is_told_and_the_other_draws_the_rest(
    chain: Chain, store: SharedStore, tmp_path: Path
) -> None:
    """In one line; not one bit is another than one host's, and no copy is left."""
    spec = stage(chain, "rollouts", tmp_path / "home", kind="local", copies=2, scratch=str(tmp_path))
    told = Told()

    def kill() -> None:
        eventually(lambda: len([*store.objects.list("store/samples")]) > 2, 240, "a part is there, and its collection")
        os.killpg(copies(store)[0].pid, signal.SIGKILL)

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        ref = watch.run_shared(spec, Label.parse("0/rollouts"), tmp_path / "run", told.listen, told.show)
        killed.result()
    assert contents(ref.folder) == contents(chain.refs["rollouts"].folder)
    assert copies(store) == []
    [line] = told.warnings
    assert line.startswith("fleet: copy 0 ") and "has ended (killed by signal 9, see " in line
    assert line.endswith("; 1 of 2 copies go on with what is missing")
    assert "fleet: 2 local copies are started for 10 parts" in told.lines
    assert [row["copy"] for row in told.rows] == [0, 1] and told.rows[1]["rows"] >= 400
    assert all(row["host"] for row in told.rows)
    assert not [*store.objects.list("fleets")]


def drive(spec: str, run: str, store: str) -> None:
    """Be a driver that is killed as soon as it has started its fleet."""
    os.environ["PACED_STORE"] = store
    watch.run_stage = lambda spec, log, listen, leased=True: execute(spec, listen)

    def die(event: StageEvent) -> None:
        if event["event"] == "log" and "copies are started" in event["message"]:
            os.kill(os.getpid(), signal.SIGKILL)

    watch.run_shared(
        Spec.model_validate_json(spec), Label.parse("a/0/sample_0"), Path(run), die, lambda rows, last: None
    )


if WHOLE:

    def test_copies_finish_without_their_driver(chain: Chain, store: SharedStore, tmp_path: Path) -> None:
        """If they are to; the next run then computes nothing."""
        spec = stage(chain, "sample", tmp_path / "home", copies=1, if_driver_dies="finish")
        driver = forked(drive, spec.model_dump_json(), str(tmp_path / "run"), store.url)
        driver.join(60)
        assert driver.exitcode == -signal.SIGKILL
        assert copies(store)
        eventually(lambda: not copies(store), 120, "the copy ends")
        told = Told()
        ref = watch.run_shared(spec, Label.parse("a/0/sample_0"), tmp_path / "run", told.listen, told.show)
        assert contents(ref.folder) == contents(chain.refs["sample"].folder)
        assert told.rows == [] and not any("copies are started" in line for line in told.lines)

    def test_ctrl_c_leaves_no_copy(store: SharedStore, tmp_path: Path) -> None:
        """10 s after it, neither the command nor a copy is there."""
        (scratch := tmp_path / "scratch").mkdir()
        fleet = f"runtime.fleet={{kind: local, copies: 1, scratch: {scratch}}}"
        run = Command(tmp_path / "home", *run_arguments(fleet, "runtime.processes=1"), env={"PACED_STORE": store.url})
        run.until(lambda: "fleet: 1 of 1 copies at work" in run.err, "a copy works")
        assert copies(store)
        run.signal(signal.SIGINT)
        eventually(lambda: not copies(store), 10, "no copy is left")
        assert not [*scratch.iterdir()]
        assert run.finish(30).status != 0
        eventually(lambda: not processes_of(tmp_path / "home"), 10, "all has ended")


def test_a_fleet_that_never_starts(
    chain: Chain, store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This host does all of it, or says why it does not."""
    monkeypatch.setattr(watch, "LATE", 0.0)
    monkeypatch.setattr(watch, "LOOK", 0.1)
    fleet = {"kind": "command", "copies": 2, "command": ["sh", "-c", "exit 3; {copy}"]}
    spec, told = stage(chain, "sample", tmp_path / "home", **fleet, alone_after=None), Told()
    label, run = Label.parse("a/0/sample_0"), tmp_path / "run"
    with pytest.raises(TransientError, match=r"no copy of the fleet is left \(exit status 3, see .*0.log\): what is"):
        watch.run_shared(spec, label, run, told.listen, told.show)
    runtime = spec.runtime.model_copy(update={"fleet": Fleet.model_validate(fleet)})
    ref = watch.run_shared(spec.model_copy(update={"runtime": runtime}), label, run, told.listen, told.show)
    assert contents(ref.folder) == contents(chain.refs["sample"].folder)
    assert read_manifest(ref.folder).counts["computed"] > 0
    assert "no copy is left" in told.warnings[1] and told.warnings[-1].endswith(": this host does what is left")


def test_a_host_that_draws_beside_its_fleet(
    chain: Chain, store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so whatever becomes of that."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (sbatch := tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1")
    sbatch.chmod(0o755)
    spec = stage(chain, "sample", tmp_path / "home", kind="slurm", copies=2, command=["sbatch"], here=True)
    told = Told()
    ref = watch.run_shared(spec, Label.parse("a/0/sample_0"), tmp_path / "run", told.listen, told.show)
    assert contents(ref.folder) == contents(chain.refs["sample"].folder)
    assert told.warnings == ["fleet: the fleet does not start (sbatch: error: invalid partition)"]


def test_slurm(chain: Chain, store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array job on two nodes draws all of it; no copy is left in the queue."""
    with cluster(tmp_path / "slurm") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        command = ["sbatch", f"--output={tmp_path}/%a.out", f"--chdir={tmp_path}"]
        spec, told = stage(chain, "rollouts", tmp_path / "home", kind="slurm", copies=2, command=command), Told()
        given = json.dumps({"kind": "slurm", "copies": 2, "command": command})
        check(load_recipe(TINY, (f"runtime.fleet={given}",)))
        ref = watch.run_shared(spec, Label.parse("0/rollouts"), tmp_path / "run", told.listen, told.show)
        queue = subprocess.run(["squeue", "--noheader", "--states=all", "--format=%T"], capture_output=True, text=True)
    assert contents(ref.folder) == contents(chain.refs["rollouts"].folder)
    assert queue.stdout.split() == ["COMPLETED"] * 2 and told.warnings == []
    assert sum(row["rows"] for row in told.rows) == 800


def test_what_a_copy_refuses(chain: Chain, store: SharedStore, tmp_path: Path) -> None:
    """A store that is not its driver's, and another version of the code."""
    given = Member(
        name="fleets/none", store=store.url, scratch=None, if_driver_dies="stop", identity="another",
        spec=chain.specs["rollouts"], leases=False,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"PACED_STORE=.*/store on .* is not the store of the host that the run was"):
        member.work(given, 0, tmp_path)
    with pytest.raises(ConfigError, match="makes something else of stage rollouts than the version that the run"):
        member.spec_here(given, tmp_path)
