"""Prefect's server, which answers to its own names alone, with SQLite transactions that wait for each other.

Prefect begins most of them DEFERRED: they read first and take the write lock when they write. If another transaction
has written in between, SQLite refuses at once, however long it may wait, and the page that pressed Submit is answered
503: with four runs going on, every third time. A transaction that begins IMMEDIATE waits for its turn before it reads.
"""

from typing import Any

from prefect.server.database.configurations import AioSqliteConfiguration

from paced_deployments import hosts


def take_turns() -> None:
    """From now on every transaction on SQLite in this process holds the write lock from its beginning."""
    begin: Any = AioSqliteConfiguration.begin_transaction

    def begin_immediate(self: AioSqliteConfiguration, session: Any, with_for_update: bool = True) -> Any:
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = begin_immediate


if __name__ == "__main__":
    take_turns()
    hosts.guard()
    from prefect.cli import app

    app()
