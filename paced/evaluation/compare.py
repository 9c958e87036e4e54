"""Stage 'compare': every arm's accuracy with its interval, and paired differences (method section 9).

Accuracy is the mean over problems of the share of a problem's samples that are right. Two arms are compared on the same
problems and seeds, resampled together, so what makes a problem or a seed hard for both cancels. Imports no torch.

Shapes: S seeds, N problems (all benchmarks', in one order for every arm).
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from paced.config.label import BASE, Label
from paced.config.stages import CompareConfig
from paced.errors import ConfigError, DataError
from paced.stage import Job
from paced.statistics import Array, bootstrap, pass_at_k

Mask = NDArray[np.bool_]
KEY = ["benchmark", "problem_id"]
DECIMALS = 9  # the last bits of a matrix product depend on the number of threads


def is_base(arm: str) -> bool:
    """Whether an arm is the base student, of one run (``base``) or among those of several (``RUN:base``).

    It is scored once: its one row stands beside every seed of another arm.
    """
    return arm.rpartition(":")[2] == BASE


class ArmScores(NamedTuple):
    """The scores of one arm: [S, N] counts of samples, by problem."""

    name: str
    seeds: list[int]
    samples: Array
    known: Array  # with a verdict
    correct: Array
    truncated: Array
    tokens: Array
    written: Array  # samples that are text, not a choice compared by log-likelihood

    @property
    def accuracy(self) -> Array:
        """[S, N]; NaN where no verdict is known."""
        return np.where(self.known > 0, self.correct / np.maximum(self.known, 1), np.nan)

    def rows(self, seeds: list[int]) -> Array:
        """Accuracy on these seeds, [len(seeds), N]."""
        return self.accuracy[[0] * len(seeds) if self.alone else [self.seeds.index(s) for s in seeds]]

    @property
    def alone(self) -> bool:
        return is_base(self.name) and len(self.seeds) == 1


def compare(job: Job) -> None:
    """Inputs: an ``evaluate`` artifact for each ``ARM/SEED``. Files: comparison.json.

    Raises:
        ConfigError: a pair names an arm that is no input, or an input's name is not ``ARM/SEED``.
        DataError: arms were scored on different problems, or an arm has no known verdict on a benchmark.
    """
    config = CompareConfig.model_validate(job.spec.config)
    problems, arms = load(job, config)
    retention = problems["benchmark"].isin([b.name for b in config.benchmarks if b.retention]).to_numpy(bool)
    entries: dict[str, dict[str, Any]] = {name: generation(arm, ~retention, arms) for name, arm in arms.items()}
    comparisons: list[dict[str, Any]] = []
    several = sum(not b.retention for b in config.benchmarks) > 1
    for metric, group, chosen in groups(problems, retention):
        values: dict[tuple[str, ...], Array] = {(name,): arm.accuracy[:, chosen] for name, arm in arms.items()}
        if group is None or (metric == "by_benchmark" and several and not retention[chosen].any()):
            values |= {(a, b): difference(arms[a], arms[b])[:, chosen] for a, b in config.pairs}
        for key, interval in intervals(values).items():
            about = {"problems": int((~np.isnan(values[key])).any(0).sum())}
            if len(key) == 2:
                names = {"a": key[0], "b": key[1], "metric": group or metric, "difference": interval.pop("mean")}
                comparisons.append(names | interval | about | {"seeds": len(values[key])})
                continue
            arm = arms[key[0]]
            about |= {"samples": int(arm.known[:, chosen].sum()), "seeds": len(arm.seeds)}
            if metric == "by_benchmark":
                about = generation(arm, chosen, arms) | about
            place = entries[arm.name] if group is None else entries[arm.name].setdefault(metric, {})
            place[group or metric] = interval | about
    benchmarks = [b.model_dump() for b in config.benchmarks]
    job.write_json("comparison.json", {"benchmarks": benchmarks, "arms": entries, "comparisons": comparisons})
    job.counts |= {"arms": len(arms), "problems": len(problems), "comparisons": len(comparisons)}


def groups(problems: pd.DataFrame, retention: Mask) -> Iterator[tuple[str, str | None, Mask]]:
    """The metrics to compute: name, group (None for the whole), and which of the N problems it pools."""
    level, benchmark = problems["level"].to_numpy(int), problems["benchmark"].to_numpy(str)
    yield "accuracy", None, ~retention
    for value in np.unique(level[~retention & (level >= 0)]):
        yield "by_level", str(value), ~retention & (level == value)
    for value in np.unique(benchmark):
        yield "by_benchmark", str(value), benchmark == value
    if retention.any():
        yield "retention", None, retention


def intervals(values: dict[tuple[str, ...], Array]) -> dict[tuple[str, ...], dict[str, float]]:
    """mean, low and high of each matrix; one without any value has none."""
    present = {key: matrix for key, matrix in values.items() if not np.isnan(matrix).all()}
    found = bootstrap(list(present.values())) if present else []
    return {
        key: {name: round(value, DECIMALS) for name, value in interval._asdict().items()}
        for key, interval in zip(present, found, strict=True)
    }


def load(job: Job, config: CompareConfig) -> tuple[pd.DataFrame, dict[str, ArmScores]]:
    """The problems (benchmark, problem_id, level or -1) in their one order, and the arms by name."""
    tables: dict[str, dict[int, pd.DataFrame]] = {}
    first: tuple[str, pd.DataFrame] | None = None
    for name in job.spec.inputs:
        try:
            label = Label.parse(name)
        except ValueError:
            label = Label()
        if not label.arm or label.seed is None or label.step:
            raise ConfigError(f"input {name} is not named ARM/SEED")
        table = by_problem(job.table(name, "scores.parquet", [*KEY, "level", "tokens", "finish", "verdict"]))
        first = first or (name, table)
        same_problems(*first, name, table)
        tables.setdefault(label.arm, {})[label.seed] = table
    if first is None:
        raise ConfigError("compare needs at least one input named ARM/SEED")
    problems = pd.DataFrame(first[1][[*KEY, "level"]])
    scored, listed = set(problems["benchmark"]), {b.name for b in config.benchmarks}
    if scored != listed:
        raise DataError(f"the arms were scored on benchmarks {sorted(scored)}, the comparison lists {sorted(listed)}")
    arms: dict[str, ArmScores] = {}
    for name in sorted(tables, key=lambda n: (n != BASE, n)):
        seeds = sorted(tables[name])
        counts = {
            column: np.stack([tables[name][seed][column].to_numpy(float) for seed in seeds])
            for column in ("samples", "known", "correct", "truncated", "tokens", "written")
        }
        arms[name] = ArmScores(name, seeds, **counts)
        for benchmark in config.benchmarks:
            if not counts["known"][:, problems["benchmark"] == benchmark.name].any():
                raise DataError(f"no sample of arm {name} on {benchmark.name} has a known verdict")
    for pair in config.pairs:
        for name in pair:
            if name not in arms:
                raise ConfigError(f"pairs: there is no arm {name} (there are: {', '.join(arms)})")
    return problems, arms


def by_problem(scores: pd.DataFrame) -> pd.DataFrame:
    """Counts a problem, ordered by benchmark and problem id, so that arms on the same problems line up row by row."""
    verdict = scores["verdict"]
    flags = pd.DataFrame(
        {
            **{name: scores[name].astype(str) for name in KEY},
            "level": scores["level"].fillna(-1).astype(int),
            "samples": 1,
            "known": (verdict != "unknown").astype(int),
            "correct": (verdict == "correct").astype(int),
            "truncated": (scores["finish"] == "length").astype(int),
            "tokens": scores["tokens"].astype(int),
            "written": (scores["finish"] != "scored").astype(int),
        }
    )
    return pd.DataFrame(flags.groupby([*KEY, "level"], as_index=False).sum())


def same_problems(a: str, left: pd.DataFrame, b: str, right: pd.DataFrame) -> None:
    """Raise DataError unless both tables have the same problems."""
    if left[KEY].equals(right[KEY]):
        return
    left_keys, right_keys = (set(zip(t["benchmark"], t["problem_id"], strict=True)) for t in (left, right))
    benchmark, problem = min(left_keys ^ right_keys)
    raise DataError(
        f"{a} and {b} were scored on different problems ({len(left_keys)} and {len(right_keys)}, "
        f"{len(left_keys & right_keys)} in common; {problem} of benchmark {benchmark} is in one only): "
        "evaluate both on the same problem sets"
    )


def difference(a: ArmScores, b: ArmScores) -> Array:
    """Accuracy of ``a`` minus that of ``b``, [S, N], on the seeds both have; NaN where either has no known verdict.

    Raises:
        DataError: they share no seed.
    """
    seeds = a.seeds if b.alone else b.seeds if a.alone else sorted(set(a.seeds) & set(b.seeds))
    if not seeds:
        raise DataError(f"arms {a.name} and {b.name} share no seed ({a.seeds} and {b.seeds}): compare equal seeds")
    return a.rows(seeds) - b.rows(seeds)


def shortest(arms: Iterable[ArmScores], chosen: Mask) -> int:
    """The k of pass@k: known verdicts that each of the chosen problems with any has in every arm."""
    known = (arm.known[:, chosen] for arm in arms)
    return int(min(k[k > 0].min(initial=np.inf) for k in known))


def generation(arm: ArmScores, chosen: Mask, arms: dict[str, ArmScores]) -> dict[str, float]:
    """pass@k, truncated share and mean response length of an arm on the chosen problems; how many verdicts lack."""
    known, correct = arm.known[:, chosen], arm.correct[:, chosen]
    k = shortest(arms.values(), chosen)
    pairs = zip(known[known > 0].astype(int).tolist(), correct[known > 0].astype(int).tolist(), strict=True)
    found: dict[str, float] = {
        "k": k,
        "pass_at_k": round(float(np.mean([pass_at_k(n, c, k) for n, c in pairs])), DECIMALS),
    }
    if written := arm.written[:, chosen].sum():
        found["truncated"] = round(float(arm.truncated[:, chosen].sum() / written), DECIMALS)
        found["mean_tokens"] = round(float(arm.tokens[:, chosen].sum() / written), DECIMALS)
    return found | {"unknown": int(arm.samples[:, chosen].sum() - known.sum())}
