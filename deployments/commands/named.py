"""What the options of commands name: files, runs, servers."""

import glob
from pathlib import Path
from typing import Any

from paced.errors import ConfigError
from paced_deployments import environment


def check_paths(recipe: Any) -> None:
    """Say at once which model folder or file is not there.

    Raises:
        ConfigError: with the field path.
    """
    named = {"student.path": recipe.student.path, "teacher.path": recipe.teacher.path}
    for field, path in named.items():
        if path is not None and not Path(path).is_dir():
            raise ConfigError(f"{field}: model folder {path} does not exist")
    check_data(recipe)


def check_data(recipe: Any) -> None:
    """Say at once which file is not there.

    Raises:
        ConfigError: with the field path.
    """
    files = {"data.path": recipe.data.path}
    files |= {f"evaluation.benchmarks.{i}.data.path": b.data.path for i, b in enumerate(recipe.evaluation.benchmarks)}
    files["runtime.accelerate"] = recipe.runtime.accelerate
    for field, path in files.items():
        if path is not None and not path.startswith("hub:") and not Path(path).exists() and not glob.glob(path):
            raise ConfigError(f"{field}: file {path} does not exist")


def run_folder(name: str) -> Path:
    """The folder of a run given by name or path.

    Raises:
        ConfigError: there is none; says which there are.
    """
    home = environment.home()
    for folder in (Path(name), home / "runs" / name):
        if (folder / "recipe.yaml").exists():
            return folder.absolute()
    known = sorted(f.parent.name for f in (home / "runs").glob("*/recipe.yaml"))
    raise ConfigError(f"no run {name!r} in {home / 'runs'}; there are: {', '.join(known) or 'none'}")


def join_platform() -> None:
    """Use the servers of a platform that runs in the home, as ``paced run`` does, else the home's own database."""
    from paced_deployments import platform

    platform.join(environment.home())
    environment.apply(environment.home())
