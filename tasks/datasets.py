"""What MLflow is told of a problem set beside its digest: rows, levels, files, columns."""

import functools
from collections import Counter
from pathlib import Path
from typing import TypedDict

from paced.config import Recipe
from paced.data.rows import files
from paced.errors import DataError
from paced.storage.artifacts import Ref, open_file, read_manifest
from paced.storage.identity import short

MOST = 50  # names of files that are listed


def prepared(home: str, identity: str) -> Path:
    """Where a prepared problem set lies."""
    return Path(home) / "artifacts" / "prepare" / short(identity)


class Profile(TypedDict, total=False):
    """What is known of a problem set; what is not is left out. ``levels`` maps them to numbers of problems."""

    num_rows: int
    digest: str
    files: list[str]
    levels: dict[str, int]


class Description(TypedDict):
    """Of a data set, in MLflow's notation."""

    schema: dict[str, list[dict[str, str]]]
    profile: Profile


@functools.lru_cache(maxsize=64)  # every stage that reads a problem set notes it
def described(folder: Path, place: str | None) -> Description:
    """A prepared problem set that was made from ``place``."""
    import pyarrow.parquet as pq

    manifest = read_manifest(folder)
    ref = Ref(kind=manifest.kind, path=str(folder), identity=manifest.identity)
    table = pq.read_table(open_file(ref, "problems.parquet"))
    levels = Counter(level for level in table["level"].to_pylist() if level is not None)
    columns = [{"name": f.name, "type": "long" if f.name == "level" else "string"} for f in table.schema]
    profile = Profile(num_rows=table.num_rows, digest=manifest.identity)
    if found := names(place):
        profile["files"] = found
    if levels:
        profile["levels"] = {str(level): levels[level] for level in sorted(levels)}
    return Description(schema={"mlflow_colspec": columns}, profile=profile)


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
