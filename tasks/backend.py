"""MLflow's database of a home, a SQLite file: there whole or not at all, and where the home is now.

MLflow makes its tables in dozens of migrations. A kill in between leaves a file that no later start can use, so it is
made under another name. It also writes down where artifacts lie, as whole paths; those are corrected when a home that
was moved or copied is opened.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from paced.storage.files import make_folder, sync

NEEDED = {"alembic_version", "experiments", "runs"}
LOCATED = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)


def ready(database: Path, artifacts: str, create: Callable[[Path], None], say: Callable[[str], None]) -> None:
    """Have the database there, whole and of this place; call it alone, and before MLflow opens it.

    Args:
        artifacts: where files of runs are to lie, a URL.
        create: makes a database of MLflow's at a path.
        say: is told, in one line, of a broken one that was moved away.
    """
    make_folder(database.parent)
    if database.exists() and half_made(database):
        away = database.with_name(f"{database.name}.broken-{len(list(database.parent.glob('*.broken-*')))}")
        database.rename(away)
        say(f"warning: MLflow's database was half made and held no run: it is now {away}, and a new one is made")
    if database.exists():
        relocate(database, artifacts)
        return
    new = database.with_name(f".{database.name}.new")
    for left in database.parent.glob(f"{new.name}*"):
        left.unlink()
    create(new)
    sync(new)
    new.rename(database)
    sync(database.parent)


def half_made(database: Path) -> bool:
    """Whether a database lacks tables, or has those of a migration that was broken off, and holds no run."""
    try:
        with closing(sqlite3.connect(database)) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            if tables >= NEEDED and not any(name.startswith("_alembic_tmp_") for name in tables):
                return False
            return "runs" not in tables or not connection.execute("select count(*) from runs").fetchone()[0]
    except sqlite3.Error:  # damaged, or in use: what it holds is not known
        return False


def relocate(database: Path, artifacts: str) -> None:
    """Have runs and models look for their files in ``artifacts``, if they were kept in a home at another place."""
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
        found = connection.execute("select distinct artifact_location from experiments").fetchall()
        ending = "/mlflow/artifacts"
        for (old,) in found:
            if old is None or old == artifacts or not old.endswith(ending):
                continue
            for table, column in LOCATED:
                if table in tables:
                    connection.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                        (artifacts, len(old) + 1, len(old), old),
                    )
        connection.commit()
