"""Who is told what retraining did: a program of the user's, or a webhook. A notification that fails fails nothing."""

import asyncio
import datetime
import functools
import logging
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from paced.config import Notify
from paced_tasks.console import display

PATIENCE = 60.0  # seconds for a program

logger = logging.getLogger("paced.notify")


class Event(BaseModel):
    """What a retraining or a rollback ended with; ``message`` is its one line. Described in docs/retraining.md."""

    model_config = ConfigDict(frozen=True)
    event: Literal[
        "promoted", "passed", "kept", "no_new_data", "waiting", "refused", "failed",
        "rolled_back", "restored", "revoked",
    ]  # fmt: skip
    model: str
    message: str
    champion: int | None = None
    challenger: int | None = None
    run: str | None = None
    files: tuple[str, ...] = ()
    figures: dict[str, dict[str, float]] = {}
    time: str = Field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))


def notify(settings: Notify, event: Event) -> None:
    """Send an event to whoever is to be told; what goes wrong is logged."""
    if settings.command:
        attempt(f"command {settings.command[0]}", functools.partial(call_command, settings.command, event))
    if settings.webhook:
        attempt(f"webhook {settings.webhook}", functools.partial(call_webhook, settings.webhook, event))


def attempt(what: str, send: Callable[[], None]) -> None:
    try:
        send()
    except Exception as error:  # whatever the other side does, the decision stands
        text = f"notification by {what} failed: {' '.join(str(error).split())[:300] or type(error).__name__}"
        logger.warning(text)
        display.say(f"warning: {text}")


def call_command(command: tuple[str, ...], event: Event) -> None:
    """Run a program without a shell, the event as one line of JSON on its standard input."""
    with tempfile.TemporaryFile("w+") as output:  # a pipe would be waited for if a child of the program kept it open
        done = subprocess.run(
            command, input=event.model_dump_json() + "\n", stdout=output, stderr=output, text=True, timeout=PATIENCE
        )
        output.seek(0)
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}; {output.read()[-300:]}")


def call_webhook(name: str, event: Event) -> None:
    """Send the event by a Webhook block of Prefect."""
    from prefect.blocks.webhook import Webhook

    block: Any = Webhook.load(name, _sync=True)  # pyright: ignore[reportCallIssue]
    asyncio.run(block.call(event.model_dump(mode="json"))).raise_for_status()
