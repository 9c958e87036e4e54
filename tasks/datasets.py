"""What MLflow is told of a problem set beside its digest: rows, levels, files, columns."""

import functools
from collections import Counter
from pathlib import Path
from typing import Any

from paced.config import Recipe
from paced.data.rows import files
from paced.errors import DataError
from paced.storage.artifacts import Ref, open_file, read_manifest
from paced.storage.identity import short

MOST = 50  # names of files that are listed


def prepared(home: str, identity: str) -> Path:
    """Where a prepared problem set lies."""
    return Path(home) / "artifacts" / "prepare" / short(identity)


@functools.lru_cache(maxsize=64)  # every stage that reads a problem set notes it
def described(folder: Path, place: str | None) -> dict[str, Any]:
    """The ``schema``, in MLflow's notation, and ``profile`` of a prepared problem set that was made from ``place``.

    Levels map to numbers of problems.
    """
    import pyarrow.parquet as pq

    manifest = read_manifest(folder)
    ref = Ref(kind=manifest.kind, path=str(folder), identity=manifest.identity)
    table = pq.read_table(open_file(ref, "problems.parquet"))
    levels = Counter(level for level in table["level"].to_pylist() if level is not None)
    columns = [{"name": f.name, "type": "long" if f.name == "level" else "string"} for f in table.schema]
    profile: dict[str, Any] = {"num_rows": table.num_rows, "digest": manifest.identity, "files": names(place)}
    profile["levels"] = {str(level): levels[level] for level in sorted(levels)}
    return {"schema": {"mlflow_colspec": columns}, "profile": {k: v for k, v in profile.items() if v}}


def place_of(recipe: Recipe, benchmark: str | None) -> str | None:
    """Where the problems of a benchmark come from, or without one those that a run trains on; None: generated ones."""
    found = {b.name: b.data for b in recipe.evaluation.benchmarks}
    return (found[benchmark] if benchmark else recipe.data).path


def names(place: str | None) -> list[str]:
    """Of the data files that a path means, as far as they are still there; none of generated problems."""
    if place is None:
        return []
    try:
        found = [file.name for file in files(Path(place))]
    except DataError:
        found = [Path(place).name]
    return found if len(found) <= MOST else [*found[:MOST], f"and {len(found) - MOST} more"]
