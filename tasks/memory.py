"""Why a stage's process was killed: how much memory it held, and whether the kernel has killed for want of it."""

import threading
from pathlib import Path
from typing import Self

import psutil

from paced.errors import EngineError

PAUSE = 0.5  # seconds between looks
EVENTS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))  # of this container, of this host
LESS = {  # what makes a stage hold less
    "train": "lower training.micro_batch_tokens, or set training.gradient_checkpointing or training.lora_rank",
    "diagnose": "lower training.micro_batch_tokens, or set training.gradient_checkpointing",
}


class OutOfMemory(EngineError):
    """The kernel has killed a stage's process because memory ran out: it would again, so no retry mends it."""


def kills() -> int:
    """How many processes the kernel has killed for want of memory; 0 where that cannot be known."""
    for path in EVENTS:
        try:
            counts = dict(line.split() for line in path.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return 0


class Watch:
    """Looks at a process while it runs.

    Attributes:
        most: bytes that it held at most, with the processes it has started.
    """

    def __init__(self, pid: int):
        self.most, self._pid = 0, pid
        self._before, self._over = kills(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            try:
                process = psutil.Process(self._pid)
                held = sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])
                self.most = max(self.most, held)
            except psutil.Error:
                pass
            self._over.wait(PAUSE)

    def verdict(self, stage: str) -> OutOfMemory | None:
        """The error of a process that was killed, if it was for want of memory."""
        if kills() <= self._before:
            return None
        less = LESS.get(stage, "lower runtime.sample_rows or runtime.processes")
        return OutOfMemory(
            f"stage {stage} was killed because memory ran out: it held {self.most / 1e9:.1f} GB of the host's "
            f"{psutil.virtual_memory().total / 1e9:.1f} GB; {less} ('paced plan' says what each stage needs), then run "
            "the same command again; what was committed is kept"
        )
