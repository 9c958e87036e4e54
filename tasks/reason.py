"""What Prefect's pages show of an end: a run's figures, or the one line of its error and no traceback."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from prefect import Flow, flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

import paced
from paced.errors import PacedError, UnforeseenError, explained
from paced.storage.runs import RunSummary

P = ParamSpec("P")
R = TypeVar("R")
LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
NOT_RUN = "NotRun"  # the name of the state of a stage that had no turn
PATIENCE = 20.0  # seconds for the server to know all stages of a run that has failed
THREADS = 64  # of a flow run: each waits for a stage's process

logger = logging.getLogger(__name__)


def paced_flow(name: str, title: Callable[[], str]) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """A flow whose error is, as it stands, the message of its run's state. Who calls the flow meets the error itself.

    Args:
        title: makes the flow run's name.
    """

    def made(body: Callable[P, R]) -> Flow[P, R]:
        @functools.wraps(body)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in LOGGERS:
                logging.getLogger(name).addFilter(_one_line)
            try:
                return body(*args, **kwargs)
            except Exception as error:
                told = explained(error)
                if isinstance(told, UnforeseenError):
                    get_run_logger().error(str(told), exc_info=error)
                state: Any = Failed(message=str(told), data=error)
                return cast(R, state)

        runner, make = ThreadPoolTaskRunner(max_workers=THREADS), cast(Any, flow)
        # The version is ours: Prefect would take a digest of this file for it.
        return make(run, name=name, flow_run_name=title, version=paced.__version__, task_runner=runner)

    return made


def with_figures(summary: RunSummary) -> RunSummary:
    """What a flow returns for its final state to say, in Prefect's list of runs, what came out. Who calls the flow gets
    the summary itself.
    """
    from paced.report.tables import headline  # and pandas with it: a flow's import does not wait for that

    state: Any = Completed(message=headline(summary), data=summary)
    return cast(RunSummary, state)


class OneLine(logging.Filter):
    """Our errors are written to be read by themselves: where Prefect logs one with its traceback, the line is left.

    That each of the stages behind the one that failed has had no turn, is no error of theirs.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("Finished in state NotReady("):
            return False
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, PacedError):
            record.msg, record.args, record.exc_info = str(error), (), None
        return True


_one_line = OneLine()


def not_run(stages: Sequence[UUID], why: str) -> None:
    """Have the page say of task runs that they had no turn: Prefect leaves them pending for ever."""
    deadline, left = time.monotonic() + PATIENCE, list(stages)
    try:
        with get_client(sync_client=True) as client:
            while left := [stage for stage in left if not told(client, stage, why)]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the server does not know {len(left)} of them yet")
                time.sleep(0.5)
    except Exception as error:  # whatever a server does, the reason of the failure is what counts
        reason = " ".join(str(error).split())[:200]
        logger.warning("the page does not say of every stage behind the failed one that it did not run (%s)", reason)


def told(client: SyncPrefectClient, stage: UUID, why: str) -> bool:
    """Set a task run's state; False if the server has not yet been told that there is such a one."""
    try:
        client.set_task_run_state(stage, Cancelled(name=NOT_RUN, message=why), force=True)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != 404:
            raise
        return False
    return True
