"""Runs triggered on a real platform: do all end right, is the device ever shared, what do the servers need.

    python -m benchmarks.platform_runs FOLDER OUT.json [--runs 50] [--at-once 8] [--postgres]

A platform of its own is brought up in FOLDER with ``paced up``. Runs of the deployment ``distill`` are triggered
through Prefect's API, as the page does it: one that samples and answers everything, then ``--runs`` one after another
and ``--at-once`` together, each with another ``weights.alpha``: it weighs, trains 4 steps and evaluates, and takes
rollouts, base scores and teacher answers from what is stored. The device's intervals are those that stages note
while they hold it; two that overlap are counted. ``--postgres`` keeps both databases in PostgreSQL, a cluster of the
tests' kind. OUT gets the figures beside those of the other kind of database. Ctrl-C ends the runs in a row early; the
same command again adds to what FOLDER has.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import machine, versions
from paced.config.reading import load_recipe

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from harness import TINY, paced
from platforms import ENDED, Platform
from postgres import postgres

CHANGES = (
    "seeds=[0]", "data.problems=100", "data.mix={1: 1, 2: 2, 3: 3}", "training.steps=4", "training.batch=8",
    "training.warmup=1", "evaluation.samples=1", "evaluation.benchmarks.0.data.problems=48",
    "evaluation.benchmarks.1.data.problems=16", "runtime.processes=1",
    "arms=[{name: paced, scheme: beta, schedule: forward}]",
)  # fmt: skip
HOLDING = {"rollouts", "teacher", "train", "evaluate"}  # kinds of artifact whose stage holds the device
ROUND = 3600.0  # seconds for all runs of a round


class Measured(Platform):
    """A platform of its own home, started for the measurement; it offers the changed recipe."""

    def __init__(self, home: Path, urls: dict[str, str]):
        super().__init__(home, *(word for server, url in urls.items() for word in (f"--{server}-database", url)))
        self.urls, self.recipe = urls, load_recipe(TINY, CHANGES).model_dump(mode="json")
        self.alphas = (1 + i / 100 for i in itertools.count(len(list(home.glob("runs/*")))))

    def run(self, number: int) -> list[dict[str, Any]]:
        """Trigger so many runs at once, each of other weights, and wait until all have ended."""
        ids = sorted(self.trigger(weights=self.recipe["weights"] | {"alpha": next(self.alphas)}) for _ in range(number))
        deadline = time.monotonic() + ROUND
        while time.monotonic() < deadline:
            found = self.api("/flow_runs/filter", {"flow_runs": {"id": {"any_": ids}}})
            if all(run["state_type"] in ENDED for run in found):
                return found
            time.sleep(2)
        raise SystemExit(f"not all runs ended within {ROUND} s")

    def memory(self) -> dict[str, float]:
        """Resident MB of each service with what it has started."""
        found: dict[str, float] = {}
        for row in self.services().values():
            if row["pid"]:
                top = psutil.Process(row["pid"])
                found[row["name"]] = 0.0
                for process in (top, *top.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        found[row["name"]] += round(process.memory_info().rss / 1e6, 1)
        return found

    def databases(self) -> dict[str, int]:
        """Bytes of each server's database, write-ahead logs of SQLite included."""
        return {server: self.size(server) for server in ("prefect", "mlflow")}

    def size(self, server: str) -> int:
        if server not in self.urls:
            return sum(path.stat().st_size for path in (self.home / server).glob(f"{server}.db*"))
        import psycopg2

        with psycopg2.connect(self.urls[server]) as connection, connection.cursor() as cursor:
            cursor.execute("select pg_database_size(current_database())")
            row = cursor.fetchone()
            assert row
            return int(row[0])

    def held(self) -> list[tuple[float, float]]:
        """When stages held the device, in the order in which they got it."""
        intervals: list[tuple[float, float]] = []
        for path in self.home.glob("runs/*/executed/*.json"):
            note = json.loads(path.read_text())
            if json.loads((Path(note["path"]) / "manifest.json").read_text())["kind"] in HOLDING:
                intervals.append((note["began"], note["began"] + note["seconds"]))
        return sorted(intervals)


def measure(home: Path, runs: int, at_once: int, urls: dict[str, str]) -> dict[str, Any]:
    """Bring a platform up, run everything on it, and stop it."""
    try:
        here = Measured(home, urls)
        first = here.run(1)
        memory, sizes, began = [here.memory()], [here.databases()], time.monotonic()
        in_a_row: list[dict[str, Any]] = []
        with contextlib.suppress(KeyboardInterrupt):
            while len(in_a_row) < runs:
                in_a_row += here.run(1)
                print(f"{len(in_a_row)} of {runs}: {time.monotonic() - began:.0f} s", flush=True)
        runs = len(in_a_row)
        memory, sizes, took = [*memory, here.memory()], [*sizes, here.databases()], time.monotonic() - began
        began = time.monotonic()
        together = here.run(at_once)
        together_took = time.monotonic() - began
        memory.append(here.memory())
        held = here.held()
        return {
            "runs in a row": runs, "seconds": round(took), "seconds a run": round(took / max(1, runs), 1),
            "seconds of its process, median": statistics.median(r["total_run_time"] for r in in_a_row) if runs else 0,
            "at once": at_once, "seconds at once": round(together_took),
            "states": {state: sum(r["state_type"] == state for r in first + in_a_row + together) for state in ENDED},
            "device intervals": len(held),
            "device intervals that overlap": sum(b[0] < a[1] for a, b in itertools.pairwise(held)),
            "device busy, seconds": round(sum(end - start for start, end in held)),
            "resident MB": dict(zip(("before", "after the runs in a row", "after those at once"), memory, strict=True)),
            "database bytes a run": {k: round((sizes[1][k] - sizes[0][k]) / max(1, runs)) for k in sizes[0]},
            "database bytes": sizes[1],
            "requests asked again because the database was locked": here.asked_again,
        }  # fmt: skip
    finally:
        paced(home, "down")


def main() -> None:
    parser = argparse.ArgumentParser(description="see the head of this file")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--postgres", action="store_true")
    arguments = parser.parse_args()
    kind = "postgresql" if arguments.postgres else "sqlite"
    home = arguments.folder.absolute() / kind
    home.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        urls: dict[str, str] = {}
        if arguments.postgres:
            cluster = stack.enter_context(postgres())
            urls = {server: cluster.url(server) for server in ("prefect", "mlflow")}
        load = os.getloadavg()[0]
        results = measure(home, arguments.runs, arguments.at_once, urls)
    out = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"what": __doc__.split("\n")[0]}
    out[kind] = results | {
        "recipe": {"file": "recipes/tiny.yaml", "changes": list(CHANGES)},
        "load of the machine, before and after": [round(load, 1), round(os.getloadavg()[0], 1)],
        "machine": machine(),
        "versions": versions("prefect", "mlflow", "SQLAlchemy", "psycopg2-binary"),
    }
    arguments.out.write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out[kind], indent=1))


if __name__ == "__main__":
    main()
