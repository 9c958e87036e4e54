"""Several runs compared: the stage 'compare' on the arms of all of them. Imports no torch.

An arm is named ``RUN:ARM``. The base student is one arm if all runs began with the same one, else ``RUN:base`` each.
Differences are paired by problem, and by seed where the runs share seeds.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from paced.config import Recipe
from paced.config.base import JsonObject
from paced.config.label import BASE, Label
from paced.config.stages import compare_config
from paced.errors import ConfigError, DataError
from paced.stage import Spec, spec_of
from paced.storage.artifacts import Manifest, Ref, read_manifest, reference
from paced.storage.files import read_record
from paced.storage.runs import ComparisonSummary, RunSummary, folder_of, read_recipe
from paced.storage.tables import Row

SETTINGS = ("samples", "sampling", "seed", "thinking", "engine")  # of the stage 'evaluate', for all runs alike


class Judged(NamedTuple):
    """A finished run: its recipe, and of each student and of the base the artifact that a student was judged in."""

    name: str
    recipe: Recipe
    summary: RunSummary
    students: dict[Label, Ref]
    base: Ref

    @property
    def arms(self) -> list[str]:
        """Names of what was judged beside the base."""
        return list(dict.fromkeys(label.arm for label in self.students))

    @property
    def evaluation(self) -> Manifest:
        """The manifest of the base's evaluation: settings and benchmarks are those of every student."""
        return read_manifest(self.base.folder)

    @property
    def benchmarks(self) -> dict[str, str]:
        """Identity of each benchmark's problems, and of the model under ``model``."""
        return self.evaluation.inputs


def judged(folder: Path) -> Judged:
    """Read a run's folder.

    Raises:
        ConfigError: the run has not ended well, or a student's scores are gone.
    """
    path = folder / "run.json"
    record: Row = read_record(path) if path.exists() else {"status": "not finished"}
    if record["status"] != "completed":
        raise ConfigError(f"run {folder.name}: it is {record['status']}; finish it with 'paced run' before comparing")
    recipe = read_recipe(folder)
    scored: dict[Label, Ref] = {}
    for stage in record["stages"]:
        if stage["stage"] == "evaluate":
            path = folder_of(stage["path"], folder.absolute().parent.parent)
            if not (path / "manifest.json").exists():
                raise ConfigError(f"run {folder.name}: {path} is gone; 'paced run' with its recipe makes it anew")
            scored[Label.parse(stage["label"]).student] = reference(path)
    if Label(BASE) not in scored:
        raise ConfigError(f"run {folder.name}: no student was judged in it, as in no diagnosis: leave it out")
    summary: Any = read_record(folder / "summary.json")
    return Judged(record["name"], recipe, summary, scored, scored.pop(Label(BASE)))


def same_conditions(a: Judged, b: Judged) -> None:
    """Refuse runs that were not judged on the same problems in the same way.

    Raises:
        ConfigError: which setting, or which benchmark, differs.
    """
    mine, yours = settings(a.evaluation), settings(b.evaluation)
    apart = [f for f in sorted(mine.keys() | yours.keys()) if mine.get(f) != yours.get(f)]
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted((a.benchmarks.keys() | b.benchmarks.keys()) - {"model"}):
        one, other = a.benchmarks.get(name), b.benchmarks.get(name)
        if one != other:
            found[name] = (
                benchmark_difference(a, name, b) if one else "missing",
                benchmark_difference(b, name, a) if other else "missing",
            )
    found |= {f"evaluation.{f}": (mine.get(f), yours.get(f)) for f in apart}
    kept = [{x.name for x in run.recipe.evaluation.benchmarks if x.retention} for run in (a, b)]
    if kept[0] != kept[1]:
        found["benchmarks that measure retention"] = (sorted(kept[0]), sorted(kept[1]))
    if found:
        name, (one, other) = next(iter(found.items()))
        raise ConfigError(
            f"runs {a.name} and {b.name} cannot be compared, because {name} differs ({one} and {other}): judge both on "
            "the same problems with the same sampling"
        )


def settings(evaluation: Manifest) -> JsonObject:
    """What all runs have to share of the settings of 'evaluate', by field."""
    found: JsonObject = {}
    for name in SETTINGS:
        value: Any = evaluation.config.get(name)
        found |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return found


def benchmark_difference(run: Judged, benchmark: str, other: Judged) -> str:
    """What sets a run's benchmark apart from another's: the recipe's fields, else the problems themselves."""
    found = {
        r.name: next(b.data.model_dump() for b in r.recipe.evaluation.benchmarks if f"benchmark/{b.name}" == benchmark)
        for r in (run, other)
        if benchmark in r.benchmarks
    }
    mine, yours = found[run.name], found.get(other.name, {})
    fields = [f"{k} {v}" for k, v in mine.items() if yours and v != yours[k]]
    return ", ".join(fields) or f"problems {run.benchmarks[benchmark].removeprefix('sha256:')[:12]}"


def same_base(a: Judged, b: Judged) -> bool:
    """Whether two runs began with the same student.

    Raises:
        DataError: they did, but it was scored twice with different results.
    """
    if a.base.identity != b.base.identity:
        return False
    files = [{f.name: f.sha256 for f in run.evaluation.files}["scores.parquet"] for run in (a, b)]
    if files[0] != files[1]:
        raise DataError(
            f"runs {a.name} and {b.name} scored the same base student differently ({a.base.path} and {b.base.path}): "
            "delete one of the two folders and run its recipe again"
        )
    return True


def comparison(folders: Sequence[Path], home: Path) -> tuple[Spec, list[Judged], bool]:
    """The spec of the stage 'compare' on all arms of several runs, the runs, and whether seeds are paired.

    Where two runs share no seed, the first seed of each stands beside the first of the others, and so on: that pairs
    problems and nothing else.

    Raises:
        ConfigError: fewer than two runs, one run twice, an unfinished run, or runs judged differently.
        DataError: the same base student has different scores.
    """
    runs = [judged(folder) for folder in folders]
    names = [run.name for run in runs]
    if len(set(names)) < len(names) or len(names) < 2:
        raise ConfigError(f"compare takes two or more different runs, got: {', '.join(names)}")
    for other in runs[1:]:
        same_conditions(runs[0], other)
    one_base = all([same_base(runs[0], other) for other in runs[1:]])
    paired = all(set(a.recipe.seeds) & set(b.recipe.seeds) for a, b in combinations(runs, 2))
    inputs: dict[str, Ref] = {str(Label(BASE, 0)): runs[0].base} if one_base else {}
    for run in runs:
        if not one_base:
            inputs[str(Label(f"{run.name}:{BASE}", 0))] = run.base
        for student, ref in run.students.items():
            assert student.seed is not None
            seed = student.seed if paired else run.recipe.seeds.index(student.seed)
            inputs[str(Label(f"{run.name}:{student.arm}", seed))] = ref
    config = compare_config(runs[0].recipe, pairs(runs, one_base))
    return spec_of(config, home=str(home), inputs=inputs), runs, paired


def pairs(runs: Sequence[Judged], one_base: bool) -> Iterator[tuple[str, str]]:
    """Each arm against its base; then against its namesake in each run before, or where there is none all its arms."""
    for run in runs:
        for arm in run.arms:
            yield f"{run.name}:{arm}", BASE if one_base else f"{run.name}:{BASE}"
    for before, run in combinations(runs, 2):
        for arm in run.arms:
            for other in [arm] if arm in before.arms else before.arms:
                yield f"{run.name}:{arm}", f"{before.name}:{other}"


def summary_of(name: str, result: Row, runs: Sequence[Judged]) -> ComparisonSummary:
    """comparison.json as a run's summary is: with what each arm cost in its own run."""
    costs = ("scheme", "schedule", "teacher_tokens", "sampled_tokens", "train_tokens", "steps", "seconds")
    arms: dict[str, Row] = {}
    for arm, scores in result["arms"].items():
        run, _, own = arm.rpartition(":")
        source = next((r for r in runs if r.name == run), runs[0]).summary["arms"][own]
        arms[arm] = scores | {k: source[k] for k in costs if k in source}
    benchmarks, comparisons = result["benchmarks"], result["comparisons"]
    return {
        "name": name,
        "status": "completed",
        "warnings": [],
        "benchmarks": benchmarks,
        "arms": arms,
        "comparisons": comparisons,
    }
