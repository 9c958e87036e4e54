"""Nothing damaged is used: whoever takes a file compares its bytes, wherever they lie, before anything comes of it."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TINY, Chain, contents

from paced.config import Data, Runtime
from paced.data.spec import prepare_spec
from paced.diagnosis import diagnose
from paced.errors import CacheError, DataError
from paced.report import build
from paced.stage import Spec, execute
from paced.storage import identity
from paced.storage.artifacts import kept_model, model_folder, read_manifest
from paced.storage.checks import comparing, settle
from paced.storage.files import DIGEST, write_record
from paced.storage.housekeeping import garbage
from paced.storage.verification import verify


@pytest.fixture
def home(chain: Chain, tmp_path: Path) -> Path:
    """A copy of what every stage has left once."""
    return shutil.copytree(chain.home, tmp_path / "home", copy_function=os.link)


def harmed(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Other bytes in a file of which there may be links."""
    data = change(path.read_bytes())
    path.unlink()
    path.write_bytes(data)
    forgotten()


def forgotten() -> None:
    """As a process that has read nothing yet."""
    identity._file_digest.cache_clear()  # pyright: ignore[reportPrivateUsage]


def zeros(data: bytes) -> bytes:
    """4 KB of zeros in the middle, or all of a smaller file: its length stays."""
    start = len(data) // 2 if len(data) > 8192 else 0
    return (data[:start] + bytes(4096) + data[start + 4096 :])[: len(data)]


def moved(spec: Spec, home: Path) -> Spec:
    """A stage as it would run in another home, on the artifacts that lie there."""
    own = Path(spec.home)
    inputs = {
        name: ref.model_copy(update={"path": str(home / ref.folder.relative_to(own))}) if ref.kind != "model" else ref
        for name, ref in spec.inputs.items()
    }
    return spec.model_copy(update={"home": str(home), "inputs": inputs})


def files(chain: Chain, name: str) -> list[tuple[str, str]]:
    """Which files of which inputs a stage reads."""
    return [
        (label, file.name)
        for label, ref in chain.specs[name].inputs.items() if ref.kind != "model"
        for file in read_manifest(ref.folder).files
    ]  # fmt: skip


READ = {  # of its inputs' files, by each stage
    "rollouts": {"problems.parquet"},
    "weights": {"rollouts.parquet"},
    "teacher": {"problems.parquet", "pass_rates.parquet"},
    "train_forward": {"problems.parquet", "pass_rates.parquet", "answers.parquet", "targets.json"},
    "sample": {"problems.parquet", "pass_rates.parquet", "model/model.safetensors", "model/config.json"},
    "train_reverse": {
        "problems.parquet", "pass_rates.parquet", "rollouts.parquet", "samples.json", "state.safetensors",
        "model/model.safetensors", "model/tokenizer.json",
    },
    "diagnose": {"problems.parquet", "pass_rates.parquet", "answers.parquet", "targets.json"},
    "evaluate": {"problems.parquet", "model/model.safetensors", "model/tokenizer_config.json"},
    "compare": {"scores.parquet"},
}  # fmt: skip


@pytest.mark.parametrize("stage", READ)
def test_a_damaged_input_is_refused(stage: str, chain: Chain, home: Path) -> None:
    """Of valid length, in its middle; and nothing is committed of what was computed from it."""
    spec = moved(chain.specs[stage], home)
    shutil.rmtree(spec.folder)
    shutil.rmtree(home / "store" / "samples", ignore_errors=stage not in ("train_forward", "train_reverse", "diagnose"))
    if stage in ("train_forward", "train_reverse", "diagnose"):
        shutil.copytree(chain.home / "store" / "samples", home / "store" / "samples")
    before = contents(home / "store")
    harm = {(ref, file) for ref, file in files(chain, stage) if file in READ[stage]}
    assert {file for _, file in harm} == READ[stage]
    for label, file in sorted(harm):
        path = spec.inputs[label].folder / file
        whole = path.read_bytes()
        harmed(path, zeros)
        assert path.stat().st_size == len(whole)
        with pytest.raises(CacheError, match="damaged") as error:
            execute(spec, lambda event: None)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert not (spec.folder / "manifest.json").exists()
        assert contents(home / "store") == before
        path.write_bytes(whole)
        forgotten()
    assert contents(execute(spec, lambda event: None).folder) == contents(chain.refs[stage].folder)


def stopped_at(spec: Spec, step: int) -> None:
    """Train to a step and no further, as by Ctrl-C."""

    def tell(event: Any) -> None:
        if event["event"] == "metric" and event["step"] == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(spec, tell)


@pytest.mark.parametrize(
    ("harm", "begins"),
    [({4}, "resuming at step 2 of 6"), ({2, 4}, ""), ({2}, "resuming at step 4 of 6")],
    ids=["the last", "both", "the one before"],
)
@pytest.mark.parametrize("file", ["state.safetensors", "metrics.jsonl", "checkpoint.json"])
def test_a_damaged_checkpoint_is_left_behind(harm: set[int], begins: str, file: str, chain: Chain, home: Path) -> None:
    spec = moved(chain.specs["train_forward"], home)
    shutil.rmtree(spec.folder)
    stopped_at(spec, 5)
    work = home / "work" / spec.folder.name
    assert sorted(p.name for p in work.glob("checkpoint-*")) == ["checkpoint-000002", "checkpoint-000004"]
    for step in harm:
        harmed(work / f"checkpoint-{step:06d}" / file, zeros)
    log: list[str] = []
    ref = execute(spec, lambda event: log.append(event["message"]) if event["event"] == "log" else None)
    told = [line for line in log if "is damaged and left behind: training begins at what was saved before it" in line]
    assert len(told) == (len(harm) if 4 in harm else 0)
    assert [line for line in log if line.startswith("resuming")] == ([begins] if begins else [])
    assert contents(ref.folder) == contents(chain.refs["train_forward"].folder)


def test_a_damaged_part_of_gradients_is_computed_again(
    chain: Chain, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = moved(chain.specs["diagnose"], home)
    shutil.rmtree(spec.folder)

    kept: list[Path] = []
    keep = diagnose.keep

    def stop(path: Path, tensors: Any) -> None:
        if len(kept) == 3:
            raise KeyboardInterrupt
        keep(path, tensors)
        kept.append(path)

    monkeypatch.setattr(diagnose, "keep", stop)
    with pytest.raises(KeyboardInterrupt):
        execute(spec, lambda event: None)
    monkeypatch.undo()
    harmed(home / "work" / spec.folder.name / "gradients-000010-10.safetensors", zeros)
    log: list[str] = []
    ref = execute(spec, lambda event: log.append(event["message"]) if event["event"] == "log" else None)
    assert any(line.startswith("gradients: 20 of ") for line in log)
    assert contents(ref.folder) == contents(chain.refs["diagnose"].folder)


@pytest.mark.parametrize("algorithm", ["xxh3", "sha256"])
def test_a_model_that_changes_while_it_is_read_is_no_model_of_a_run(model_folder_copy: Path, algorithm: str) -> None:
    """Another model in the place of the one that a run began with; a reference of an older version has no xxh3."""
    ref = kept_model(model_folder_copy)
    ref = ref if algorithm == "xxh3" else ref.model_copy(update={"digest": ""})
    with comparing():
        model_folder(ref)
        settle()
        harmed(model_folder_copy / "model.safetensors", zeros)
        model_folder(ref)
        with pytest.raises(DataError, match="changed while the run went on"):
            write_record(model_folder_copy.parent / "record.json", {})
    assert not (model_folder_copy.parent / "record.json").exists()


@pytest.fixture
def model_folder_copy(chain: Chain, tmp_path: Path) -> Path:
    return shutil.copytree(chain.refs["train_forward"].folder / "model", tmp_path / "model")


def test_data_that_changes_between_hash_and_use_makes_no_artifact(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    rows = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Data(source="gsm8k", path=str(file))
    spec = prepare_spec(str(tmp_path / "home"), data, 0, "train", {}, None, Runtime())
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:15]))
    forgotten()
    with pytest.raises(DataError, match="changed while the run went on") as error:
        execute(spec, lambda event: None)
    assert "\n" not in str(error.value)
    assert not (spec.folder / "manifest.json").exists()


def older(folder: Path) -> None:
    """A manifest as a version wrote it that gave it no digest, and compared little."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    del content[DIGEST]
    path.unlink()
    path.write_text(json.dumps(content))


def test_what_was_made_from_damage_goes_with_it(chain: Chain, home: Path) -> None:
    """Of versions that did not compare; what this one makes has compared its inputs, and stays."""
    refs = {name: home / ref.folder.relative_to(chain.home) for name, ref in chain.refs.items()}
    harmed(refs["train_forward"] / "model" / "model.safetensors", zeros)
    before = {name: folder.exists() for name, folder in refs.items()}
    lines = verify(home, delete=False)[1]
    assert len(lines) == 1 and "missing or other bytes than recorded" in lines[0]
    for name in ("sample", "train_reverse", "evaluate"):
        older(refs[name])
    lines = verify(home, delete=True)[1]
    assert sum("made from what is damaged by a version that did not compare it" in line for line in lines) == 3
    gone = {name for name in refs if before[name] and not refs[name].exists()}
    assert gone == {"train_forward", "sample", "train_reverse", "evaluate"}
    assert verify(home, delete=False)[1] == []


FIELDS = {
    "the tokenizer in a note": ("store/samples/*/*.json", "tokens", "sha256:others"),
    "the rows in a note": ("store/samples/*/*.json", "rows", 3),
    "the counts in a manifest": ("artifacts/rollouts/*/manifest.json", "counts", {"tokens": 1}),
    "the identity in a manifest": ("artifacts/weights/*/manifest.json", "identity", "sha256:0"),
    "the config in a manifest": ("artifacts/train/*/manifest.json", "config", {}),
    "a run's stages": ("runs/chain/run.json", "stages", []),
    "what was executed": ("runs/chain/executed/x.json", "path", "artifacts/train/0"),
}


AGREE = [field for field in FIELDS if field.split()[1] in ("tokenizer", "rows", "identity", "config")]


@pytest.mark.parametrize(("field", "old"), [*((f, False) for f in FIELDS), *((f, True) for f in AGREE)])
def test_a_flipped_field_is_found(field: str, old: bool, home: Path, chain: Chain) -> None:
    """No traceback in gc or report either. A record of an older version has to agree with what else is known."""
    pattern, name, value = FIELDS[field]
    rollouts = chain.refs["rollouts"]
    place = f"artifacts/rollouts/{rollouts.folder.name}"
    record = {
        "name": "chain", "status": "completed", "seeds": [0], "arms": [], "weights": {},
        "stages": [{"label": "0/rollouts", "stage": "rollouts", "path": place, "identity": rollouts.identity}],
    }  # fmt: skip
    write_record(home / "runs" / "chain" / "run.json", record)
    write_record(home / "runs" / "chain" / "executed" / "x.json", {"path": "artifacts/train/1"})
    assert verify(home, delete=False)[1] == []
    path = next(p for p in sorted(home.glob(pattern)) if p.name != "collection.json")
    content = json.loads(path.read_text()) | {name: value}
    if old:
        content.pop(DIGEST)
    path.unlink()
    path.write_text(json.dumps(content))
    lines = verify(home, delete=False)[1]  # a note is of a part that an artifact selects
    assert len([line for line in lines if "selects" not in line]) == 1
    for attempt in (lambda: garbage(home, delete=False), lambda: build(home / "runs" / "chain")):
        with contextlib.suppress(CacheError):
            attempt()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "\0" * 50, "{" * 5000, '{"digest": "sha256:0", "name": "\\ud83d"}']
)
@pytest.mark.parametrize("name", ["run.json", "executed/0.rollouts.json", "mlflow.json", "summary.json"])
def test_an_empty_record_is_no_traceback(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "one" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    if text != "{}":
        assert len(verify(tmp_path, delete=False)[1]) == 1
    with contextlib.suppress(CacheError):
        garbage(tmp_path, delete=True)
    verify(tmp_path, delete=True)
    assert path.exists() == (text == "{}")


def test_strays_are_found_and_collected(tmp_path: Path) -> None:
    for place in ("artifacts/x", "artifacts/prepare/y", "store/z", "locks/0123"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "locks" / "folder").mkdir()
    strays = {tmp_path / p for p in ("artifacts/x", "artifacts/prepare/y", "store/z", "locks/folder")}
    assert {Path(line.partition(": ")[0]) for line in verify(tmp_path, delete=False)[1]} == strays
    assert set(garbage(tmp_path, delete=True)[0]) == strays
    assert not any(p.exists() for p in strays) and (tmp_path / "locks" / "0123").exists()


def test_gc_does_not_go_by_the_clock(tmp_path: Path) -> None:
    """A run that was begun again, or has ended, says so itself, whatever its files' times are."""
    from paced.config.reading import load_recipe
    from paced_tasks.run import open_run

    os.environ["PACED_HOME"], kept = str(tmp_path), os.environ.get("PACED_HOME")
    try:
        run = open_run(load_recipe(TINY))
    finally:
        os.environ.pop("PACED_HOME") if kept is None else os.environ.update(PACED_HOME=kept)
    (tmp_path / "work" / "0123").mkdir(parents=True)
    write_record(run.folder / "run.json", {"status": "completed", "stages": []})
    os.utime(run.folder / "recipe.yaml", (1, 1))  # the clock was set back since
    assert garbage(tmp_path, delete=False)[0] == []
    (run.folder / "begun").unlink()
    os.utime(run.folder / "run.json", (1, 1))
    assert garbage(tmp_path, delete=False)[0] == [tmp_path / "work" / "0123"]
