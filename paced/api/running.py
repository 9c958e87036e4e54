"""Runs a recipe as the command ``paced run`` does, and returns its summary. Imports no torch."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paced.config.reading import load_recipe
from paced.errors import PacedError, Stopped
from paced.storage.files import read_record


def run(
    recipe: str | Path, overrides: Mapping[str, Any] | None = None, *, home: str | Path | None = None
) -> dict[str, Any]:
    """Run a recipe, or resume it, and return its summary.

    The run is the command ``paced run`` in a process of its own, so it shares everything with runs from the terminal,
    and this process loads no model. Progress goes to standard error.

    Args:
        recipe: path of a YAML file.
        overrides: settings by their path, as of ``--set``: ``{"weights.alpha": 2, "arms.0.loss": "jsd"}``.
        home: where artifacts, stores and runs lie; if not given ``PACED_HOME``, or ``.paced`` in the working directory.

    Returns:
        what the run's ``summary.json`` holds: ``name`` (its folder is ``runs/NAME`` in the home), ``arms`` by name with
        accuracy and retention as shares with their 95% intervals, costs in tokens and seconds, ``comparisons`` of arms,
        ``stages`` with their identities.

    Raises:
        ConfigError: the recipe or an override is refused; nothing was started.
        Stopped: the run was told to stop; the same call goes on from what is committed.
        PacedError: the run failed; the message is its last line.
    """
    assignments = [f"{path}={json.dumps(value)}" for path, value in (overrides or {}).items()]
    load_recipe(Path(recipe), tuple(assignments))  # refused here, where its error has its own class
    # The layer that runs flows imports this one; so it is started, not imported.
    command = [sys.executable, "-m", "paced_deployments.cli", "run", str(recipe)]
    command += [word for assignment in assignments for word in ("--set", assignment)]
    environment = os.environ | ({} if home is None else {"PACED_HOME": str(Path(home).absolute())})
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as child:
        assert child.stderr is not None and child.stdout is not None
        last = ""
        try:
            for line in child.stderr:
                sys.stderr.write(line)
                last = line.strip() or last
            printed = child.stdout.read()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)  # it stops its stages and keeps what is committed
            raise
    if child.returncode == 130:
        raise Stopped(last)
    if child.returncode:
        raise PacedError(last.removeprefix("error: "))
    folder = next(line.split(maxsplit=1)[1] for line in printed.splitlines() if line.startswith("summary "))
    return read_record(Path(folder))
