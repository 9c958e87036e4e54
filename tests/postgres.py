"""A PostgreSQL cluster of its own on a free port of 127.0.0.1, as the user ``postgres`` where the tests run as root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from compose import FOLDER
from harness import free_port

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nonexistent"), key=lambda p: float(p.parent.name))
PASSWORD = "s%20cret"  # "s cret": what has to be escaped in a URL goes wrong first
MISSING = f"{BIN / 'initdb'} is missing: apt-get install postgresql"


class Postgres:
    """The cluster; ``url`` names a database of it. ``password`` is that of the user ``paced``, as a URL has it."""

    def __init__(self, folder: Path, password: str):
        self.folder, self.password, self.port = folder, password, free_port()
        self.user = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
        if self.user:
            shutil.chown(folder, self.user)
        words = folder / "password"
        words.write_text(unquote(password))
        words.chmod(0o644)
        self._run("initdb", "-D", folder / "data", "-N", "-U", "paced", "-A", "scram-sha-256", f"--pwfile={words}")
        words.unlink()
        self.start()

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [str(BIN / program), *map(str, arguments)], check=True, user=self.user, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, cwd=self.folder,
        )  # fmt: skip

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", *arguments)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._control("start", "-o", options)

    def die(self) -> None:
        """Every process of it ends at once, without a checkpoint."""
        self._control("stop", "-m", "immediate")

    def url(self, database: str) -> str:
        return f"postgresql://paced:{self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        import psycopg2

        connection = psycopg2.connect(self.url(database))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@contextmanager
def postgres(password: str = PASSWORD) -> Iterator[Postgres]:
    """A running cluster with the databases that deployments/compose makes: ``prefect`` and ``mlflow``."""
    # Not below pytest's folders: those are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="paced-postgres-"))
    try:
        cluster = Postgres(folder, password)
        try:
            for statement in (FOLDER / "databases.sql").read_text().splitlines():
                cluster.execute(statement)
            yield cluster
        finally:
            cluster.die()
    finally:
        shutil.rmtree(folder)
