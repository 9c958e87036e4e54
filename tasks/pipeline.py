"""A run's stages as they are submitted, and what is left of them when the run ends: record, report, tracking."""

import base64
import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.futures import PrefectFuture
from prefect.tasks import Task

from paced.config.label import Label
from paced.errors import CacheError, NothingToLearn, PacedError, Stopped, TransientError, explained
from paced.storage.artifacts import Ref, read_manifest
from paced.storage.files import read_record, replacing, told_if_full, vouch, vouched, write_record
from paced.storage.identity import digest
from paced.storage.runs import BEGUN, Entry, RunSummary, from_home
from paced.storage.shared import probed
from paced_tasks import record
from paced_tasks.console import display, tell
from paced_tasks.ends import RESUMES, WATCHED, at_work, close
from paced_tasks.fleets import kinds
from paced_tasks.journal import PARENT, Journal
from paced_tasks.lineage import note_model
from paced_tasks.overview import overview
from paced_tasks.owner import cancelled
from paced_tasks.reason import not_run
from paced_tasks.replay import send, settle
from paced_tasks.run import Run
from paced_tasks.runner import stop_all
from paced_tasks.stage import NotStarted, begin_journal, close_journal, note_of, tracker_of

LOOK = 1.0  # seconds between looks whether a run that waits for its stages is to stop
logger = logging.getLogger(__name__)
PUBLISHED = "published.json"  # which bytes the tables and pictures of a run have


class Submitted(NamedTuple):
    label: Label
    future: PrefectFuture[Ref]


class Stages(Protocol):
    """Takes the stages of a run, in an order in which each comes after those that it reads."""

    run: Run

    def add(
        self, task: Task[Any, Ref], label: Label, after: Sequence[PrefectFuture[Ref]] = (), **arguments: Any
    ) -> PrefectFuture[Ref]:
        """A stage; its arguments may be what this has returned for others, and it may wait for some ``after`` them."""
        ...

    def first(self, task: Task[Any, Ref], label: Label, **arguments: Any) -> None:
        """A stage that every later one waits for."""
        ...


class Pipeline:
    """Submits stages; on leaving, waits for all of them and writes ``run.json``, report, journals and artifacts.

    Raises on leaving:
        PacedError: the first error that made a stage fail.
    """

    def __init__(self, run: Run, keep: bool = True):
        """``keep``: register the last arm's student as a model."""
        self.run, self._keep = run, keep
        self._summary: RunSummary | None = None
        self._submitted: list[Submitted] = []
        self._first: list[PrefectFuture[Ref]] = []
        self._tracker = tracker_of(run.folder, run.home)
        self._journal = Journal(run.folder, PARENT)
        self._working = contextlib.ExitStack()

    @property
    def summary(self) -> RunSummary:
        """Of the run, once it has ended well."""
        assert self._summary is not None
        return self._summary

    def __enter__(self) -> Self:
        kinds.check(self.run.recipe)
        for line in probed():
            display.say(f"warning: {line}")
            logger.warning("%s", line)
        tell(f"run {self.run.name} in {self.run.folder}")
        self._working.enter_context(at_work(self.run.folder))
        self._journal.resume()
        if not self._journal.has("begin"):
            self._journal.begin(record.tags(self.run), record.parameters(self.run))
            self._journal.file(self.run.folder / "recipe.yaml")
            self._journal.note(record.note(self.run))
        return self

    def add(
        self, task: Task[Any, Ref], label: Label, after: Sequence[PrefectFuture[Ref]] = (), **arguments: Any
    ) -> PrefectFuture[Ref]:
        """Submit a stage; its arguments may be the futures of others, and it may wait for some ``after`` them."""
        # Until a stage begins the page knows it by its task's name.
        named = task.with_options(name=str(label))
        future = named.submit(self.run, str(label), wait_for=[*self._first, *after], **arguments)
        self._submitted.append(Submitted(label, future))
        return future

    def first(self, task: Task[Any, Ref], label: Label, **arguments: Any) -> None:
        """Submit a stage that every later one waits for."""
        self._first = [self.add(task, label, **arguments)]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        refused: list[Exception] = [error] if isinstance(error, NothingToLearn) else []
        try:
            # Cancelled, suspended or terminated by Prefect, or the flow itself failed. Where too little is left to
            # learn from, what runs is of use to the next run.
            if error is not None and not refused:
                stop_all()
                return
            self._wait()
            with told_if_full(self.run.folder):
                self._close(refused)
        except BaseException as own:
            error = own
            raise
        finally:
            self._working.close()
            close(self.run.folder, *ending(error))
            # Who is told to stop, is to do so at once: the worker tells MLflow.
            if WATCHED not in os.environ or error is None or isinstance(error, Exception):
                self._tell()
        if self._summary is not None:
            create_markdown_artifact(overview(self.run), key="summary")

    def _wait(self) -> None:
        """Until all stages have ended, or the run is to stop."""
        try:
            for _, future in self._submitted:
                ended = threading.Event()
                future.add_done_callback(lambda _, ended=ended: ended.set())
                while not ended.wait(LOOK):
                    future.wait(timeout=0)  # raises if the run was suspended
                future.wait()
        except BaseException:
            stop_all()
            raise

    def _close(self, refused: Sequence[Exception] = ()) -> None:
        """Record what has become of every stage, and raise the first error, of the flow's own or of one."""
        failures = [*refused]
        context = FlowRunContext.get()
        flow_run_id = str(context.flow_run.id) if context and context.flow_run else ""
        entries, idle = list[Entry](), list[UUID]()
        for label, future in self._submitted:
            # A stage behind one that failed stays pending: it has no result.
            result: Any = future.result(raise_on_failure=False) if future.state.is_final() else None
            if result is None or isinstance(result, NotStarted):
                idle.append(future.task_run_id)
            if isinstance(result, Ref):
                entries.append(self._record(label, result, flow_run_id))
            elif isinstance(result, Exception):
                failures.append(result)
                self._fail(label, result)
        failure = first_cause(failures)
        self._write(entries, "completed" if failure is None else "failed", failure)
        cached = sum(entry.cached for entry in entries)
        done = f"{len(entries)} of {len(self._submitted)} stages done"
        tell(f"{done}: {cached} cached, {len(entries) - cached} computed")
        if failure is None:
            identity = digest([entry.identity for entry in entries])
            self._journal.begin(record.tags(self.run), record.parameters(self.run), identity)
            self._publish(entries)
            if not self._nothing_new(entries):
                self._journal.end("FINISHED")
            return
        self._journal.end(*ending(failure))
        not_run(idle, f"not started: {failure}")
        raise failure

    def _fail(self, label: Label, error: Exception) -> None:
        """Note the end of a stage that has failed; one that was not started has begun no journal."""
        journal = Journal(self.run.folder, str(label))
        if isinstance(error, Stopped):
            journal.close(*ending(error))
        elif journal.has("begin"):
            journal.end(*ending(error))

    def _nothing_new(self, entries: list[Entry]) -> bool:
        """Whether this run was finished before, has computed nothing since, and lost nothing of what it noted."""
        journals = [self._journal, *(Journal(self.run.folder, str(label)) for label in record.labels(self.run))]
        for journal in journals:
            journal.mend()
        return all(entry.cached for entry in entries) and all(journal.finished() for journal in journals)

    def _record(self, label: Label, ref: Ref, flow_run_id: str) -> Entry:
        """The entry of ``run.json`` for a stage; a cached one that this run has not tracked yet, is tracked now."""
        manifest = read_manifest(ref.folder)
        note = note_of(self.run, label)
        try:
            ran = read_record(note)
        except (FileNotFoundError, CacheError):  # it only says when it ran
            ran = dict[str, Any]()
        journal = Journal(self.run.folder, str(label))
        journal.mend()
        begin_journal(journal, self.run, manifest.kind, ref.identity, manifest.config, manifest.inputs)
        if not journal.finished():
            close_journal(journal, ref)
        executed = ran.get("flow_run") == flow_run_id
        return Entry(
            label=label,
            stage=manifest.kind,
            arm=label.arm or None,
            seed=label.seed,
            path=str(ref.folder),
            identity=ref.identity,
            cached=not executed,
            seconds=ran.get("seconds", 0.0) if executed else 0.0,
            counts=manifest.counts,
        )

    def _write(self, entries: list[Entry], status: str, failure: Exception | None) -> None:
        recipe = self.run.recipe
        home = Path(self.run.home)
        stages = [entry.model_copy(update={"path": from_home(Path(entry.path), home)}) for entry in entries]
        record = {
            "name": self.run.name,
            "status": status,
            "error": None if failure is None else str(failure),
            "seeds": list(recipe.seeds),
            "arms": [{"name": a} for a in self.run.arms]
            if self.run.purpose != "training"
            else [a.model_dump() for a in recipe.arms],
            "weights": recipe.weights.model_dump(),
            "stages": [stage.model_dump(mode="json") for stage in stages],
        }
        write_record(self.run.folder / "run.json", record)
        if status == "completed":
            (self.run.folder / BEGUN).unlink(missing_ok=True)

    def _publish(self, entries: list[Entry]) -> None:
        """Report and summary; the numbers and pictures on the run page and in MLflow.

        A run in which nothing was computed anew has them already.
        """
        from paced import report
        from paced.report import diagnosis, plots

        folder = self.run.folder
        if self._nothing_new(entries) and report.drawn(folder) and vouched(folder / PUBLISHED):
            self._summary = report.write_summary(folder)
            return
        self._summary, figures = report.build(folder)
        pictures = {name: plots.rendered(figure, "png") for name, figure in figures.items()}
        for name, data in pictures.items():
            with replacing(folder / "figures" / f"{name}.png") as path:
                path.write_bytes(data)
        for path in (folder / "summary.json", folder / "report.html", folder / "figures"):
            self._journal.file(path)
        for name, arm in self.summary["arms"].items():
            values = record.scores(arm)
            values |= {k: arm[k] for k in ("teacher_tokens", "sampled_tokens", "train_tokens", "seconds") if k in arm}
            self._journal.metrics(0, {f"{name}/{k}": float(v) for k, v in values.items()})
        self._journal.metrics(0, record.headline(self.run, self.summary))
        for step, values in record.curves(self.run, entries):
            self._journal.metrics(step, values)
        record.finish(self.run, self._journal, entries, self.summary)
        files = [folder / "arms.json", folder / "students.json", folder / "snr.json", *folder.glob("figures/*.png")]
        vouch(folder / PUBLISHED, *(file for file in files if file.exists()))
        if self._keep:
            note_model(self._journal, self.run, entries, self.summary)
        if "diagnosis" in self.summary:
            record.diagnosis(self._journal, self.summary["diagnosis"])
            for number, (caption, heading, cells) in enumerate(diagnosis.tables(self.summary["diagnosis"])):
                table = [dict(zip(heading, row, strict=True)) for row in cells]
                create_table_artifact(table, key=("snr", "kernel", "efficiency")[number], description=caption)
        else:
            table = [
                {"arm": name} | {k: mean_with_interval(arm[k]) for k in ("accuracy", "retention") if arm.get(k)}
                for name, arm in self.summary["arms"].items()
            ]
            create_table_artifact(table, key="results", description="Accuracy and retention, % with 95% intervals")
        for name, data in pictures.items():
            url = "data:image/png;base64," + base64.b64encode(data).decode()
            create_image_artifact(url, key=name.replace("_", "-"), description=name.replace("_", " "))

    def _tell(self) -> None:
        """Have MLflow know all of it, if it can be reached, and the ends of runs whose process is gone."""
        if not send(self._tracker):
            return
        self._tracker.tell_deleted()
        for label, link in self._tracker.links().items():
            if label == PARENT:
                create_link_artifact(link, key="mlflow", link_text=f"{self.run.name} in MLflow")
        settle(self._tracker.home)


def ending(error: BaseException | None) -> tuple[str, str]:
    """The status in MLflow of a run or a stage that an error has ended, and the reason."""
    if isinstance(error, Pause):
        return "KILLED", f"it was suspended: Resume goes on {RESUMES}"
    if isinstance(error, Exception) and not isinstance(error, Stopped):
        return "FAILED", str(explained(error))
    how = "cancelled" if error and not isinstance(error, Stopped) and cancelled() else "told to stop"
    return "KILLED", f"it was {how}; the same settings again go on {RESUMES}"


def first_cause(failures: list[Exception]) -> Exception | None:
    """The error to show: a stage's own before those of stages that only never started."""
    own = [e for e in failures if isinstance(e, PacedError) and not isinstance(e, Stopped)]
    died = [e for e in own if isinstance(e, TransientError)]
    stopped = [e for e in failures if isinstance(e, Stopped)]
    return next(iter([*[e for e in own if e not in died], *died, *stopped, *failures]), None)


def mean_with_interval(share: dict[str, float]) -> str:
    """A mean and its interval in %."""
    return f"{100 * share['mean']:.1f} ({100 * share['low']:.1f} to {100 * share['high']:.1f})"
