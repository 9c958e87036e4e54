"""How far new problems are from those before: distances against closed forms, what chance brings, and what waits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paced.evaluation.drift import KINDS, Distance, ProblemProfile, distances, past, profile, together
from paced.report.drift import picture_of_drift
from paced.storage.artifacts import File, Ref, commit
from paced.storage.identity import file_digest
from paced_flows.challenger import ARRIVING, Gate, Postponed, decided, drift


def tables(folder: Path, levels: Sequence[int | None], lengths: Sequence[int], rates: Sequence[float]) -> list[Path]:
    """Problems and their pass rates as stages leave them; a rate that is nan has no known verdict."""
    ids = [f"p{i}" for i in range(len(levels))]
    files = [folder / "problems.parquet", folder / "pass_rates.parquet"]
    questions = ["x" * n for n in lengths]
    pd.DataFrame({"problem_id": ids, "question": questions, "level": pd.array(levels, "Int32")}).to_parquet(files[0])
    unknown = [8 * int(np.isnan(r)) for r in rates]
    pd.DataFrame({"problem_id": ids, "unknown": unknown, "pass_rate": rates}).to_parquet(files[1])
    return files


def test_a_profile_counts_the_new_problems_alone(tmp_path: Path) -> None:
    files = tables(tmp_path, [1, 1, None, 2], [5, 7, 7, 9], [0.5, 0.125, float("nan"), 1.0])
    found = profile(files[0], files[1], {"p0", "p1", "p2"})
    assert found.problems == 3
    assert found.counts == {
        "level": {"1": 2, "none": 1}, "length": {"5": 1, "7": 2}, "pass rate": {"0.5": 1, "0.125": 1},
        "unknown verdicts": {"none": 2, "some": 1},
    }  # fmt: skip
    both = together([found, found])
    assert both.problems == 6 and both.counts["length"] == {"5": 2, "7": 4}


def of(**counts: dict[str, int]) -> ProblemProfile:
    named = {name.replace("_", " "): values for name, values in counts.items()}
    return ProblemProfile(problems=max(sum(values.values()) for values in named.values()), counts=named)


def test_distances_worked_by_hand() -> None:
    """Levels: (3/4, 1/4, 0) and (1/4, 1/4, 2/4) are 1/2 apart. Lengths: of 9, 10, 11 a half, none and a half are below
    10; numbers, so 9 comes before 10. Nothing in common is 1.
    """
    new = of(level={"1": 3, "2": 1}, length={"9": 2, "11": 2}, pass_rate={"0.0": 4}, unknown_verdicts={"none": 4})
    before = of(
        level={"1": 1, "2": 1, "3": 2}, length={"10": 4}, pass_rate={"1.0": 4}, unknown_verdicts={"none": 8},
    )  # fmt: skip
    found = {kind: distance.value for kind, distance in distances(new, before).items()}
    assert found == {"level": 0.5, "length": 0.5, "pass rate": 1.0}  # all verdicts are known in both
    assert "level" not in distances(of(length={"3": 1}), before)


def test_chance_exceeds_its_bound_once_in_a_hundred() -> None:
    """Two draws from one law, 150 times: more than 8 of them by chance once in 20,000 times."""
    make, over = np.random.default_rng(1), dict.fromkeys(KINDS, 0)

    def drawn(number: int) -> ProblemProfile:
        values = {
            "level": make.integers(1, 5, number), "length": make.integers(20, 40, number),
            "pass_rate": make.integers(0, 9, number) / 8, "unknown_verdicts": make.random(number) < 0.1,
        }  # fmt: skip
        return of(**{k: {str(x): int(n) for x, n in zip(*np.unique(v, return_counts=True), strict=True)}
                     for k, v in values.items()})  # fmt: skip

    for _ in range(150):
        for kind, distance in distances(drawn(60), drawn(200)).items():
            over[kind] += distance.value > distance.chance
    assert max(over.values()) <= 8
    assert sum(over.values()) > 0


def test_a_distance_counts_when_it_is_past_the_limit_and_past_chance() -> None:
    found = {"a": Distance(0.4, 0.5), "b": Distance(0.4, 0.2), "c": Distance(0.1, 0.05)}
    assert past(found, 0.3) == ["b"]


def made(folder: Path, kind: str, file: Path, **counts: float) -> Ref:
    """An artifact with one file."""
    folder.mkdir()
    target = folder / file.name
    target.write_bytes(file.read_bytes())
    entry = File(name=file.name, sha256=file_digest(target), bytes=target.stat().st_size)
    about = {"kind": kind, "identity": "sha256:0", "algorithm": 1, "seconds": 0.0}
    return commit(folder, inputs={}, config={}, counts=counts, files=[entry], **about)  # pyright: ignore


def test_what_waits_until_somebody_says_so(tmp_path: Path) -> None:
    """A first week has nothing before it; a second like it passes, a third unlike them waits, and passes by a limit."""
    from paced.storage.files import write_record

    profiles, new = tmp_path / "profiles", tmp_path / "new.json"
    write_record(new, {"problems": [f"p{i}" for i in range(200)]})

    def week(name: str, level: int, limit: float | None, kept: int = 200) -> None:
        folder = tmp_path / name
        folder.mkdir()
        problems, rates = tables(folder, [level] * 200, [10 + i % 30 for i in range(200)], [0.5] * 200)
        gate = Gate(profiles=str(profiles), new=str(new), least_kept=100, drift_limit=limit)
        gate.check(
            made(folder / "a", "prepare", problems), made(folder / "b", "weights", rates, kept=kept)
        )

    week("one", 1, 0.1)
    assert drift(profiles) is None
    decided(profiles, "sha256:" + "1" * 64)
    week("two", 1, 0.1)
    decided(profiles, "sha256:" + "2" * 64)
    says = r"^the new ones differ from those before in level: level 1\.00 \(by chance up to 0\.\d\d\), .*; "
    with pytest.raises(Postponed, match=says + r"look at them, then raise drift_limit \(0\.1\) or set it to null"):
        week("three", 2, 0.1)
    found = drift(profiles)
    assert found and (found[0].problems, found[1].problems) == (200, 400)
    assert found[2]["length"].value == 0
    week("four", 2, None)
    assert (profiles / ARRIVING).exists()
    with pytest.raises(Postponed, match=r"^99 problems have a positive weight, of at least 100 \(least_kept\)$"):
        week("five", 1, None, kept=99)
    labels = [axis.get_xlabel() for axis in picture_of_drift(*found).axes]
    assert labels == ["level", "length of the question, characters", "", ""]
