"""kill -9 at random in a home's first minutes, and Ctrl-C: what survives is used, and nothing is left behind.

A kill hits a stage, the server that stages are started from, Prefect's server, the command alone or all of them, while
databases are made as well as later. CI does a few; ``make kills`` does 200.
"""

import contextlib
import itertools
import os
import random
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import httpx
import psutil
from harness import Command, Finished, finished, gone, parts, processes_of, run_arguments, run_paced, stages_of, told

KILLS = int(os.environ.get("PACED_KILLS", "1"))
SEED = int(os.environ.get("PACED_SEED", "18"))
PATIENCE = 300  # seconds for one command


def victims(command: Command, home: Path, kind: str) -> list[int]:
    """The processes that a kill of a kind hits."""
    lines, stages = processes_of(home), stages_of(home)
    forked = [pid for pid, line in lines.items() if "forkserver" in line]
    return {
        "command": [command.pid],
        "stage": list(stages),
        "forkserver": [pid for pid in forked if pid not in (command.pid, *stages)],
        "server": [pid for pid, line in lines.items() if "paced_deployments.embedded" in line],
        "all": list(lines),
    }[kind]


def embedded_answers(command: Command, home: Path, host: str) -> int:
    """The status with which the command's own Prefect server answers to a name."""
    (server,) = victims(command, home, "server")
    (port,) = {c.laddr.port for c in psutil.Process(server).net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    return httpx.get(f"http://127.0.0.1:{port}/api/health", headers={"Host": host}).status_code


def test_random_kills(first_run: Finished, tmp_path: Path) -> None:
    """The same bits at the end, tracking that works, no process, lock or temporary file."""
    home, chance, homes = tmp_path / "home", random.Random(SEED), itertools.count(1)
    done = 0
    while done < KILLS:
        kind = ("all", "command", "server", "stage", "forkserver")[done % 5]
        command = Command(home, *run_arguments())
        # The first second of a home's life has as many kills as its first half minute.
        deadline = time.monotonic() + 10 ** chance.uniform(0, 1.6)
        hit: list[int] = []
        while command.status is None and not hit:  # stages are there only some of the time
            time.sleep(0.02)
            if time.monotonic() > deadline:
                hit = victims(command, home, kind)
        for pid in hit:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        done += bool(hit)
        print(done, kind, "killed" if hit else "not there", flush=True)
        outcome = command.finish(PATIENCE)
        assert "Traceback" not in outcome.err, (kind, outcome.err[-2000:])
        gone(home)
        if outcome.status == 0 and done < KILLS:  # it got to its end: a new home, in which there is something to kill
            assert finished(home, outcome).bits == first_run.bits
            shutil.rmtree(home)
            home = tmp_path / f"home{next(homes)}"
    last = run_paced(home)
    assert last.bits == first_run.bits and last.numbers() == first_run.numbers()
    assert "mlflow" not in last.outcome.err.lower(), last.outcome.err
    with contextlib.closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        runs = "select count(*) from runs where status = 'FINISHED' and name = ?"
        assert database.execute(runs, (last.folder.name,)).fetchone() == (1,)
    assert told(home, "cache", "verify").status == 0
    assert told(home, "cache", "gc", "--delete").status == 0
    assert not list(home.glob("work/*")) and not list(home.rglob("*.tmp")) and not list(home.rglob("*.new"))
    gone(home)


def test_a_killed_and_interrupted_command(first_run: Finished, tmp_path: Path) -> None:
    """SIGKILL while it samples, Ctrl-C while it trains, then to the end although its Prefect server dies: no trace."""
    home = tmp_path / "home"
    command = Command(home, *run_arguments())
    command.until(lambda: parts(home) >= 4 and stages_of(home), "it samples")
    command.signal(signal.SIGKILL)
    gone(home)
    assert not list(home.glob("artifacts/rollouts/*/manifest.json"))

    command = Command(home, *run_arguments())
    forward = home / "runs" / first_run.folder.name / "journal" / "paced.0.train_forward.jsonl"
    command.until(lambda: forward.exists() and '"metrics"' in forward.read_text(), "it trains")
    assert embedded_answers(command, home, "localhost") == 200
    assert embedded_answers(command, home, "evil.example") == 403
    command.signal(signal.SIGINT)
    outcome = command.finish(60)
    assert outcome.status == 130
    assert outcome.err.splitlines()[-1] == "stopped: the same command goes on from what is committed"
    assert "Traceback" not in outcome.err
    assert "samples reused" in outcome.err
    gone(home)

    command = Command(home, *run_arguments())
    command.until(lambda: stages_of(home), "it goes on")
    (server,) = victims(command, home, "server")
    os.kill(server, signal.SIGKILL)
    last = finished(home, command.finish())
    assert last.numbers() == first_run.numbers()
    assert last.bits == first_run.bits
    assert sum(s["cached"] for s in last.stages.values()) >= 5
    with contextlib.closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        states = database.execute("select state_type from flow_run order by created").fetchall()
    assert states[-1] == ("COMPLETED",), states
    gone(home)
