"""The stages of a run, done one after the other in this process, as far as they go without training.

Many processes on many hosts do the same at once, and divide the sampling among them (paced/storage/claims.py). None
knows of another, so any of them may be started, killed and started again at any time. They use neither Prefect's server
nor MLflow: the run itself notes every stage, whoever has done it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from prefect.tasks import Task

from paced.config.label import Label
from paced.errors import Stopped, TransientError
from paced.events import StageEvent
from paced.stage import Spec, finished
from paced.storage.artifacts import Ref
from paced_tasks.console import display, span
from paced_tasks.policies import DELAYS, StageIdentity
from paced_tasks.run import Run
from paced_tasks.runner import run_stage, stopping

WAITS: Final = object()  # in place of an artifact that needs a training which nobody has done yet


class Filling:
    """Does each stage when it is added, unless it or one of its inputs waits for training.

    Attributes:
        run: whose stages they are.
        untrained: labels of the training stages that could have begun.
    """

    def __init__(self, run: Run):
        self.run = run
        self.untrained: list[Label] = []

    def add(self, task: Task[Any, Ref], label: Label, after: Sequence[object] = (), **arguments: Any) -> Any:
        """The stage's artifact, or ``WAITS``.

        Raises:
            PacedError: the stage's own error.
        """
        if any(value is WAITS for value in inputs_of(arguments)):
            return WAITS
        assert isinstance(task.cache_policy, StageIdentity) and task.cache_policy.build
        spec = task.cache_policy.build(self.run, str(label), **arguments)
        return finished(spec) or self._do(label, spec)

    def first(self, task: Task[Any, Ref], label: Label, **arguments: Any) -> None:
        """A stage that looks whether all others can be done."""
        self.add(task, label, **arguments)

    def _do(self, label: Label, spec: Spec) -> Any:
        if spec.stage == "train":
            self.untrained.append(label)
            return WAITS
        began = time.monotonic()

        def listen(event: StageEvent) -> None:
            display.event(str(label), event)

        for delay in (*DELAYS, None):
            try:
                ref = run_stage(spec, self.run.folder / "logs" / f"{label.file}.log", listen)
            except TransientError as error:
                display.done(str(label), str(error))
                if delay is None:
                    raise
                if stopping(delay):
                    raise Stopped from None
            else:
                display.done(str(label), span(time.monotonic() - began))
                return ref
        raise AssertionError("the last try returns or raises")


def inputs_of(arguments: Mapping[str, Any]) -> Iterator[Any]:
    """A stage's arguments, those that are given by name among them."""
    for value in arguments.values():
        yield from value.values() if isinstance(value, Mapping) else [value]
