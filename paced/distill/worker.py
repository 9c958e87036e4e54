"""One of the training processes that paced/distill/launch.py starts: ``--module paced.distill.worker SPEC``."""

import os
import sys
import threading
import time
from pathlib import Path

from paced.__main__ import guarded
from paced.distill.train import train
from paced.events import StageEvent
from paced.models.sharding import rank
from paced.stage import Job, Spec, emit, peak_memory
from paced.storage.checks import comparing, settle
from paced.storage.files import write_json


def work(path: Path) -> int:
    """One of the launched processes; only the first one speaks, unless another fails, and only the first one writes."""
    def watch(parent: int) -> None:  # the launcher gives its processes sessions of their own
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
    # Else transformers would read the weights on the first process only and leave the others' as they come.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    first = rank() == 0

    def tell(event: StageEvent) -> None:
        if first or event["event"] == "error":
            emit(event)

    def program() -> None:
        job = Job(Spec.model_validate_json(path.read_text()), tell)
        with comparing():
            train(job)
            settle()
        job.counts["peak_memory"] = peak_memory()
        if first:
            write_json(path.with_name("done.json"), {"counts": job.counts, "files": [f.name for f in job.files]})

    return guarded(program, tell)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
