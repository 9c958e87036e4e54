"""Where MLflow is: the address that runs log to, those of its pages, and what its list of runs shows first."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from paced.config.base import JsonObject
from paced.errors import ConfigError

# MLflow's pages open on traces of language-model calls unless the address says otherwise; from 3.17 on the experiment's
# kind alone no longer does.
RUNS = "workflowType=machine_learning"
VIEW = "paced"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
COLUMNS = (
    *(f"metrics.`{name}{end}`" for name in ("accuracy", "retention", "gain") for end in ("", "_low", "_high")),
    *(f"attributes.`{name}`" for name in ("Source", "User", "Models", "Dataset")),
)
CHARTS = {"accuracy": "BAR", "train_forward/loss": "LINE", "train_reverse/loss": "LINE"}  # metric -> kind
AXES: JsonObject = {  # of a line: by steps and not smoothed, until the page's own settings say otherwise
    "xAxisKey": "step",
    "lineSmoothness": 0,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def tracking_uri(home: Path) -> str:
    """``MLFLOW_TRACKING_URI`` if set, else a database under ``home``.

    Raises:
        ConfigError: it holds a password. The address stands in run folders, links and messages.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or own_database(home)
    if urlsplit(uri).password is not None:
        raise ConfigError(
            "MLFLOW_TRACKING_URI holds a password, and the address is written into run folders and pages: take it out, "
            "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (for PostgreSQL PGPASSWORD) instead"
        )
    return uri


def own_database(home: Path) -> str:
    """The address of the database in a home."""
    return f"sqlite:///{(home / 'mlflow' / 'mlflow.db').absolute()}"


def artifacts_of(home: Path) -> str:
    """Where runs that are tracked in a home's own database keep files."""
    return (home / "mlflow" / "artifacts").absolute().as_uri()


def turn_of(uri: str, home: Path, folder: Path) -> Path:
    """The lock to send under: one of a home where all runs share a database file, else one of a folder."""
    return (folder if uri.startswith("http") else home / "locks") / ".mlflow.lock"


def experiment_tags() -> dict[str, str]:
    """The tags of the experiment: its kind, and the view ``VIEW`` of its list of runs."""
    return {"mlflow.experimentKind": "custom_model_development", VIEW_TAG: json.dumps(shared_view())}


def shared_view() -> JsonObject:
    """What the list of runs shows first: the columns that matter and, where it is shown as charts, ``CHARTS``.

    In the fields of the state that MLflow 3.17 keeps of a shared view; those left out are at their defaults.
    """
    section = "paced"
    # Unless they are said to be reordered, MLflow sorts sections by name, and leaves out the one of charts whose names
    # have no slash.
    return {
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "compareRunSections": [{"uuid": section, "name": "accuracy and losses", "display": True}],
        "compareRunCharts": [
            {"uuid": f"paced/{metric}", "type": kind, "metricKey": metric, "metricSectionId": section}
            | ({} if kind == "BAR" else AXES)
            for metric, kind in CHARTS.items()
        ],
        "isAccordionReordered": True,
    }


def experiment_page(base: str, experiment: str) -> str:
    """The list of runs."""
    return f"{base}/#/experiments/{experiment}/runs?{RUNS}&viewStateShareKey={VIEW}"


def run_page(base: str, experiment: str, run: str) -> str:
    return f"{base}/#/experiments/{experiment}/runs/{run}?{RUNS}"


def report_page(base: str, experiment: str, run: str) -> str:
    """The report among a run's artifacts."""
    return f"{base}/#/experiments/{experiment}/runs/{run}/artifacts/report.html?{RUNS}"


def model_page(base: str, model: str, version: int) -> str:
    """A version of a registered model."""
    return f"{base}/#/models/{quote(model)}/versions/{version}?{RUNS}"


def compare_page(base: str, experiment: str, runs: Sequence[str]) -> str:
    """Runs side by side."""
    asked = "&".join(f"{k}={quote(json.dumps(v))}" for k, v in (("runs", list(runs)), ("experiments", [experiment])))
    return f"{base}/#/compare-runs?{asked}&{RUNS}"
