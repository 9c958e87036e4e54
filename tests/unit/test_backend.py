"""MLflow's database in a home: whole or not at all, and its paths are where the home is."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from paced_tasks.backend import ready

ARTIFACTS = "file:///here/mlflow/artifacts"


def executed(database: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        rows = [row for s in statements for row in connection.execute(s).fetchall()]
        connection.commit()
    return rows


def create(path: Path) -> None:
    executed(
        path, "create table alembic_version (v text)", "create table experiments (artifact_location text)",
        "create table runs (artifact_uri text)", "create table model_versions (source text, storage_location text)",
    )  # fmt: skip


def begun(path: Path) -> None:
    """A kill in the middle of making it."""
    executed(path, "create table experiments (artifact_location text)", "create table _alembic_tmp_runs (x text)")
    raise KeyboardInterrupt


def test_a_kill_while_it_is_made_leaves_none(tmp_path: Path) -> None:
    database, told = tmp_path / "mlflow" / "mlflow.db", list[str]()
    with pytest.raises(KeyboardInterrupt):
        ready(database, ARTIFACTS, begun, told.append)
    assert not database.exists()
    ready(database, ARTIFACTS, create, told.append)
    assert [p.name for p in database.parent.iterdir()] == ["mlflow.db"]
    assert told == []


@pytest.mark.parametrize("runs", [0, 1])
def test_a_half_made_one_of_an_older_version_is_moved_away(runs: int, tmp_path: Path) -> None:
    """Unless it holds a run."""
    database, told = tmp_path / "mlflow.db", list[str]()
    create(database)
    executed(database, "create table _alembic_tmp_latest_metrics (x text)")
    executed(database, *["insert into runs values ('x')"] * runs)
    ready(database, ARTIFACTS, create, told.append)
    assert len(told) == 1 - runs and not any("\n" in line for line in told)
    tables = {name for (name,) in executed(database, "select name from sqlite_master")}
    assert ("_alembic_tmp_latest_metrics" in tables) == bool(runs)
    assert (tmp_path / "mlflow.db.broken-0").exists() == (not runs)


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"damaged" * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        ready(database, ARTIFACTS, create, print)
    assert database.read_bytes() == b"damaged" * 1000


def test_paths_follow_a_moved_home(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    create(database)
    there = "file:///th%25_re/mlflow/artifacts"
    executed(
        database, f"insert into experiments values ('{there}')", "insert into experiments values ('s3://x')",
        f"insert into runs values ('{there}/1/artifacts')", "insert into runs values ('file:///other/mlflow/artifacts2')",
        f"insert into model_versions values ('{there}/1/artifacts/model', null)",
    )  # fmt: skip
    for _ in range(2):
        ready(database, ARTIFACTS, create, print)
        assert executed(database, "select * from experiments") == [(ARTIFACTS,), ("s3://x",)]
        found = executed(database, "select * from runs")
        assert found == [(f"{ARTIFACTS}/1/artifacts",), ("file:///other/mlflow/artifacts2",)]
        assert executed(database, "select * from model_versions") == [(f"{ARTIFACTS}/1/artifacts/model", None)]
