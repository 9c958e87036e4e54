"""What a second run finds: everything, or all but what is really new."""

import shutil
import sqlite3
from pathlib import Path

from harness import STAGES, Finished, run_paced, told


def states(home: Path) -> dict[str, str]:
    """Task run -> state of the second flow run, from Prefect's own database."""
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        rows = database.execute(
            "select name, state_name from task_run where flow_run_id ="
            " (select id from flow_run order by created limit 1 offset 1)"
        )
        return dict(rows.fetchall())


def counts(run: Finished, label: str) -> tuple[float, float]:
    """(reused, computed) samples of a stage."""
    found = run.stages[label]["counts"]
    return found["reused"], found["computed"]


def test_the_same_command_again(first_run: Finished, second_run: Finished) -> None:
    assert set(first_run.stages) == set(STAGES)
    # Both arms want the same weights and answers; whoever asks second is given the first one's.
    assert sum(not s["cached"] for s in first_run.stages.values()) >= len(STAGES) - 3
    assert all(s["cached"] for s in second_run.stages.values())
    assert f"{len(STAGES)} of {len(STAGES)} stages done: {len(STAGES)} cached, 0 computed" in second_run.outcome.err
    assert second_run.numbers() == first_run.numbers()
    assert second_run.outcome.out == first_run.outcome.out


def test_hits_are_prefect_s(second_run: Finished) -> None:
    assert states(second_run.home) == dict.fromkeys(STAGES, "Cached")


def test_what_the_stored_targets_lose(first_run: Finished) -> None:
    outcome = told(first_run.home, "cache", "report", str(first_run.folder), "--tokens", "200")
    assert outcome.status == 0, outcome.err
    answers = int(first_run.stages["paced/0/teacher"]["counts"]["samples"])
    assert outcome.out.startswith(f"{answers:,} answers, ")
    few, stored, everything = (
        float(next(line.split()[-1] for line in outcome.out.splitlines() if line.startswith(name)))
        for name in ("fixed top-1 ", "stored: floor 0.001", "fixed top-128")
    )
    assert 0 < everything < stored <= few < 0.1  # the gradient's error; no more than 27 ids are to be had


def test_another_weighting(first_run: Finished, alpha_run: Finished) -> None:
    """No rollout and no teacher answer that is stored is computed again."""
    stages = alpha_run.stages
    assert {"0/rollouts", "0/prepare", "base/evaluate"} <= {label for label, s in stages.items() if s["cached"]}
    assert not stages["paced/0/weights"]["cached"]
    answers = first_run.stages["paced/0/teacher"]["counts"]["samples"]
    assert counts(alpha_run, "paced/0/teacher") == (answers, 0)
    assert f"teacher answers: {answers:.0f} of {answers:.0f} samples reused, 0 missing" in alpha_run.outcome.err
    assert alpha_run.numbers()["arms"]["paced"] != first_run.numbers()["arms"]["paced"]


def test_more_problems_and_a_lost_artifact(alpha_run: Finished, first_run: Finished) -> None:
    """A tenth more problems costs a tenth; what Prefect calls cached and is gone is made again."""
    lost = Path(first_run.stages["base/evaluate"]["path"])
    shutil.rmtree(lost)
    half_lost = Path(first_run.stages["benchmark/sorting"]["path"]) / "manifest.json"
    half_lost.unlink()

    run = run_paced(alpha_run.home, "data.problems=110")

    assert counts(run, "0/rollouts") == (800, 80)
    reused, computed = counts(run, "paced/0/teacher")
    assert (reused, computed) == (first_run.stages["paced/0/teacher"]["counts"]["samples"], computed)
    assert computed <= 10
    assert not run.stages["base/evaluate"]["cached"]
    assert counts(run, "base/evaluate") == (64, 0)
    assert not run.stages["benchmark/sorting"]["cached"]
    assert run.stages["benchmark/arithmetic"]["cached"]
