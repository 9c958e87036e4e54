"""Prefect's server: its database under several writers, and who may ask it."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness import ROOT, Server, environment

from paced_deployments import hosts

PROGRAM = """
import asyncio, sys
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from paced_deployments.prefect_server import take_turns

if sys.argv[2] == "turns":
    take_turns()

async def count(database, engine):
    session = await database.session(engine)
    async with session, database.begin_transaction(session):
        (n,) = (await session.execute(sa.text("SELECT n FROM t"))).one()
        await asyncio.sleep(0.05)  # what a server does between reading and writing
        await session.execute(sa.text("UPDATE t SET n = :n"), {"n": n + 1})

async def main():
    database = AioSqliteConfiguration("sqlite+aiosqlite:///" + sys.argv[1])
    engine = await database.engine()
    await asyncio.gather(*(count(database, engine) for _ in range(4)))

asyncio.run(main())
"""


@pytest.mark.parametrize(("turns", "says"), [("turns", ""), ("no", "database is locked")])
def test_transactions_that_read_and_then_write_wait_for_each_other(turns: str, says: str, tmp_path: Path) -> None:
    """Without turns SQLite refuses: when that is no longer so, Prefect needs no help."""
    path = tmp_path / "t.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (n INTEGER)")
        database.execute("INSERT INTO t VALUES (0)")
    command = [sys.executable, "-c", PROGRAM, str(path), turns]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert says in outcome.stderr and (outcome.returncode == 0) is not bool(says)
    if not says:
        with sqlite3.connect(path) as database:
            assert database.execute("SELECT n FROM t").fetchone() == (4,)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has, beside this host's own names, the name ``trainer.example``."""
    home = tmp_path_factory.mktemp("guarded")
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    env = environment(home, settings | {hosts.VARIABLE: "trainer.example"})
    command = [sys.executable, "-m", "paced_deployments.prefect_server", "server", "start"]
    with Server(command, "/api/health", env, home.parent / "guarded.log") as server:
        yield server


@pytest.mark.parametrize("path", ["/", "/api/health", "/api/csrf-token?client=a", "/api/flow_runs/filter", "/docs"])
def test_another_sites_name_is_refused_on_every_route(guarded: Server, path: str) -> None:
    """A page whose name points at 127.0.0.1 (DNS rebinding), and a page that sends requests from elsewhere."""
    port = guarded.port
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": f"localhost.evil.example:{port}"},
        {"Host": f"evil.example@localhost:{port}x"},
        {"Host": f"localhost:{port}", "Origin": "http://evil.example"},
        {"Host": f"localhost:{port}", "Origin": "null"},
    ):
        for method in ("GET", "POST", "OPTIONS"):
            answer = httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers)
            assert answer.status_code == 403, (method, headers)
            assert len(answer.text.splitlines()) == 1 and "--allowed-hosts" in answer.text


def test_its_own_names_are_answered(guarded: Server) -> None:
    port = guarded.port
    for name in ("localhost", "127.0.0.1", "trainer.example", "TRAINER.example", "[::1]"):
        own = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
        assert httpx.get(f"http://127.0.0.1:{port}/api/health", headers=own).status_code == 200, name
        assert httpx.get(f"http://127.0.0.1:{port}/api/health", headers={"Host": name}).status_code == 200, name


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Host": "localhost", "Origin": "https://evil.example"}])
def test_a_websocket_of_another_site_is_refused(guarded: Server, headers: dict[str, str]) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    answer = httpx.get(f"http://127.0.0.1:{guarded.port}/api/events/in", headers=upgrade | key | headers)
    assert answer.status_code == 403
