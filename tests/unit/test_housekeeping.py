"""What ``paced cache`` lists and deletes: nothing that a run refers to or would go on from, wherever the home lies."""

import json
from pathlib import Path

import pytest

from paced.errors import CacheError
from paced.stage import Job, Spec, exclusive
from paced.storage.housekeeping import garbage, listing


def artifact(home: Path, name: str) -> Path:
    job = Job(Spec(stage="prepare", home=str(home), config={"of": name}))
    job.write_json("cleaning.json", {})
    return job.finish().folder


def run(home: Path, name: str, status: str = "completed", *stages: Path, recipe: str = "", again: bool = False) -> None:
    """A run's folder; ``again``: it was begun once more since it ended."""
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe)
    if status:
        record = {"status": status, "stages": [{"path": str(stage)} for stage in stages]}
        (folder / "run.json").write_text(json.dumps(record))
        if again:
            (folder / "begun").touch()


def made(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("moved", [True, False])
def test_a_home_by_another_path_keeps_what_runs_refer_to(tmp_path: Path, moved: bool) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    kept, noted, lost = artifact(home, "kept"), artifact(home, "noted"), artifact(home, "lost")
    copies = made(home / "retrain" / "tiny" / "data" / "ab12" / "0123456789ab-week.jsonl").parent
    made(home / "retrain" / "tiny" / "ledger.json", json.dumps({"files": [{"sha256": "0123456789ab"}]}))
    run(home, "one", "completed", kept, recipe=f"data:\n  path: {copies}\n")
    made(home / "runs" / "one" / "executed" / "prepare.json", json.dumps({"path": str(noted)}))
    home.rename(other) if moved else other.symlink_to(home)
    assert garbage(other, delete=True)[0] == [other / lost.relative_to(home)]
    assert all((other / path.relative_to(home)).exists() for path in (kept, noted, copies))


@pytest.mark.parametrize(
    ("runs", "kept"),
    [
        ([], False),
        ([("completed", False)], False),
        ([("completed", False), ("", False)], True),  # killed
        ([("failed", False)], True),
        ([("completed", True)], True),  # begun again after it had ended, and killed
    ],
)
def test_work_is_kept_while_a_run_may_go_on_from_it(tmp_path: Path, runs: list[tuple[str, bool]], kept: bool) -> None:
    for number, (status, again) in enumerate(runs):
        run(tmp_path, str(number), status, again=again)
    half = made(tmp_path / "work" / "0123" / "checkpoint-000010" / "state.safetensors").parents[1]
    done = artifact(tmp_path, "done")
    over = made(tmp_path / "work" / done.name / "targets").parent
    assert set(garbage(tmp_path, delete=True)[0]) == {done, over} | (set() if kept else {half})
    assert (half.exists(), over.exists()) == (kept, False)


def test_what_was_not_committed_to_the_store_is_garbage(tmp_path: Path) -> None:
    part = tmp_path / "store" / "samples" / "01ab"
    names = ("collection.json", "a.json", "a.parquet", "b.parquet", ".c.parquet.77.tmp")
    files = [made(part / name) for name in names]
    found, size = garbage(tmp_path, delete=False)
    assert (set(found), size) == (set(files[3:]), 2)
    with exclusive(tmp_path / "locks" / "0123"), pytest.raises(CacheError, match="a stage or a retraining is running"):
        garbage(tmp_path, delete=True)
    assert all(file.exists() for file in files)
    garbage(tmp_path, delete=True)
    assert [file.exists() for file in files] == [True, True, True, False, False]


def test_a_damaged_note_or_manifest_is_a_line_of_the_list(tmp_path: Path) -> None:
    good, bad = artifact(tmp_path, "good"), artifact(tmp_path, "bad")
    (bad / "manifest.json").write_text("{")
    part = tmp_path / "store" / "samples" / "01ab"
    note = {"schema": 1, "rows": 1200, "bytes": 1, "sha256": "sha256:a", "tokens": "sha256:b"}
    for name, text in (("collection", "{}"), ("a", json.dumps(note)), ("b", ""), ("c", "[]")):
        made(part / f"{name}.json", text)
    *lines, _total = listing(tmp_path).splitlines()
    places = {line.partition(str(tmp_path))[2]: line for line in lines}
    way_out = "damaged: run 'paced cache verify --delete'"
    assert set(places) == {
        f"/artifacts/prepare/{good.name}", f"/artifacts/prepare/{bad.name}  1 {way_out}",
        f"/store/samples/01ab  2 {way_out}",
    }  # fmt: skip
    assert "1,200 rows     3 parts" in places[f"/store/samples/01ab  2 {way_out}"]
