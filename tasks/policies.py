"""When a stage is a cache hit, and when a failed one is tried again."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.results import get_default_result_storage
from prefect.tasks import Task

from paced.errors import CacheError, TransientError
from paced.stage import Spec, finished
from paced.storage.artifacts import Ref
from paced.storage.identity import digest

RETRIES, DELAYS = 2, [1.0, 10.0]  # seconds


@dataclass
class StageIdentity(CachePolicy):
    """The cache key of a stage task is its identity; a hit whose artifact is gone or damaged is a miss.

    ``build`` maps the task's arguments to the spec. Prefect calls ``compute_key`` before it looks the key up, so a
    record that points to nothing is dropped here, in time.
    """

    build: Callable[..., Spec] | None = None

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        assert self.build is not None
        spec = self.build(**inputs)
        key = f"{spec.stage}-{spec.identity.removeprefix('sha256:')[:32]}-{digest(spec.home)[-8:]}"
        try:
            ref = finished(spec)
        except CacheError as error:
            logging.getLogger(__name__).warning("%s", error)
            ref = None
        storage: Any = get_default_result_storage(_sync=True)  # pyright: ignore[reportCallIssue]
        record = Path(storage.basepath).expanduser() / key
        if ref is None or not says(record, ref):
            record.unlink(missing_ok=True)
        return key


def says(record: Path, ref: Ref) -> bool:
    """Whether what Prefect has kept of a task is the artifact that is there."""
    try:
        result = json.loads(json.loads(record.read_text())["result"])
        return dict(result["data"]) == ref.model_dump()
    except (OSError, ValueError, TypeError, KeyError):
        return False


def infrastructure(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry what waiting can mend: a killed process, a lost connection, a busy device; nothing else."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TransientError | ConnectionError)
