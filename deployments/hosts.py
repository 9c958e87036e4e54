"""Which names a browser may call Prefect's server by, and whose pages may send it requests.

Prefect's server answers any Host header. A page of any site can have its own name point at 127.0.0.1 (DNS rebinding);
for the browser the server is then that site's, whose page reads the CSRF token and starts runs. MLflow checks both
headers itself (``--allowed-hosts``, ``--cors-allowed-origins``).
"""

import functools
import os
import re
from collections.abc import Callable, Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

VARIABLE = "PACED_ALLOWED_HOSTS"  # names, with commas between them
FORM = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?")  # a name or an address, and perhaps a port
LOCAL = ("localhost", "127.0.0.1", "::1")


def hostname(address: str) -> str:
    """The name or address in a Host header, or in an Origin header without its scheme; '' if there is none."""
    match = FORM.fullmatch(address)
    return match["name"].strip("[]").lower() if match else ""


class OwnNames:
    """ASGI middleware: a request whose Host, or Origin if it has one, is another name gets status 403 and no more."""

    def __init__(self, app: ASGIApp, names: Collection[str]):
        self.app, self.names = app, {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            asked = {"Host": headers.get("host", "")}
            if "origin" in headers:
                asked["Origin"] = headers["origin"].rpartition("://")[2]
            for header, value in asked.items():
                if hostname(value) not in self.names:
                    return await self._refuse(header, hostname(value), scope, receive, send)
        await self.app(scope, receive, send)

    async def _refuse(self, header: str, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        own = f"{header} {name or 'without a name'} is none of this server's names"
        text = f"{own}: 'paced up --allowed-hosts', or {VARIABLE}, adds one\n"
        await PlainTextResponse(text, 403)(scope, receive, send)


def allowed() -> list[str]:
    """The names that the environment gives, and this host's own."""
    return [*LOCAL, *(name for name in os.environ.get(VARIABLE, "").split(",") if name)]


def guard() -> None:
    """From now on the applications that Prefect's server makes in this process answer to their own names alone."""
    from prefect.server.api import server

    from paced_deployments.submitters import noted  # and Prefect with it, which most that imports this need not load

    make: Callable[..., ASGIApp] = server.create_app

    @functools.wraps(make)
    def guarded(*args: Any, **options: Any) -> ASGIApp:
        return OwnNames(noted(make(*args, **options)), allowed())

    server.create_app = guarded  # pyright: ignore[reportAttributeAccessIssue]
