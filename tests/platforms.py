"""A running platform for tests: what its users call, and the processes it has."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from harness import ROOT, SMALL, TINY, environment, eventually, free_port, paced
from prefect.client.base import PrefectHttpxSyncClient
from prefect.exceptions import PrefectHTTPStatusError

from paced.config.reading import load_recipe
from paced_deployments.platform import status

PATIENCE = 240.0  # seconds for a server to start on a busy machine
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Platform:
    """A running platform of a home of its own; ``recipe`` is the small one."""

    def __init__(self, home: Path, *options: str, env: Mapping[str, str] = {}):
        ports = ("--prefect-port", str(free_port()), "--mlflow-port", str(free_port()))
        self.home, self.options, self.env, self.asked_again = home, (*ports, *options), env, 0
        self.recipe = load_recipe(TINY, SMALL).model_dump(mode="json")
        self.up()

    def up(self) -> None:
        outcome = paced(self.home, "up", *self.options, env=self.env)
        assert outcome.status == 0, outcome.err
        assert {row["state"] for row in self.services().values()} <= {"running", "by URL"}
        self.address = json.loads((self.home / "platform" / "platform.json").read_text())
        self.client = PrefectHttpxSyncClient(
            base_url=self.url("prefect") + "/api/", enable_csrf_support=True, timeout=30
        )

    def fill_form(self) -> None:
        """The deployments ``distill`` and ``distill-advanced`` offer the small recipe, which its owner has added."""
        recipe = self.home / "recipes" / "small.yaml"
        recipe.write_text(yaml.safe_dump(self.recipe))
        program = (
            "import sys, pathlib; from paced_deployments.definitions import DEFINITIONS, deploy;"
            "deploy(DEFINITIONS[0]); deploy(DEFINITIONS[1]._replace(recipe=pathlib.Path(sys.argv[1])))"
        )
        env = environment(self.home, {"PREFECT_API_URL": self.url("prefect") + "/api"})
        subprocess.run([sys.executable, "-c", program, str(recipe)], env=env, check=True, cwd=ROOT)

    def url(self, server: str) -> str:
        return f"http://127.0.0.1:{self.address[f'{server}_port']}"

    def api(self, path: str, body: Any = None) -> Any:
        """Prefect's API, as its own clients call it: they fetch the token that a change needs."""

        def answered() -> tuple[Any] | None:
            try:
                answer = self.client.request("GET" if body is None else "POST", path.lstrip("/"), json=body)
                return (answer.json() if answer.content else None,)
            except PrefectHTTPStatusError as error:
                if error.response.status_code not in (500, 503):  # the database is locked or away
                    raise
                self.asked_again += 1
            except httpx.TransportError:  # the server is away
                pass
            time.sleep(0.5)
            return None

        return eventually(answered, PATIENCE, path)[0]

    @property
    def deployment(self) -> dict[str, Any]:
        """The one that takes a whole recipe."""
        return self.api("/deployments/name/distill/distill-advanced")

    def trigger(self, **changes: Any) -> str:
        """A flow run of the small recipe with other top-level settings."""
        recipe = self.recipe | changes
        run = self.api(f"/deployments/{self.deployment['id']}/create_flow_run", {"parameters": {"recipe": recipe}})
        return run["id"]

    def runs(self) -> dict[str, dict[str, Any]]:
        return {run["id"]: run for run in self.api("/flow_runs/filter", {})}

    def state(self, run: str) -> str:
        return self.api(f"/flow_runs/{run}")["state"]["type"]

    def reaches(self, run: str, *states: str, within: float = 240) -> str:

        def reached() -> str:
            time.sleep(0.5)  # a server on a busy machine has better things to answer
            return state if (state := self.state(run)) in states else ""

        return eventually(reached, within, f"{run} {states}")

    def services(self) -> dict[str, dict[str, Any]]:
        """What ``paced status`` says, by service."""
        return {row["name"]: row for row in status(self.home)}

    def kill(self, service: str) -> Callable[[], None]:
        """kill -9 a service; returns what waits until another has taken its place."""
        before = self.services()[service]["pid"]
        os.kill(before, signal.SIGKILL)

        def back() -> bool:
            row = self.services()[service]
            return row["pid"] not in (0, before) and row["state"] == "running" and row["healthy"]

        return lambda: bool(eventually(back, PATIENCE, f"{service} is back")) and None

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this platform whose command has one of the words, all without words."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("PACED_PLATFORM") == str(self.home)
                line = " ".join(process.cmdline())
                if mine and (not words or any(word in line for word in words)):
                    found.append(process)
        return found

    def in_a_stage(self, run: str) -> None:
        """Wait until a flow run has a stage's process at work."""
        self.reaches(run, "RUNNING")
        eventually(lambda: len(self.processes("forkserver")) > 1, PATIENCE, "a stage runs")
