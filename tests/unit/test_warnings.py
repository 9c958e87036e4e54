"""What is warned of, reaches those who look: the run's page, the worker's log, from whichever process."""

import logging
import subprocess
import sys
from pathlib import Path

from harness import environment as clean

from paced.events import StageEvent
from paced_deployments import environment
from paced_deployments.platform import RUNS
from paced_tasks.worker import Warnings

PROGRAM = """
import logging
from prefect import flow
from prefect.logging.handlers import APILogHandler
for name in ("paced.tracking", "paced_tasks.policies"):
    logging.getLogger(name).warning("of %s", name)
    print(name, type(logging.getLogger(name.partition(".")[0]).handlers[0]) is APILogHandler)
logging.getLogger("prefect.flow_runs").warning("of Prefect's own")
"""


def test_of_flows_in_a_worker(tmp_path: Path) -> None:
    """By Prefect's own settings, as the worker gives them to the processes of its runs."""
    env = clean(tmp_path, environment.settings(tmp_path) | RUNS | {"PREFECT_HOME": str(tmp_path)})
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == ["paced.tracking True", "paced_tasks.policies True"]  # to the run's page
    for name in ("paced.tracking", "paced_tasks.policies"):
        assert done.stderr.count(f"of {name}") == 1  # to the worker's log
    assert "of Prefect's own" not in done.stderr  # whose errors reach the user as one line


def test_of_a_stages_own_process() -> None:
    """Its supervisor is told, as of any event."""
    told: list[StageEvent] = []
    handler, logger = Warnings(told.append), logging.getLogger("paced.some_module")
    logging.getLogger("paced").addHandler(handler)
    try:
        logger.info("nothing")
        logger.warning("%d rows left out", 3)
    finally:
        logging.getLogger("paced").removeHandler(handler)
    assert told == [{"event": "warning", "message": "3 rows left out"}]
