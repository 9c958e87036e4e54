"""Sends journals to MLflow: one parent run a PACED run, one child run a stage, found again by tag.

The only file that imports mlflow. Nothing here raises on a server that cannot be reached: it warns once, tries again
later, and ``paced mlflow-replay RUN`` sends what is left.
"""

import contextlib
import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from paced.errors import CacheError
from paced.stage import exclusive
from paced.storage.artifacts import check_member
from paced.storage.checks import WAY_OUT
from paced.storage.files import read_record, write_record
from paced.storage.identity import model_identity, short
from paced.storage.runs import home_path
from paced_tasks import backend
from paced_tasks.addresses import (
    VIEW_TAG,
    artifacts_of,
    compare_page,
    experiment_page,
    experiment_tags,
    own_database,
    run_page,
    tracking_uri,
    turn_of,
)
from paced_tasks.console import display
from paced_tasks.journal import PARENT, Begin, Entry, Input, Journal, Registration

# A dead server must cost seconds, not minutes, and no usage statistics leave the machine.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

EXPERIMENT = "paced"
REASON = "paced.reason"  # a tag: why a run did not end well
BATCH = 1000  # metrics a request
REFUSED = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")  # answers about what was deleted
PAUSE = 30.0  # seconds before a server that did not answer is asked again

logger = logging.getLogger("paced.tracking")


def client_of(uri: str, home: Path) -> Any:
    """An MLflow client; a home's own database is made ready. Call it holding the lock ``turn_of``."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if uri == own_database(home):
        make_ready(home)
    return mlflow.MlflowClient(uri)


def make_ready(home: Path) -> None:
    """Have a home's own database there, whole and of this place."""

    def create(path: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(f"sqlite:///{path}", artifacts_of(home)).engine.dispose()

    backend.ready((home / "mlflow" / "mlflow.db").absolute(), artifacts_of(home), create, display.say)


class Sent(TypedDict):
    """A label's run in MLflow, and how many entries of its journal have been sent."""

    id: str
    sent: int


class SentState(TypedDict):
    """``mlflow.json``: the tracking address, the experiment, "" until it is known, and how far each journal is sent."""

    uri: str
    experiment: str
    runs: dict[str, Sent]


class Tracker:
    """Sends the journals of one PACED run.

    Attributes:
        lost: of the last journal that MLflow did not take, what was deleted there; "" if that was not the reason.
    """

    def __init__(self, folder: Path, home: Path, name: str):
        self.folder, self.home, self.name = folder, home, name
        self.uri = tracking_uri(home)
        self.lost = ""
        self._client: Any = None
        self._lock = threading.Lock()
        self._down_until = 0.0
        self._warned = False

    def flush(self, label: str, wait: bool = False) -> bool:
        """Send what a journal holds beyond what was sent; True if everything is there.

        Args:
            wait: send even if another thread is sending or the server did not answer a moment ago.
        """
        if not wait and (time.monotonic() < self._down_until or self._lock.locked()):
            return False
        with self._lock, exclusive(turn_of(self.uri, self.home, self.folder)):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._send(label)
                return True
            except Exception as error:  # whatever a tracking server does, training goes on
                self._down_until = time.monotonic() + PAUSE
                self._warn(error)
                return False

    def _warn(self, error: Exception) -> None:
        """Say that MLflow does not take what is sent."""
        # A server that is away is not asked again: that takes as long as the first time.
        self.lost = self._deleted() if getattr(error, "error_code", "") in REFUSED else ""
        why = f"does not take what is logged ({' '.join(str(error).split())[:200]})"
        self._say(
            self.lost
            or f"MLflow at {self.uri} {why}: the run goes on, 'paced mlflow-replay {self.name}' sends the rest later"
        )

    def _say(self, text: str) -> None:
        """Warn once."""
        if not self._warned:
            self._warned = True
            logger.warning(text)
            display.say(f"warning: {text}")

    def state(self) -> SentState:
        """What was sent to the present address; to another one all is sent anew, and runs are found by their tags."""
        try:
            stored = read_record(self.folder / "mlflow.json")
        except (FileNotFoundError, CacheError):
            stored = dict[str, Any]()
        if stored.get("uri") not in (self._noted_uri, self.uri):
            return SentState(uri=self._noted_uri, experiment="", runs={})
        return SentState(uri=self._noted_uri, experiment=stored["experiment"], runs=stored["runs"])

    @property
    def _noted_uri(self) -> str:
        """The address as it is noted: a home's own database is the same one when the home was moved."""
        return "" if self.uri == own_database(self.home) else self.uri

    def client(self) -> Any:
        """An MLflow client; the experiment is created on first use."""
        if self._client is None:
            self._client = client_of(self.uri, self.home)
        return self._client

    def _experiment(self) -> str:
        client = self.client()
        found, tags = client.get_experiment_by_name(EXPERIMENT), experiment_tags()
        if found:
            # Made by an older release, or by hand: the kind may have been chosen, the view is ours.
            ours = {key: tag for key, tag in tags.items() if key == VIEW_TAG or key not in found.tags}
            for key, tag in ours.items() - found.tags.items():
                client.set_experiment_tag(found.experiment_id, key, tag)
            return found.experiment_id
        local = not self.uri.startswith("http")
        place = artifacts_of(self.home) if local else None
        return client.create_experiment(EXPERIMENT, tags=tags, artifact_location=place)

    def _run_id(self, state: SentState, label: str, tags: dict[str, str]) -> str:
        """The run of a label: remembered, else found by its tags, else created."""
        if label in state["runs"]:
            return state["runs"][label]["id"]
        client = self.client()
        state["experiment"] = state["experiment"] or self._experiment()
        mine = {"paced.run": self.name, "paced.label": label}
        query = " and ".join(f"tags.`{k}` = '{v}'" for k, v in mine.items())
        found = client.search_runs([state["experiment"]], query, max_results=1)
        if found:
            run_id = found[0].info.run_id
        else:
            if label != PARENT:
                tags = tags | {"mlflow.parentRunId": self._run_id(state, PARENT, {})}
            title = self.name if label == PARENT else label
            # It began when that was noted, not now that the server is told.
            began = next((e["time"] for e in Journal(self.folder, label).entries() if e["kind"] == "begin"), None)
            run_id = client.create_run(state["experiment"], began, tags | mine, title).info.run_id
        state["runs"][label] = {"id": run_id, "sent": 0}
        return run_id

    def _send(self, label: str) -> None:
        """Send what is new of a label's journal, in its order; ``mlflow.json`` notes how far that got."""
        state, entries = self.state(), Journal(self.folder, label).entries()
        if all(e["kind"] == "damaged" for e in entries):
            return
        if label in state["runs"] and state["runs"][label]["sent"] == len(entries):
            return

        from mlflow.entities import Metric

        client = self.client()
        tags = next((e["tags"] for e in entries if e["kind"] == "begin"), {})
        run_id = self._run_id(state, label, tags)
        sent = state["runs"][label]["sent"]
        metrics: list[Any] = []

        def note(done: int) -> None:
            state["runs"][label]["sent"] = done
            write_record(self.folder / "mlflow.json", state)

        def send_metrics(done: int) -> None:
            for start in range(0, len(metrics), BATCH):
                client.log_batch(run_id, metrics=metrics[start : start + BATCH])
            metrics.clear()
            note(done)

        note(sent)
        for number, entry in enumerate(entries[sent:], sent + 1):
            if entry["kind"] == "metrics":
                metrics += [Metric(k, v, entry["time"], entry["step"]) for k, v in entry["values"].items()]
                continue
            send_metrics(number - 1)
            self._send_entry(state, run_id, entry)
            note(number)
        send_metrics(len(entries))

    def _send_entry(self, state: SentState, run_id: str, entry: Entry) -> None:
        """Send one entry of a journal that is not of metrics."""
        from mlflow.entities import RunTag

        client = self.client()
        match entry["kind"]:
            case "begin":
                self._begin(run_id, entry)
            case "input":
                self._input(run_id, entry)
            case "file":
                path = home_path(entry["path"], self.home)
                if path.is_dir():
                    client.log_artifacts(run_id, str(path), entry["folder"] or None)
                elif path.exists():
                    check_member(path)
                    client.log_artifact(run_id, str(path), entry["folder"] or None)
            case "model":
                self._register(run_id, entry)
            case "tags":
                client.log_batch(run_id, tags=[RunTag(k, v) for k, v in entry["tags"].items()])
            case "note":
                ids = [self._run_id(state, other, {}) for other in entry["compare"]]
                page = compare_page(self.pages, state["experiment"], ids)
                link = f"\n\n[Compare the students]({page})" if ids else ""
                client.set_tag(run_id, "mlflow.note.content", entry["text"] + link)
            case "resume":
                self._running(run_id)
            case "end":
                if reason := entry.get("reason"):
                    client.set_tag(run_id, REASON, reason)
                client.set_terminated(run_id, entry["status"], entry["time"])
            case "damaged" | "lost":  # what it said is noted again by the next run
                pass
            case other:
                raise ValueError(f"the journal of run {self.name} holds an entry of kind {other}")

    def _begin(self, run_id: str, entry: Begin) -> None:
        """Parameters, tags and the status of a run that has begun."""
        from mlflow.entities import Param, RunTag

        client = self.client()
        known = client.get_run(run_id).data.params  # a changed one would be refused
        params = [Param(k, v) for k, v in entry["params"].items() if k not in known]
        tags = [RunTag(k, v) for k, v in entry["tags"].items()]
        for start in range(0, max(len(params), 1), 100):
            client.log_batch(run_id, params=params[start : start + 100], tags=tags if not start else [])
        self._running(run_id)

    def _running(self, run_id: str) -> None:
        """A run that has begun, perhaps again: why it has ended before is no longer of interest."""
        client = self.client()
        client.update_run(run_id, status="RUNNING")
        if REASON in client.get_run(run_id).data.tags:
            client.delete_tag(run_id, REASON)

    def _input(self, run_id: str, entry: Input) -> None:
        """A data set that a run has read."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = short(entry["identity"], 32)
        about = {name: json.dumps(value) for name, value in entry.get("about", {}).items()}
        dataset = Dataset(entry["name"], digest, "local", json.dumps({"uri": entry["source"]}), **about)
        context = [InputTag("mlflow.data.context", entry["context"])]
        self.client().log_inputs(run_id, [DatasetInput(dataset, context)])

    def _register(self, run_id: str, entry: Registration) -> None:
        """Keep a model folder as an artifact and register it as a version, once for each identity."""
        from mlflow.exceptions import MlflowException

        client = self.client()
        identity = entry["tags"]["identity"]
        with contextlib.suppress(MlflowException):
            client.create_registered_model(entry["name"])
        versions = client.search_model_versions(f"name = '{entry['name']}'")
        if any(v.tags.get("identity") == identity for v in versions):
            return
        folder = home_path(entry["path"], self.home)
        expected = entry["tags"].get("model")  # which the first release did not note
        if expected and model_identity(folder) != expected:
            raise CacheError(f"{folder} is damaged: {WAY_OUT}")
        client.log_artifacts(run_id, str(folder), "model")
        client.log_text(run_id, signature(run_id, entry.get("sampling", {})), "model/MLmodel")
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        client.create_model_version(
            entry["name"], source, run_id, tags=entry["tags"], description=entry.get("description")
        )

    def tell_deleted(self) -> None:
        """Warn if something was deleted in MLflow: where nothing was to be sent, nobody would notice."""
        with self._lock, exclusive(turn_of(self.uri, self.home, self.folder)):
            if text := self._deleted():
                self._say(text)

    def _deleted(self) -> str:
        """What somebody has deleted in MLflow of what was sent, and what to do, in one line; "" if it is all there."""
        try:
            experiment = self.client().get_experiment_by_name(EXPERIMENT)
            shown = {run.info.run_id for run in self._runs() if run.info.lifecycle_stage == "active"}
        except Exception:  # it cannot be asked
            return ""
        sent = self.state()["runs"]
        missing = sum(run["id"] not in shown for run in sent.values())
        if experiment is not None and experiment.lifecycle_stage != "active":
            what = f"experiment {EXPERIMENT} was deleted in MLflow at {self.uri}"
        elif missing:
            what = f"{missing} of the {len(sent)} runs of {self.name} were deleted in MLflow at {self.uri}"
        else:
            return ""
        return f"{what}: nothing more is logged there, 'paced mlflow-replay {self.name}' brings back what was deleted"

    def _runs(self) -> list[Any]:
        """All that MLflow has of this run, what was deleted included."""
        from mlflow.entities import ViewType

        experiment = self.client().get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        query = f"tags.`paced.run` = '{self.name}'"
        return self.client().search_runs([experiment.experiment_id], query, ViewType.ALL, max_results=10_000)

    def restore(self) -> bool:
        """Bring back what was deleted in MLflow, so that it can be logged to; what is gone for good is sent anew.

        Returns:
            whether MLflow could be asked.
        """
        with self._lock, exclusive(turn_of(self.uri, self.home, self.folder)):
            try:
                self._restore(self.client())
            except Exception as error:  # as in flush
                self._warn(error)
                return False
        return True

    def _restore(self, client: Any) -> None:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None and experiment.lifecycle_stage != "active":
            client.restore_experiment(experiment.experiment_id)
        found, state = self._runs(), self.state()
        for run in found:
            if run.info.lifecycle_stage != "active":
                client.restore_run(run.info.run_id)
        known = {run.info.run_id for run in found}
        lost = [label for label, run in state["runs"].items() if run["id"] not in known]
        if not lost:
            return
        state["experiment"] = experiment.experiment_id if experiment else ""
        for label in lost:
            del state["runs"][label]
        if PARENT in lost:
            parent = self._run_id(state, PARENT, {})
            for label, run in state["runs"].items():
                if label != PARENT:
                    client.set_tag(run["id"], "mlflow.parentRunId", parent)
        write_record(self.folder / "mlflow.json", state)

    def shows(self, label: str, status: str) -> bool:
        """Whether MLflow shows the status of a label's end, which is sent again if it does not."""
        with self._lock, exclusive(turn_of(self.uri, self.home, self.folder)):
            try:
                run_id = self.state()["runs"][label]["id"]
                if self.client().get_run(run_id).info.status != status:
                    self.client().set_terminated(run_id, status)
                return True
            except Exception as error:  # as in flush
                self._warn(error)
                return False

    def links(self) -> dict[str, str]:
        """Label -> page of its run."""
        state = self.state()
        if not state["experiment"]:
            return {}
        return {label: run_page(self.pages, state["experiment"], run["id"]) for label, run in state["runs"].items()}

    def opens(self) -> str:
        """The page with the list of runs; "" if MLflow does not answer."""
        with self._lock, exclusive(turn_of(self.uri, self.home, self.folder)):
            try:
                return experiment_page(self.pages, self._experiment())
            except Exception as error:  # as in flush
                self._warn(error)
                return ""

    @property
    def pages(self) -> str:
        """Where a browser finds MLflow's pages: ``PACED_MLFLOW_URL`` if it is not the address that runs use.

        A database has none until ``mlflow server`` is started on it, at port 5000.
        """
        local = self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000"
        return os.environ.get("PACED_MLFLOW_URL", local).rstrip("/")


def signature(run_id: str, sampling: Mapping[str, float]) -> str:
    """The file ``MLmodel``: a prompt in, a response out, and what the model was sampled with when it was judged."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    kinds = {int: DataType.long, float: DataType.double}
    found = ModelSignature(
        Schema([ColSpec(DataType.string, "prompt")]),
        Schema([ColSpec(DataType.string, "response")]),
        ParamSchema([ParamSpec(name, kinds[type(value)], value) for name, value in sampling.items()]),
    )
    return Model("model", run_id, signature=found, flavors={"paced": {"format": "Hugging Face folder"}}).to_yaml()
