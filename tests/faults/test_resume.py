"""kill -9 in the middle of each stage, then the same command: resumed where it was, and the same bits at the end."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from harness import Chain, contents, environment, eventually, kill_at, parts

from paced.stage import execute
from paced.storage.artifacts import read_manifest

# Each place leaves another kind of half-done work; the number is the call that does not happen any more.
PLACES = {
    "prepare: all but the manifest": ("prepare", "paced.stage:commit", 1, 0),
    "rollouts: a part without its note": ("rollouts", "paced.storage.store:write_record", 7, 3),
    "rollouts: prompts without their note": ("rollouts", "paced.storage.store:write_record", 2, 0),
    "rollouts: a part not renamed": ("rollouts", "os:fsync", 22, 2),
    "rollouts: all but the manifest": ("rollouts", "paced.stage:commit", 1, 10),
    "weights: all but the manifest": ("weights", "paced.stage:commit", 1, 0),
    "teacher: a part of answers without its note": ("teacher", "paced.storage.store:write_record", 6, 2),
    "teacher: in the targets": ("teacher", "paced.distill.teacher:Scorer._score", 3, None),
    "train forward: before a checkpoint": ("train_forward", "paced.distill.train:save_checkpoint", 2, 2),
    "train forward: in a checkpoint": ("train_forward", "paced.distill.checkpoints:save_file", 2, 2),
    "train reverse: before a checkpoint": ("train_reverse", "paced.distill.train:save_checkpoint", 2, 2),
    "train reverse: between model and manifest": ("train_reverse", "paced.distill.train:save_model", 1, 4),
    "evaluate: a part without its note": ("evaluate", "paced.storage.store:write_record", 5, 1),
    "diagnose: a part of gradients not written": ("diagnose", "paced.diagnosis.diagnose:keep", 3, 20),
    "compare: all but the manifest": ("compare", "paced.stage:commit", 1, 0),
}


def prompts(folder: Path) -> dict[str, list[int]]:
    """The prompts of a collection by their keys, each rendered once."""
    table = pd.concat(pd.read_parquet(path) for path in folder.glob("*.parquet") if path.with_suffix(".json").exists())
    assert table["sample_key"].is_unique
    return dict(zip(table["sample_key"], table["prompt_ids"].map(list), strict=True))


@pytest.mark.parametrize(("stage", "place", "call", "kept"), PLACES.values(), ids=PLACES)
def test_a_killed_stage_resumes_to_the_same_bits(
    stage: str, place: str, call: int, kept: int | None, chain: Chain, tmp_path: Path
) -> None:
    """``kept``: parts of 10 problems, or steps, that the second run must not do again (None: all answers)."""
    spec = chain.specs[stage].model_copy(update={"home": str(tmp_path)})
    if stage.startswith(("train", "diagnose")):  # reads what earlier stages stored
        shutil.copytree(chain.home / "store", tmp_path / "store")
    kill_at(spec, place, call)
    assert not (spec.folder / "manifest.json").exists()

    events: list[dict[str, Any]] = []
    ref = execute(spec, events.append)

    whole = chain.refs[stage]
    assert contents(ref.folder) == contents(whole.folder)
    for folder in tmp_path.glob("store/*/*"):
        kept_files = {name: digest for name, digest in contents(folder).items() if not name.endswith(".tmp")}
        same = chain.home / folder.relative_to(tmp_path)
        if folder.parent.name == "prompts":  # those of other stages lie there too
            assert prompts(folder).items() <= prompts(same).items()
        else:
            assert kept_files == contents(same)
    assert not any((tmp_path / "work").glob("*"))

    counts, original = read_manifest(ref.folder).counts, read_manifest(whole.folder).counts
    log = [e["message"] for e in events if e["event"] == "log"]
    if stage.startswith("train"):
        assert f"resuming at step {kept} of 6" in log
    elif stage == "diagnose":
        assert (
            f"gradients: {kept:.0f} of {counts['problems']:.0f} were there, {counts['problems'] - kept:.0f} computed"
            in log
        )
    elif "computed" in counts:
        samples = chain.specs[stage].config.get("samples", 1)
        if stage == "evaluate":  # by benchmark, in order; all of the first one's problems are sampled first
            samples = samples["arithmetic"]
        reused = original["computed"] if kept is None else kept * 10 * samples
        assert (counts["reused"], counts["computed"]) == (reused, original["computed"] - reused)


def test_draws_by_weight_go_on_where_they_were(chain: Chain, tmp_path: Path) -> None:
    """A killed training whose weights are probabilities ends with the bits of one that was not killed."""
    plain = chain.specs["train_forward"]
    config = plain.config | {"training": {**plain.config["training"], "weight_as": "probability"}}
    specs = [plain.model_copy(update={"home": str(tmp_path / name), "config": config}) for name in ("whole", "killed")]
    for spec in specs:
        shutil.copytree(chain.home / "store", Path(spec.home) / "store")
    kill_at(specs[1], "paced.distill.train:save_checkpoint", 2)
    whole, resumed = (contents(execute(spec, lambda event: None).folder) for spec in specs)
    assert resumed == whole
    assert whole["metrics.jsonl"] != contents(chain.refs["train_forward"].folder)["metrics.jsonl"]


def test_a_stage_as_a_program(chain: Chain, tmp_path: Path) -> None:
    """``python -m paced`` killed from outside; the second run says in JSON lines what it found."""
    home = tmp_path / "home"
    spec = chain.specs["rollouts"].model_copy(update={"home": str(home)})
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    program = [sys.executable, "-m", "paced", "rollouts", "--spec", str(tmp_path / "spec.json")]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, env=environment(home)) as process:
        eventually(lambda: parts(home) >= 2, 120, "two parts are committed")
        process.kill()
    committed = parts(home)
    assert 2 <= committed < 10

    again = subprocess.run(program, capture_output=True, text=True, check=True, env=environment(home))

    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert events[0]["message"] == f"rollouts: {committed * 80} of 800 samples reused, {800 - committed * 80} missing"
    assert events[-1]["event"] == "done"
    assert contents(spec.folder) == contents(chain.refs["rollouts"].folder)
