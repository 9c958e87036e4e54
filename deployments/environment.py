"""Where everything lives, and the settings Prefect and MLflow need; to be set before either is imported."""

import contextlib
import os
import shlex
import stat
import sys
from pathlib import Path

from paced import config
from paced_tasks.addresses import RUNS

__all__ = ["apply", "home", "make_folders", "open_to_others", "pages", "settings"]


def home() -> Path:
    """The home, if it is there one that can be read: what lists its files takes a closed folder for an empty one.

    Raises:
        OSError: it is no folder, or this user may not read it.
    """
    folder = config.home()
    with contextlib.suppress(FileNotFoundError):
        os.listdir(folder)
    return folder


def settings(folder: Path) -> dict[str, str]:
    """Environment variables of the embedded default; each can be overridden by setting it."""
    prefect = folder / "prefect"
    return {
        "PACED_HOME": str(folder),
        "PREFECT_HOME": str(prefect),
        "PREFECT_LOCAL_STORAGE_PATH": str(prefect / "storage"),
        "PREFECT_MEMO_STORE_PATH": str(prefect / "memo_store.toml"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # errors reach the user as one line
        "PREFECT_LOGGING_EXTRA_LOGGERS": "paced,paced_tasks",  # what they warn of stands on the run's page
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def apply(folder: Path) -> bool:
    """Set what is not set, and make the folders that Prefect and MLflow expect.

    Returns:
        whether Prefect is the embedded default, with no server or profile of the user's.
    """
    own_prefect = (
        not {"PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"} & os.environ.keys()
    )
    make_folders(folder)
    for name, value in settings(folder).items():
        os.environ.setdefault(name, value)
    return own_prefect


def make_folders(folder: Path) -> None:
    """What Prefect and MLflow expect to be there; a new home is its owner's alone."""
    if not folder.exists():
        folder.mkdir(parents=True, mode=0o700)
    for name in ("prefect", "mlflow"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def open_to_others(folder: Path) -> str:
    """Who besides its owner can look into a home, as a warning; "" where nobody can, or a group that was let in."""
    if not folder.stat().st_mode & stat.S_IRWXO:
        return ""
    way = f"chmod o= {shlex.quote(str(folder))}"
    return f"every user of this host can read {folder}, with its databases and models: {way}"


def pages(folder: Path, own_prefect: bool) -> list[str]:
    """Where the two web pages are, or how to open those of the embedded default."""
    program = {name: shlex.quote(str(Path(sys.executable).parent / name)) for name in ("prefect", "mlflow")}
    if own_prefect:
        prefect = [
            f"PREFECT_HOME={shlex.quote(str(folder / 'prefect'))} {program['prefect']} server start",
            "  then http://127.0.0.1:4200: flow runs with their progress, tables and pictures",
        ]
    else:
        prefect = [f"Prefect: {os.environ.get('PREFECT_API_URL', 'as your profile says').removesuffix('/api')}"]
    if "MLFLOW_TRACKING_URI" in os.environ:
        return [*prefect, f"MLflow: {mlflow_pages(os.environ['MLFLOW_TRACKING_URI'])}"]
    return [
        *prefect,
        f"{program['mlflow']} server --backend-store-uri "
        + shlex.quote(f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"),
        f"  then {mlflow_pages('http://127.0.0.1:5000')}: every stage's parameters and metrics, runs side by side",
    ]


def mlflow_pages(uri: str) -> str:
    """Where a server shows experiments: its own beginning is about language-model calls. A database has no pages."""
    return f"{uri.rstrip('/')}/#/experiments?{RUNS}" if uri.startswith("http") else uri
