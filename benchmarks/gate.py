"""What the gate of retraining lets through in a year of weekly looks, simulated on recorded scores.

    python -m benchmarks.gate OUT.json [--sequences 1000]
    python -m benchmarks.gate --record RUN     # writes gate_scores.json from the folder of a demo's run

``gate_scores.json`` holds, for each of a demo's 13 students, how many of 4 samples were right on each problem of a
benchmark. A sequence is a year of one team: a benchmark of problems drawn from the recorded ones, asked in all 52
weeks, and the champion's one set of samples on it, compared with every challenger until one takes its place. A model
is drawn with an exact expected accuracy over all problems that could be drawn: on each problem it is right as often
as one of two recorded students, the better or the worse one, chosen so that the mean is what is asked for; students
that know all or nothing stand in where it lies outside the recorded. So "no gain" is none exactly, and differences
have the recorded spread. Rules: the budget of ``paced.evaluation.promotion`` with its three conditions, and for
comparison each look by itself at 95% with the limit against the champion only.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from benchmarks.machine import machine, versions
from paced.config import Retraining
from paced.evaluation.compare import KEY, by_problem
from paced.evaluation.compare_runs import judged
from paced.evaluation.promotion import ALONE, HALF, look
from paced.statistics import Array, t_quantile
from paced.storage.artifacts import open_file

HERE = Path(__file__).parent
WEEKS = 52
SETTINGS = Retraining(watch="incoming")
STEP, TOTAL = SETTINGS.forgetting_limit or 0.0, SETTINGS.total_forgetting_limit or 0.0  # points
START = {"arithmetic": 0.475, "sorting": 0.95}  # the first student's expected accuracies
SIZES = {"2000 problems, 4 samples": (2000, 4), "576 problems, 4 samples": (576, 4), "200 problems, 1 sample": (200, 1)}
Level = Callable[[int], float]
RULES: dict[str, Level] = {
    "budget": lambda k: look(k, SETTINGS.false_promotions).outside,
    "each alone at 95%": lambda k: ALONE,
}


class Year(NamedTuple):
    """[S, 52] whether a challenger was promoted, and [S] how many points the last champion has truly forgotten."""

    promoted: NDArray[np.bool_]
    forgotten: Array


class Models:
    """Students with given expected accuracies on the benchmarks of S sequences.

    Made from recorded rates [students, problems].
    """

    def __init__(self, rates: Array, sequences: int, problems: int, samples: int, rng: np.random.Generator):
        ends = np.stack([np.zeros(rates.shape[1]), np.ones(rates.shape[1])])
        self.rates, self.samples, self.rng = np.concatenate([rates, ends]), samples, rng
        self.means = self.rates.mean(1)
        self.drawn = rng.integers(0, rates.shape[1], (sequences, problems))

    def scores(self, expected: Array) -> Array:
        """Measured accuracies of new students whose true ones are ``expected`` [S], by problem. [S, N]."""
        recorded = self.means[:-2]
        inside = (expected > recorded.min()) & (expected < recorded.max())
        below = self._one_of((self.means < expected[:, None]) & (np.arange(len(self.means)) < len(recorded)))
        above = self._one_of((self.means > expected[:, None]) & (np.arange(len(self.means)) < len(recorded)))
        below = np.where(inside | (expected >= recorded.max()), below, len(recorded))  # knows nothing
        above = np.where(inside | (expected <= recorded.min()), above, len(recorded) + 1)  # knows all
        share = (expected - self.means[below]) / (self.means[above] - self.means[below])
        better = self.rng.random(self.drawn.shape) < share[:, None]
        rate = self.rates[np.where(better, above[:, None], below[:, None]), self.drawn]
        return self.rng.binomial(self.samples, rate) / self.samples

    def _one_of(self, allowed: NDArray[np.bool_]) -> NDArray[np.intp]:
        """One allowed student for each sequence, at random. [S]."""
        return np.where(allowed, self.rng.random(allowed.shape), -1.0).argmax(1)


def low(differences: Array, outside: Array) -> Array:
    """The low end of ``t_interval`` for each row of [S, N], at levels [S]."""
    size = differences.shape[1]
    quantile = {share: t_quantile(share, size - 1) for share in np.unique(outside).tolist()}
    reach = np.array([quantile[share] for share in outside.tolist()])
    return differences.mean(1) - reach * differences.std(1, ddof=1) / np.sqrt(size)


def simulate(
    main: Models, level: Level, gain: Callable[[int], float], kept: Models | None = None, drift: float = 0.0,
    total: float | None = None,
) -> Year:  # fmt: skip
    """A year in which week w's challenger is truly ``gain(w)`` better than its champion and ``drift`` worse on
    retention, as shares. Retention and its limits count only with ``kept``.
    """
    sequences = len(main.drawn)
    truth, retained = np.full(sequences, START["arithmetic"]), np.full(sequences, START["sorting"])
    champion = main.scores(truth)
    first = remembers = kept.scores(retained) if kept else np.zeros((sequences, 2))
    looks, promoted = np.zeros(sequences, int), np.zeros((sequences, WEEKS), bool)
    for week in range(WEEKS):
        looks += 1
        outside = np.array([level(k) for k in looks.tolist()])
        better, worse = np.minimum(truth + gain(week + 1), 0.99), np.maximum(retained - drift, 0.01)
        new = main.scores(better)
        passed = low(new - champion, outside) > 0
        if kept:
            new_kept = kept.scores(worse)
            passed &= low(new_kept - remembers, np.full(sequences, ALONE)) > -STEP / 100
            if total is not None:
                passed &= low(new_kept - first, outside) > -total / 100
            remembers = np.where(passed[:, None], new_kept, remembers)
            retained = np.where(passed, worse, retained)
        champion, truth = np.where(passed[:, None], new, champion), np.where(passed, better, truth)
        looks[passed] = 0
        promoted[:, week] = passed
    return Year(promoted, 100 * (START["sorting"] - retained))


def recorded() -> dict[str, Array]:
    """The recorded rates of each benchmark, [students, problems]."""
    counts: dict[str, dict[str, str]] = json.loads((HERE / "gate_scores.json").read_text())["correct of 4"]
    return {name: np.array([list(map(int, line)) for line in of.values()]) / 4 for name, of in counts.items()}


def no_gain(rates: Array, sequences: int, problems: int, samples: int, level: Level) -> dict[str, float]:
    """No challenger is better: the share of years in which any is promoted, and how many are in a year."""
    year = simulate(Models(rates, sequences, problems, samples, np.random.default_rng(1)), level, lambda week: 0.0)
    return {"sequences with a promotion": share(year.promoted.any(1)), "promotions a year": share(year.promoted.sum(1))}


def power(rates: Array, sequences: int, problems: int, samples: int, level: Level, begins: int) -> dict[str, float]:
    """No challenger is better before week ``begins``, each is by 3 points from then on until one is promoted."""
    models = Models(rates, sequences, problems, samples, np.random.default_rng(2))
    year = simulate(models, level, lambda week: 0.03 * (week >= begins))
    after = year.promoted[:, begins - 1 :]
    return {
        "falsely promoted before": share(year.promoted[:, : begins - 1].any(1)),
        **{f"promoted within {n} looks": share(after[:, :n].any(1)) for n in (1, 4, 13)},
    }


def forgetting(sequences: int, problems: int, level: Level, total: float | None) -> dict[str, float]:
    """Each challenger gains 3 points on its champion, and forgets 1 that the champion knew."""
    rates, rng = recorded(), np.random.default_rng(3)
    main, kept = (Models(rates[name], sequences, problems, 4, rng) for name in ("arithmetic", "sorting"))
    year = simulate(main, level, lambda week: 0.03, kept, 0.01, total)
    return {
        "promotions a year": share(year.promoted.sum(1)),
        "points forgotten after a year": share(year.forgotten),
        "most forgotten": float(year.forgotten.max().round(2)),
        f"sequences beyond {TOTAL:g} points": share(year.forgotten > TOTAL + 1e-9),
    }


def spent_by(half: int) -> Level:
    """The budget with half of it spent by another number of looks."""
    return lambda k: look(k, SETTINGS.false_promotions, half).outside


def share(values: ArrayLike) -> float:
    return round(float(np.mean(values)), 4)


def measured(sequences: int) -> dict[str, Any]:
    """Every scenario by benchmark size and rule."""
    rates = recorded()["arithmetic"]
    sizes = {name: (sequences, *size) for name, size in SIZES.items()}
    found: dict[str, Any] = {
        "no gain": {n: {r: no_gain(rates, *size, level) for r, level in RULES.items()} for n, size in sizes.items()}
    }
    for begins in (1, 20):
        found[f"3 points from week {begins} on"] = {
            n: {r: power(rates, *size, level, begins) for r, level in RULES.items()} for n, size in sizes.items()
        }
    found["half of the budget in so many looks, 576 problems"] = {
        half: {
            begins: power(rates, *sizes["576 problems, 4 samples"], spent_by(half), begins) for begins in (1, 20)
        }
        for half in (1, HALF, 26)
    }
    limits = {"budget": TOTAL, "each alone at 95%": None}
    found["1 point forgotten a promotion"] = {
        "2000 problems, 4 samples": {r: forgetting(sequences, 2000, RULES[r], limits[r]) for r in RULES}
    }
    return found


def record(run: Path) -> None:
    """Keep the counts of a run's students, in the order of the problems' ids."""
    scores = judged(run)
    found: dict[str, dict[str, str]] = {}
    for name, ref in {"base": scores.base, **{str(k): v for k, v in scores.students.items()}}.items():
        columns = [*KEY, "level", "tokens", "finish", "verdict"]
        table = by_problem(pd.read_parquet(open_file(ref, "scores.parquet"), columns=columns))
        for benchmark in sorted(set(table["benchmark"])):
            correct = table["correct"][table["benchmark"] == benchmark].astype(int)
            found.setdefault(benchmark, {})[name] = "".join(map(str, correct))
    (HERE / "gate_scores.json").write_text(json.dumps({"correct of 4": found}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--record", type=Path, metavar="RUN")
    parser.add_argument("--sequences", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.record:
        record(arguments.record)
    if arguments.out:
        result = {"machine": machine(), "versions": versions("numpy"), "sequences": arguments.sequences, "weeks": WEEKS}
        result["results"] = measured(arguments.sequences)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
