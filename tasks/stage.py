"""``stage_task`` turns a function that builds a stage's spec into the Prefect task that runs the stage."""

import contextvars
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypedDict

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.context import TaskRunContext
from prefect.tasks import Task

from paced.config.base import JsonObject
from paced.config.label import Label
from paced.errors import PacedError, Stopped, TransientError, UnforeseenError, explained
from paced.events import StageEvent
from paced.stage import Spec, finished
from paced.storage.artifacts import Ref, open_file, read_manifest
from paced.storage.files import write_record
from paced.storage.runs import from_home
from paced_tasks.console import display, progress_line, span
from paced_tasks.datasets import described, names, place_of, prepared
from paced_tasks.fleets.base import CopyRow
from paced_tasks.fleets.watch import run_shared
from paced_tasks.journal import Journal, flat
from paced_tasks.policies import DELAYS, RETRIES, StageIdentity, infrastructure
from paced_tasks.run import Run
from paced_tasks.tracking import Tracker

P = ParamSpec("P")
REFRESH = 5.0  # seconds between updates of a progress bar on the run page, and of live metrics
SHOWN = ("problems", "kept", "samples", "reused", "computed", "teacher_tokens", "steps", "tokens")

logger = logging.getLogger(__name__)
_failed: dict[str, PacedError] = {}  # flow run -> the first error that no retry mends


class NotStarted(Stopped):
    """A stage that had no turn, because another one has failed."""


class ArmSettings(TypedDict, total=False):
    """The settings of a stage's arm; empty of a stage that belongs to none."""

    arm: str
    scheme: str
    schedule: str
    seed: str
    weights: JsonObject


def stage_task(build: Callable[Concatenate[Run, str, P], Spec]) -> Task[Concatenate[Run, str, P], Ref]:
    """The Prefect task of a stage.

    ``build(run, label, ...)`` maps arguments to the spec, whose identity is the cache key. The task runs the stage in a
    supervised process, passes its progress on to the terminal, the run page and MLflow, and returns a reference.
    """

    @functools.wraps(build)
    def body(run: Run, label: str, *args: P.args, **kwargs: P.kwargs) -> Ref:
        flow_run = flow_run_id()
        if earlier := _failed.get(flow_run):
            raise NotStarted(f"not started, because another stage failed: {earlier}")
        try:
            spec = build(run, label, *args, **kwargs)
            # The artifact may be there although Prefect forgot it: no process is needed to find that out.
            return finished(spec) or _execute(run, label, spec)
        except Exception as error:
            told = explained(error)
            if not isinstance(told, TransientError):
                _failed.setdefault(flow_run, told)
                if not isinstance(told, Stopped):  # before anything that Prefect says of it
                    get_run_logger().error(f"{label}: {told}")
            if isinstance(told, UnforeseenError):
                raise  # where it comes from is in its traceback
            raise told from None

    return task(  # pyright: ignore[reportCallIssue]
        body,  # pyright: ignore[reportArgumentType]
        name=build.__name__,
        task_run_name="{label}",
        cache_policy=StageIdentity(build=build),
        persist_result=True,
        result_serializer="json",
        retries=RETRIES,
        retry_delay_seconds=DELAYS,
        retry_condition_fn=infrastructure,
    )


def flow_run_id() -> str:
    """The flow run that the running task belongs to."""
    context = TaskRunContext.get()
    return str(context.task_run.flow_run_id) if context else ""


def note_of(run: Run, label: Label) -> Path:
    """Where it is noted that a stage really ran, and in which flow run."""
    return run.folder / "executed" / f"{label.file}.json"


@functools.cache
def tracker_of(folder: Path, home: str) -> Tracker:
    """One tracker a run and process."""
    return Tracker(folder, Path(home), folder.name)


def _execute(run: Run, label: str, spec: Spec) -> Ref:
    began, seconds, last_flush = time.time(), 0.0, time.monotonic()
    journal, tracker, page = Journal(run.folder, label), tracker_of(run.folder, run.home), RunPage(label)
    story = get_run_logger()
    inputs = {name: ref.identity for name, ref in spec.inputs.items()}
    begin_journal(journal, run, spec.stage, spec.identity, spec.settings, inputs)
    journal.resume()

    def listen(event: StageEvent) -> None:
        nonlocal began, seconds, last_flush
        if event["event"] == "started":  # the wait for the device is not the stage's time
            began = time.time()
        if event["event"] == "done":
            seconds = time.time() - began
        display.event(label, event)
        page.event(event)
        if event["event"] == "log":
            story.info(f"{label}: {event['message']}")
        elif event["event"] == "warning":  # on the run's page, too, as all of this package's
            logger.warning("%s: %s", label, event["message"])
        if event["event"] == "metric":
            journal.metrics(event["step"], prefixed(label, event["values"]))
        if time.monotonic() - last_flush > REFRESH:
            last_flush = time.monotonic()
            # In this context, so that what it warns of is this flow run's.
            within = contextvars.copy_context().run
            threading.Thread(target=within, args=(tracker.flush, label), daemon=True).start()

    try:
        ref = run_shared(spec, Label.parse(label), run.folder, listen, page.fleet)
    except BaseException as error:
        display.done(label, str(error) if isinstance(error, TransientError) else "stopped")
        raise
    note = {"label": label, "flow_run": flow_run_id(), "began": began, "seconds": seconds}
    write_record(note_of(run, Label.parse(label)), note | {"path": from_home(ref.folder, Path(run.home))})
    close_journal(journal, ref)
    page.close()
    counts = read_manifest(ref.folder).counts
    told = ", ".join([span(seconds), *(f"{counts[k]:,.0f} {k.replace('_', ' ')}" for k in SHOWN if k in counts)])
    display.done(label, told)
    story.info(f"{label}: {told}")
    return ref


def prefixed(label: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Metric keys ``stage/metric``: the label's name is the stage's within its arm."""
    name = Label.parse(label).name
    return {f"{name}/{k}": float(v) for k, v in values.items()}


def spelled(key: str) -> str:
    """A key of evaluation.json as MLflow shows it: ``arithmetic/accuracy_low`` for ``arithmetic/low``."""
    group, _, name = key.rpartition("/")
    return f"{group}/{ {'mean': 'accuracy', 'low': 'accuracy_low', 'high': 'accuracy_high'}.get(name, name) }"


def begin_journal(
    journal: Journal,
    run: Run,
    stage: str,
    identity: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """Note once what a stage is made from; ``inputs`` maps names to identities."""
    tags = {"paced.stage": stage, "paced.identity": identity}
    if not journal.begin(tags, {**config, **arm_of(run, Label.parse(journal.label))}, identity):
        return
    for name, digest in inputs.items():
        if name in ("problems", "file") or name.startswith("benchmark/"):
            benchmark = name.partition("/")[2] or (Label.parse(journal.label).benchmark if name == "file" else None)
            place = place_of(run.recipe, benchmark)
            context = "evaluation" if benchmark else "training"
            if name == "file":
                journal.input(name, digest, str(place), context, {"profile": {"files": names(place)}})
            else:
                folder = prepared(run.home, digest)
                journal.input(name, digest, str(folder), context, described(folder, place))


def arm_of(run: Run, label: Label) -> ArmSettings:
    """The settings of a stage's arm, so that two stages of one kind can be told apart where they are compared."""
    if run.purpose != "training":
        return {"arm": label.arm} if label.arm in run.arms else {}
    for arm in run.recipe.arms:
        if arm.name == label.arm:
            return {
                "arm": label.arm,
                "scheme": arm.scheme,
                "schedule": arm.schedule,
                "seed": "" if label.seed is None else str(label.seed),
                "weights": run.recipe.weights_of(arm).read_by([arm.scheme]),
            }
    return {}


def close_journal(journal: Journal, ref: Ref) -> None:
    """Note what came out: counts, results, the step-wise metrics that the live stream missed, the manifest."""
    manifest = read_manifest(ref.folder)
    names = {file.name for file in manifest.files}
    if "metrics.jsonl" in names:
        for line in open_file(ref, "metrics.jsonl").read_text().splitlines():
            values = json.loads(line)
            journal.metrics(values.pop("step"), prefixed(journal.label, values))
    journal.metrics(0, prefixed(journal.label, {**manifest.counts, "seconds": manifest.seconds}))
    for name in ("weights.json", "evaluation.json", "comparison.json"):
        if name in names:
            found = flat(json.loads(open_file(ref, name).read_text()))
            numbers = {k.replace(".", "/"): v for k, v in found if isinstance(v, int | float)}
            if name == "evaluation.json":
                numbers = {spelled(k): v for k, v in numbers.items()}
            journal.metrics(0, prefixed(journal.label, numbers))
            journal.file(ref.folder / name)
    journal.file(ref.folder / "manifest.json")
    journal.end("FINISHED")


class RunPage:
    """A stage on the Prefect run page while it runs: a bar with rate and time left, and its fleet's copies as a table.

    A page that fails stops no stage.
    """

    def __init__(self, label: str):
        self._label = label
        self._key = "".join(c if c.isalnum() else "-" for c in label.lower())
        self._bar: Any = None
        self._table: Any = None
        self._last = self._last_table = 0.0
        self._warned = False

    def event(self, event: StageEvent) -> None:
        if event["event"] != "progress" or time.monotonic() - self._last < REFRESH:
            return
        self._last = time.monotonic()
        self._show(100 * event["done"] / max(1, event["total"]), progress_line(event))

    def fleet(self, rows: list[CopyRow], last: bool) -> None:
        """What becomes of each copy; the ``last`` rows are shown in any case."""
        if not last and time.monotonic() - self._last_table < REFRESH:
            return
        self._last_table = time.monotonic()
        self._tried(lambda: self._draw(rows))

    def close(self) -> None:
        if self._bar is not None:
            self._show(100.0, "done")

    def _show(self, share: float, text: str) -> None:
        def draw() -> None:
            if self._bar is None:
                self._bar = create_progress_artifact(share, key=f"progress-{self._key}", description=text)
            else:
                update_progress_artifact(self._bar, share, description=text)

        self._tried(draw)

    def _draw(self, rows: list[CopyRow]) -> None:
        if self._table is None:
            about = f"{self._label}: the copies of its fleet"
            table = [dict(row) for row in rows]
            self._table = create_table_artifact(table, key=f"fleet-{self._key}", description=about)
            return
        with get_client(sync_client=True) as client:
            client.update_artifact(self._table, ArtifactUpdate(data=json.dumps(rows)))

    def _tried(self, draw: Callable[[], None]) -> None:
        try:
            draw()
        except Exception as error:  # whatever a server does
            if not self._warned:
                self._warned = True
                reason = " ".join(str(error).split())[:200]
                logger.warning(
                    "%s: the run page does not show its progress (%s): the stage goes on", self._label, reason
                )
