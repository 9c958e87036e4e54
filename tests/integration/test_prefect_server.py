"""Prefect's database under several writers, as one SQLite file has to bear them."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT

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
