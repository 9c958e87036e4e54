"""Kind ``slurm``: an array job, a task each; Slurm starts a task anew whose node dies, and keeps the logs."""

import os
import shlex
import socket
import subprocess
from pathlib import Path

from paced import config
from paced.config import Recipe
from paced.config.base import is_address
from paced.errors import ConfigError, TransientError
from paced_tasks.fleets.base import CopyState, Kind, Order
from paced_tasks.fleets.command import on_path

PATIENCE = 20.0  # seconds for one of Slurm's commands
OWN = {"btrfs", "ext2", "ext3", "ext4", "overlay", "tmpfs", "xfs", "zfs"}  # file systems that one host alone has
LIVES = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "STOPPED"}


def asked(*words: str, said: str = "") -> str:
    """What one of Slurm's commands answers.

    Raises:
        TransientError: it fails, in its own words, or does not answer.
    """
    try:
        done = subprocess.run(
            words, input=said, capture_output=True, text=True, check=False, timeout=PATIENCE, env=outside()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TransientError(f"{words[0]}: {error}") from None
    if done.returncode:
        told = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise TransientError(told if told.startswith(words[0]) else f"{words[0]}: {told}")
    return done.stdout


def outside() -> dict[str, str]:
    """This process's environment without what a job of Slurm's has: a driver may be one, and its copies are others."""
    return {name: value for name, value in os.environ.items() if name == "SLURM_CONF" or not name.startswith("SLURM_")}


class Array:
    """The array job of an order."""

    def __init__(self, order: Order):
        self._order, self._job = order, ""
        self._states: dict[int, CopyState] = {}

    def start(self) -> None:
        program, *options = self._order.settings.command
        script = f'#!/bin/sh\nexec {shlex.join(self._order.line())} "$SLURM_ARRAY_TASK_ID"\n'
        name = f"--job-name=paced-{self._order.logs.name}"
        array = ["--parsable", f"--array=0-{self._order.copies - 1}"]
        self._job = asked(program, "--requeue", name, *options, *array, said=script).split(";")[0].strip()
        self._states = dict.fromkeys(range(self._order.copies), CopyState(True, "PENDING"))

    def look(self) -> dict[int, CopyState]:
        """As ``squeue`` tells; what it does not tell, as while Slurm's controller is away, stays as it was."""
        if not self._job:
            return {}
        words = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={self._job}", "--format=%K|%T|%r"]
        try:
            lines = asked(*words).splitlines()
        except TransientError as error:
            if "Invalid job id" not in str(error):
                return self._states
            lines = []  # it ended so long ago that Slurm has forgotten it
        rows = [line.split("|") for line in lines]
        found = {int(row[0]): (row[1], row[2]) for row in rows if len(row) == 3 and row[0].isdecimal()}
        for index, before in self._states.items():
            state, reason = found.get(index, ("COMPLETED" if not before.text else "gone from the queue", ""))
            self._states[index] = state_of(self._job, index, state, reason) if before.alive else before
        return self._states

    def stop(self) -> None:
        if any(state.alive for state in self.look().values()):
            asked("scancel", self._job)


def state_of(job: str, index: int, state: str, reason: str) -> CopyState:
    """A task's state by Slurm's name for it."""
    if state in LIVES:
        return CopyState(True, "" if state == "RUNNING" else f"{state} ({reason})")
    if state in ("COMPLETED", "COMPLETING"):
        return CopyState(False)
    return CopyState(False, f"{state} in Slurm, job {job}_{index}")


def check(recipe: Recipe, fleet: config.Fleet) -> None:
    """That Slurm's commands are there, and that its nodes can share the store.

    Raises:
        ConfigError: with what is missing.
    """
    for program in (fleet.command[0], "squeue", "scancel", "sinfo"):
        on_path(program)
    store = config.store()
    if not is_address(store) and file_system(Path(store)) in OWN and nodes() != {socket.gethostname().split(".")[0]}:
        raise ConfigError(
            f"PACED_STORE={store} is a folder of this host's own disk, and Slurm's nodes are other hosts: set it to a "
            "folder that all of them mount, or to an address such as s3://bucket/prefix"
        )


def nodes() -> set[str]:
    """Names of Slurm's nodes.

    Raises:
        ConfigError: Slurm does not answer.
    """
    try:
        return {name.strip().split(".")[0] for name in asked("sinfo", "--noheader", "--Node", "--format=%n").split()}
    except TransientError as error:
        raise ConfigError(f"runtime.fleet: Slurm does not answer ({error})") from None


def file_system(folder: Path) -> str:
    """The kind of the file system that a folder is on; '' where the system does not say."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    real = os.path.realpath(folder)
    inside = [(where, kind) for where, kind in mounts if os.path.commonpath([where, real]) == where]
    return max(inside, key=lambda mount: len(mount[0]), default=("", ""))[1]


SLURM = Kind(Array, check, own_devices=True)
