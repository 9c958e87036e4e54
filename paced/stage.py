"""A stage is a program that turns a spec into an artifact.

``python -m paced STAGE --spec spec.json`` runs one anywhere. The program reads artifacts by reference, writes one
artifact, and speaks JSON lines on standard output: ``progress``, ``log``, ``metric``, and ``done`` or ``error`` last.
"""

import contextlib
import fcntl
import importlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from paced.config import Engine, Runtime
from paced.config.base import JsonObject
from paced.config.extensions import stamps
from paced.config.stages import (
    CompareConfig,
    DiagnoseConfig,
    EvaluateConfig,
    PreflightConfig,
    PrepareConfig,
    RolloutsConfig,
    StageConfig,
    TeacherConfig,
    TrainConfig,
    WeightsConfig,
)
from paced.errors import CacheError
from paced.events import Listener, StageEvent
from paced.storage.artifacts import File, Ref, commit, describe, is_finished, open_file, reference, stage_identity
from paced.storage.checks import comparing, settle
from paced.storage.claims import awaited, divided
from paced.storage.copies import make_room
from paced.storage.files import replacing, write_json, write_list
from paced.storage.identity import short
from paced.storage.placing import exchange, put_in_place, unfinished
from paced.storage.shared import shared
from paced.storage.store import ROW_GROUP, Collection, write_rows

if TYPE_CHECKING:
    import pandas as pd  # by each stage that reads a table: a flow's import does not wait for it

T = TypeVar("T")


class Stage(NamedTuple):
    """``program`` is imported only when the stage runs; a changed ``algorithm`` number makes old artifacts misses.

    ``config`` is what its task builds and its program reads. A stage that holds model weights, or the libraries that
    do, runs in a process of its own. ``shared``: all that needs the model is rows of the store, which hosts can divide.
    """

    program: str
    algorithm: int
    holds_weights: bool
    config: type[StageConfig]
    shared: bool = False


STAGES = {
    "prepare": Stage("paced.data.problems:prepare", 9, False, PrepareConfig),
    "preflight": Stage("paced.planning.preflight:preflight", 3, True, PreflightConfig),
    "rollouts": Stage("paced.sampling.rollouts:rollouts", 9, True, RolloutsConfig, shared=True),
    "weights": Stage("paced.weighting:weights", 1, False, WeightsConfig),
    "teacher": Stage("paced.distill.teacher:teacher", 10, True, TeacherConfig, shared=True),
    "train": Stage("paced.distill.train:train", 7, True, TrainConfig),
    "evaluate": Stage("paced.evaluation.evaluate:evaluate", 11, True, EvaluateConfig, shared=True),
    "diagnose": Stage("paced.diagnosis.diagnose:diagnose", 5, True, DiagnoseConfig),
    "compare": Stage("paced.evaluation.compare:compare", 3, False, CompareConfig),
}


class Spec(BaseModel):
    """What to run. ``config`` holds only what changes the result; ``runtime`` only what does not.

    ``engine`` samples the stage's model, if it samples; its kind changes the result, the rest of it does not.
    ``engines`` are those of a whole run, by role, for the stage that looks whether they can be used. A stage that
    ``waits`` computes no rows of the store itself: a fleet does, which whoever runs the stage starts.
    """

    model_config = ConfigDict(frozen=True)
    stage: str
    home: str
    config: JsonObject = {}
    inputs: dict[str, Ref] = {}
    runtime: Runtime = Runtime()
    engine: Engine = Engine()
    engines: dict[str, Engine] = {}
    waits: bool = False

    @property
    def settings(self) -> JsonObject:
        """All that changes the result: the engine, unless it is transformers, and the extensions that are named.

        Neither is there where there is nothing to say, so that what was made before has the same identity.
        """
        kind, extensions = self.engine.kind, stamps(self.config)
        found = dict(self.config)
        if kind != "transformers":
            found["engine"] = kind
        if extensions:
            found["extensions"] = {**extensions}
        return found

    @property
    def identity(self) -> str:
        inputs = {name: ref.identity for name, ref in self.inputs.items()}
        return stage_identity(self.stage, STAGES[self.stage].algorithm, self.settings, inputs)

    @property
    def folder(self) -> Path:
        """Where the artifact lies: found by identity alone."""
        return Path(self.home) / "artifacts" / self.stage / short(self.identity)


_NAMES = {stage.config: name for name, stage in STAGES.items()}


def spec_of(
    config: StageConfig,
    *,
    home: str,
    inputs: Mapping[str, Ref],
    runtime: Runtime | None = None,
    engine: Engine | None = None,
    engines: Mapping[str, Engine] | None = None,
) -> Spec:
    """The spec of the stage that ``config`` belongs to; ``engine`` is given where the stage samples its model."""
    return Spec(
        stage=_NAMES[type(config)],
        home=home,
        config=config.settings(),
        inputs=dict(inputs),
        runtime=runtime or Runtime(),
        engine=engine or Engine(),
        engines=dict(engines or {}),
    )


def emit(event: StageEvent) -> None:
    """One JSON line on standard output."""
    print(json.dumps(event), flush=True)


class Job:
    """What a stage program is given: its inputs, its configuration, and where to write.

    Attributes:
        folder: where the artifact's files are written; they take their place when all are there.
        work: a folder for checkpoints, kept when the stage is killed and removed when it is done.
        counts: numbers for the manifest.
        files: what the artifact holds so far.
        tell: takes events.
        resources: closed when the program ends, however it ends.
    """

    def __init__(self, spec: Spec, tell: Listener = emit):
        self.spec = spec
        self.tell = tell
        self.home = Path(spec.home)
        self.folder = unfinished(spec.folder)
        self.work = self.home / "work" / spec.folder.name
        self.runtime = spec.runtime
        self.counts: dict[str, float] = {}
        self.resources = contextlib.ExitStack()
        self.began = time.monotonic()
        self.files: list[File] = []
        self._here = 0  # rows of the store that this process has computed
        self._meters: dict[str, tuple[float, int, float, int]] = {}

    def input(self, name: str) -> Ref:
        return self.spec.inputs[name]

    def inputs(self, kind: str) -> dict[str, Ref]:
        """The inputs ``KIND/NAME``, by name."""
        named = (name.partition("/") for name in self.spec.inputs)
        return {name: self.input(f"{kind}/{name}") for first, _, name in named if first == kind and name}

    def file(self, name: str, file: str) -> Path:
        """One file of an input artifact, its digest checked."""
        return open_file(self.input(name), file)

    def json(self, name: str, file: str) -> Any:
        """What a JSON file of an input artifact holds, its digest checked."""
        return json.loads(self.file(name, file).read_text())

    def table(self, name: str, file: str, columns: list[str] | None = None) -> "pd.DataFrame":
        """A table of an input artifact, its digest checked."""
        import pandas as pd

        return pd.read_parquet(self.file(name, file), columns=columns, dtype_backend="pyarrow")

    def batches(self, name: str, file: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The same table part by part, for those whose memory is not to grow with it."""
        with pq.ParquetFile(self.file(name, file)) as table:
            yield from table.iter_batches(ROW_GROUP, columns=columns)

    def write(self, name: str, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
        """Write one table of the artifact, part by part as its rows come."""
        with replacing(self.folder / name) as temporary:
            count = write_rows(temporary, rows, schema)
        self.files.append(describe(self.folder / name, name, count))

    def write_json(self, name: str, value: Any) -> None:
        """Write one JSON file of the artifact."""
        write_json(self.folder / name, value)
        self.files.append(describe(self.folder / name, name))

    def write_list(self, name: str, values: Iterable[Any]) -> None:
        """Write one JSON file of the artifact, a list whose values are not all in memory."""
        write_list(self.folder / name, values)
        self.files.append(describe(self.folder / name, name))

    def add(self, name: str) -> None:
        """List a file that the program has written under ``folder`` itself."""
        self.files.append(describe(self.folder / name, name))

    def count_reused(self, wanted: int, computed: int) -> None:
        """Add to the counts how many of the wanted rows were computed, and how many found in the store."""
        for name, number in (("computed", computed), ("reused", wanted - computed)):
            self.counts[name] = self.counts.get(name, 0) + number

    def have(
        self,
        collection: Collection,
        parts: Sequence[Mapping[str, T]],
        compute: Callable[[Mapping[str, T], Callable[[int], None]], int],
        what: str,
    ) -> int:
        """Have all rows of some parts, each computed by whichever host has a hand free.

        Args:
            parts: cut alike on all hosts, each with rows that are missing; by key, what a row is computed from.
            compute: computes and commits what is missing of a part, and returns how many rows that were; it may call
                its second argument with how many there are so far.

        Returns:
            how many rows were computed here.
        """
        done, total = 0, sum(map(len, parts))

        def there(part: Mapping[str, object]) -> None:
            nonlocal done
            done += len(part)
            self.progress(done, total, what)

        def computed(part: Mapping[str, T]) -> int:
            number = compute(part, lambda n: self.progress(done + n, total, what))
            self._here += number
            return number

        if parts and self.runtime.fleet:
            self.tell({"event": "divides", "parts": len(parts)})
        if not self.spec.waits:
            return divided(collection, parts, computed, there, lambda line: self.log(f"{what}: {line}"))
        awaited(collection, parts, there, lambda: self.progress(done, total, what))
        return 0

    def log(self, message: str) -> None:
        self.tell({"event": "log", "message": message})

    def warn(self, message: str) -> None:
        """Say what somebody should look at, although the stage goes on."""
        self.tell({"event": "warning", "message": message})

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        self.tell({"event": "metric", "step": step, "values": dict(values)})

    def progress(self, done: int, total: int, what: str) -> None:
        """Report ``done`` of ``total`` with rate and time left: with each part and at the end, else once a second."""
        now = time.monotonic()
        began, first, last, here = self._meters.get(what, (now, done, 0.0, 0))
        if now - last < 1.0 and done < total and here == self._here:
            return
        self._meters[what] = (began, first, now, self._here)
        rate = (done - first) / (now - began) if now > began else 0.0
        left = (total - done) / rate if rate > 0 else None
        self.tell(
            {
                "event": "progress", "what": what, "done": done, "total": total, "rate": rate, "left": left,
                "here": self._here,
            }
        )  # fmt: skip

    def finish(self) -> Ref:
        """Commit the artifact and drop the work folder.

        Returns:
            the artifact; another process's, if that has finished the same stage first.
        """
        if STAGES[self.spec.stage].holds_weights:
            peak = self.counts.pop("peak_memory", 0) or peak_memory()
            if peak:  # what vLLM holds on a device, it holds in processes of its own
                self.counts["peak_memory"] = peak
        made = commit(
            self.folder,
            kind=self.spec.stage,
            identity=self.spec.identity,
            inputs={name: ref.identity for name, ref in self.spec.inputs.items()},
            config=self.spec.settings,
            algorithm=STAGES[self.spec.stage].algorithm,
            counts=self.counts,
            files=self.files,
            seconds=time.monotonic() - self.began,
        )
        ref = put_in_place(made, self.spec.folder)
        shutil.rmtree(self.work, ignore_errors=True)
        return ref


def peak_memory() -> int:
    """Most bytes held so far: on the device if there is one, else by this process."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def exclusive(path: Path, wait: bool = True) -> Generator[None]:
    """Hold a file lock; the kernel gives it back when the holder dies, however it dies.

    Raises:
        BlockingIOError: another holds it, and ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def finished(spec: Spec) -> Ref | None:
    """The artifact of this spec if it is already there and whole, here or in the shared store.

    Raises:
        CacheError: it is there, but of another schema version or damaged.
    """
    exchange(spec.folder)
    if not is_finished(spec.folder):
        return None
    ref = reference(spec.folder)
    if ref.identity != spec.identity:
        raise CacheError(
            f"{spec.folder} holds identity {ref.identity}, expected {spec.identity}: delete it and run again"
        )
    return ref


def execute(spec: Spec, tell: Listener = emit) -> Ref:
    """Run a stage in this process, or return the artifact that is already there; ``tell`` gets its events.

    Two processes that ask for the same identity at once take turns: the second finds the first one's artifact.
    """
    with exclusive(Path(spec.home) / "locks" / spec.folder.name):
        ref = finished(spec)
        if ref is None:
            module, _, function = STAGES[spec.stage].program.partition(":")
            program: Callable[[Job], None] = getattr(importlib.import_module(module), function)
            job = Job(spec, tell)
            if store := shared():
                make_room(job.home, store)
            shutil.rmtree(job.folder, ignore_errors=True)  # of one that was killed
            with comparing():
                with job.resources:
                    try:
                        program(job)
                    except Exception:
                        settle()  # what was read may be damaged, and the error only what that led to
                        raise
                ref = job.finish()
        tell({"event": "done", "ref": ref.model_dump()})
        return ref
