"""Who started a run, where a proxy before Prefect's server knows its users: the server notes it on the run.

Prefect's server knows no users. A proxy that asks for a name and a password hands the name on in a header; the runs
that such a request creates get it as a label. The header is believed, so nobody but the proxy may reach the server.
"""

import json
import os
import re
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paced_tasks.who import SUBMITTER

VARIABLE = "PACED_USER_HEADER"  # the name of the header, such as X-Forwarded-User; nothing is noted without it
CREATES = re.compile(r"/api/(deployments/[^/]+/create_flow_run(/bulk)?|flow_runs)/?")


class Submitters:
    """ASGI middleware: what creates runs says who asked; a name that the request itself claims does not count."""

    def __init__(self, app: ASGIApp, header: str):
        self.app, self.header = app, header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not CREATES.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        asked = Request(scope, receive)
        try:
            body = labelled(await asked.body(), asked.headers.get(self.header, ""))
        except ClientDisconnect:
            return
        scope = {**scope, "headers": list(scope["headers"])}
        MutableHeaders(scope=scope)["Content-Length"] = str(len(body))
        left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return left.pop() if left else await receive()

        await self.app(scope, again, send)


def labelled(body: bytes, user: str) -> bytes:
    """A request's body, each run in it with the user as a label; what is no run stays for the server to refuse."""
    try:
        asked: Any = json.loads(body)
    except ValueError:
        return body
    for run in asked if isinstance(asked, list) else [asked]:
        if isinstance(run, dict):
            labels = run.get("labels")
            others = {k: v for k, v in labels.items() if k != SUBMITTER} if isinstance(labels, dict) else {}
            run["labels"] = others | ({SUBMITTER: user} if user else {})
    return json.dumps(asked).encode()


def noted(app: ASGIApp) -> ASGIApp:
    """The server's application, which notes submitters if the environment names a header."""
    header = os.environ.get(VARIABLE, "")
    return Submitters(app, header) if header else app
