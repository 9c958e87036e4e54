"""Who is told what retraining did: a program of the user's, or a webhook. A notification that fails fails nothing."""

import asyncio
import base64
import datetime
import functools
import hashlib
import hmac
import logging
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from paced.config import Notify
from paced.errors import ConfigError
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
        send = functools.partial(call_webhook, settings.webhook, settings.webhook_secret, event)
        attempt(f"webhook {settings.webhook}", send)


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


def call_webhook(name: str, secret: str | None, event: Event) -> None:
    """Send the event by a Webhook block of Prefect, signed if a Secret block is named."""
    from prefect.blocks.system import Secret
    from prefect.blocks.webhook import Webhook
    from prefect.types import SecretDict

    block: Any = Webhook.load(name, _sync=True)  # pyright: ignore[reportCallIssue]
    body, headers = event.model_dump_json(), {"Content-Type": "application/json"}
    if secret:
        key: Any = Secret.load(secret, _sync=True)  # pyright: ignore[reportCallIssue]
        headers |= signature(str(key.get()), f"msg_{uuid.uuid4().hex}", int(time.time()), body)
    block.headers = SecretDict({**block.headers.get_secret_value(), **headers})
    asyncio.run(block.call(body)).raise_for_status()


def signature(secret: str, message: str, seconds: int, body: str) -> dict[str, str]:
    """The headers by which a receiver knows that a body is ours, as standardwebhooks.com has them.

    Args:
        secret: the key in base64, ``whsec_`` before it or not.
        message: an id that no other message has.
        seconds: since 1970, so that a receiver can refuse what is sent once more later.

    Raises:
        ConfigError: the secret is no base64.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ConfigError("webhook_secret: its value is no base64, as of: openssl rand -base64 32") from None
    digest = hmac.new(key, f"{message}.{seconds}.{body}".encode(), hashlib.sha256).digest()
    return {
        "webhook-id": message, "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }  # fmt: skip
