"""Commands at once on one home: every sample is there once or twice, and each result is that of a run alone."""

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from harness import Finished, gone, run_paced


def test_three_at_once(first_run: Finished, alpha_run: Finished, tmp_path: Path) -> None:
    """Twice the same recipe and one that shares its samples; a fresh home, whose databases all three want to create.

    One arm of the two that the runs alone have: what it shares with the others is in it.
    """
    home, arm = tmp_path / "home", "arms=[{name: paced, scheme: beta, schedule: forward}]"
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(run_paced, home, arm, *changes) for changes in ((), (), ("weights.alpha=2",))]
        same, again, alpha = (run.result() for run in runs)

    assert same.folder == again.folder
    for run, alone in ((same, first_run), (again, first_run), (alpha, alpha_run)):
        labels = run.stages.keys() - {"compare", "preflight"}
        assert len(labels) == 9
        for label in labels:
            assert run.stages[label]["identity"] == alone.stages[label]["identity"]
            mine, its = ({k: v for k, v in r.bits.items() if k.startswith(f"{label}:")} for r in (run, alone))
            assert mine and mine == its
        assert run.numbers()["arms"]["paced"] == alone.numbers()["arms"]["paced"]
        assert "warning" not in run.outcome.err

    stored = Counter(pd.concat(pd.read_parquet(p)["sample_key"] for p in home.glob("store/samples/*/*.parquet")))
    assert set(stored.values()) <= {1, 2}
    wanted = {
        key
        for run in (same, alpha)
        for stage in run.stages.values()
        for name in ("rollouts.parquet", "answers.parquet")
        if (table := Path(stage["path"]) / name).exists()
        for key in pd.read_parquet(table)["sample_key"]
    }
    assert wanted <= stored.keys()
    with sqlite3.connect(home / "mlflow" / "mlflow.db") as database:
        twice = "select 1 from metrics group by run_uuid, key, step having count(*) > 1"
        assert not database.execute(twice).fetchall()
        labels = "select count(*) from tags where key = 'paced.label' group by value"
        assert {n for (n,) in database.execute(labels)} == {2}  # one of each of the two recipes
    gone(home)
