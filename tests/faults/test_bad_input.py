"""Every bad input: a non-zero exit, one line that says what, where and what to do, and nothing stored is lost.

Ctrl-C is in test_kills.py.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from harness import TINY, Chain, contents, environment, need, paced, run_arguments

from paced.__main__ import guarded, run
from paced.errors import EngineError, TransientError, UnforeseenError
from paced.stage import Job, Spec, execute
from paced.storage.artifacts import Ref, read_manifest
from paced.storage.identity import file_digest, model_identity
from paced.storage.store import Collection
from paced.storage.tables import ROLLOUTS
from paced_deployments import cli
from paced_tasks import runner
from paced_tasks.runner import run_stage


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A stage program sets its own handlers."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def refused(spec: Spec) -> str:
    """The one line a stage program says about a bad input; no artifact is there afterwards."""
    events: list[dict[str, Any]] = []
    assert run(spec.model_dump_json, events.append) == 1
    assert [e["event"] for e in events if e["event"] in ("done", "error")] == ["error"]
    assert not (spec.folder / "manifest.json").exists()
    message = events[-1]["message"]
    assert "\n" not in message
    assert "Traceback" not in message
    return message


# Recipes: refused by the command, before anything heavy is imported.

RECIPES = {
    "weights.alpha=-1": "weights.alpha: Input should be greater than or equal to 0, got -1",
    "weights.beta=-0.5": "weights.beta: Input should be greater than or equal to 0, got -0.5",
    "rollouts.samples=1": "rollouts.samples: Input should be greater than or equal to 2, got 1",
    "data={source: table, path: nowhere.jsonl}": "data.path: file nowhere.jsonl does not exist",
    "student.path=nowhere": "student.path: model folder nowhere does not exist",
    "training.stepz=3": "training.stepz: unknown key",
}
# All in one process, within the two seconds of CPU time that each may take.
REFUSED = """
import contextlib, io, json, resource, sys
from paced_deployments import cli
lines = []
recipe, *assignments = sys.argv[1:]
for assignment in assignments:
    sys.argv[1:] = ["run", recipe, "--set", assignment]
    with contextlib.redirect_stderr(io.StringIO()) as err:
        status = cli.main()
    lines.append((status, err.getvalue()))
heavy = {"torch", "transformers", "prefect", "mlflow", "pandas"} & sys.modules.keys()
used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
print(json.dumps(lines))
sys.exit(f"{heavy} {used} s" if heavy or used >= 2 else 0)
"""


def test_recipes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", REFUSED, str(TINY), *RECIPES]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for (status, line), says in zip(json.loads(done.stdout), RECIPES.values(), strict=True):
        assert status == 1 and line.startswith("error: ") and says in line
        assert line.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_bad_data_stops_the_whole_command(tmp_path: Path, prefect: Mapping[str, str]) -> None:
    """A stage's own error is the last line of the command; what other stages stored stays."""
    data = tmp_path / "data.jsonl"
    data.write_text('{"question": "1+1=", "answer": "2"}\n{"question": "2+2=" "answer": "4"}\n')
    home = tmp_path / "home"
    done = paced(home, *run_arguments(f"data={{source: table, path: {data}}}"), env=prefect)
    assert done.status == 1
    says = f"error: {data}:2: not valid JSON (Expecting ',' delimiter: line 1 column 21 (char 20)): correct or remove"
    assert done.err.splitlines()[-1].startswith(says)
    assert "Traceback" not in done.err
    assert done.err.count("error") == 1
    assert list(home.glob("artifacts/prepare/*/manifest.json"))
    [record] = home.glob("runs/*/run.json")
    assert json.loads(record.read_text())["status"] == "failed"


# Data.

GOOD = {"question": "1+1=", "answer": "2"}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([json.dumps(GOOD), "{bad"], "data.jsonl:2: not valid JSON"),
        ([json.dumps(GOOD), "3"], "data.jsonl:2: not a JSON object"),
        ([json.dumps(GOOD | {"question": " "})], "data.jsonl:1: field 'question' is empty: fill it in or remove"),
        ([json.dumps(GOOD | {"answer": ""})], "data.jsonl:1: field 'answer' is empty: fill it in or remove the line"),
        ([json.dumps(GOOD | {"id": 7, "question": q}) for q in "ab"], "data.jsonl:2: duplicate id '7', first used at"),
        ([json.dumps(GOOD | {"answer": "?"})], "data.jsonl: no gold answer passes the verifier"),
        ([], "data.jsonl holds no problem"),
    ],
)
def test_data_files(lines: list[str], says: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    config = {"data": {"source": "table", "path": "file", "seed": 0}, "split": "train", "decontamination": None}
    ref = Ref(kind="file", path=str(path), identity=file_digest(path))
    assert says in refused(Spec(stage="prepare", home=str(tmp_path), config=config, inputs={"file": ref}))


@pytest.mark.parametrize(
    ("verdict", "says"), [("wrong", "the student never succeeds"), ("correct", "the student always succeeds")]
)
def test_nothing_left_to_learn(verdict: str, says: str, chain: Chain, tmp_path: Path) -> None:
    """Rollouts that are all right, or all wrong."""
    made = Job(chain.specs["rollouts"].model_copy(update={"home": str(tmp_path)}), lambda event: None)
    table = made.table("problems", "problems.parquet", ["problem_id"])
    row = {"sample_key": "", "part": "", "tokens": 1, "finish": "stop", "verdict": verdict, "extracted": "1"}
    rows = [{"problem_id": p, "sample_index": i, **row} for p in table["problem_id"] for i in range(2)]
    made.write("rollouts.parquet", rows, ROLLOUTS)
    spec = chain.specs["weights"].model_copy(update={"home": str(tmp_path), "inputs": {"rollouts": made.finish()}})
    message = refused(spec)
    assert message.startswith("every weight is zero under scheme 'beta'; pass rates seen (problems at rate): 100 at")
    assert says in message
    assert "weights.shrinkage" in message


# Models.


def tokenizer_of_another_model(folder: Path) -> None:
    """Two digits swap their ids."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    ids = tokenizer["model"]["vocab"]
    ids["1"], ids["2"] = ids["2"], ids["1"]
    path.write_text(json.dumps(tokenizer))


def short_context(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 60}))


def without(*patterns: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for pattern in patterns:
            for file in folder.glob(pattern):
                file.unlink()

    return remove


def altered(ref: Ref, folder: Path, change: Callable[[Path], None]) -> Ref:
    """A copy of a model with something wrong."""
    shutil.copytree(ref.folder, folder)
    change(folder)
    return Ref(kind="model", path=str(folder), identity=model_identity(folder))


@pytest.mark.parametrize(
    ("stage", "role", "change", "says"),
    [
        ("rollouts", "model", without("tokenizer*"), "has no tokenizer: copy its files beside the weights"),
        ("rollouts", "model", without("chat_template*"), "has no chat template: add chat_template.jinja"),
        ("rollouts", "model", short_context, "new ones exceeds the context of 60 of"),
        ("teacher", "teacher", tokenizer_of_another_model, "student and teacher have different token->id maps"),
        ("train_reverse", "teacher", tokenizer_of_another_model, "student and teacher have different token->id maps"),
        ("train_forward", "model", tokenizer_of_another_model, "was written by another tokenizer"),
    ],
)
def test_models(stage: str, role: str, change: Callable[[Path], None], says: str, chain: Chain, tmp_path: Path) -> None:
    home = tmp_path / "home"
    if stage.startswith("train"):
        shutil.copytree(chain.home / "store", home / "store")
    before = contents(home)
    spec = chain.specs[stage]
    model = altered(spec.inputs[role], tmp_path / "model", change)
    message = refused(spec.model_copy(update={"home": str(home), "inputs": spec.inputs | {role: model}}))
    assert says in message
    assert str(model.folder) in message or stage.startswith("t")
    assert before.items() <= contents(home).items()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")])
def test_memory_that_is_not_there_is_no_death(error: Exception) -> None:
    """One line with the settings to change, not a process that died, which would be tried twice more."""
    events: list[dict[str, Any]] = []

    def program() -> None:
        raise error

    assert guarded(program, events.append) == 1
    [told] = events
    assert (told["event"], told["type"]) == ("error", "EngineError")
    assert "memory: lower " in told["message"] and "training.micro_batch_tokens" in told["message"]


# What no check foresees.


@pytest.mark.parametrize(
    ("stage", "file", "schema", "words"),
    [
        ("rollouts", "problems.parquet", pa.schema({"problem_id": pa.string()}), "(KeyError: '"),
        ("weights", "rollouts.parquet", pa.schema({"problem_id": pa.string()}), "verdict"),
    ],
)
def test_an_error_that_no_check_foresees_names_the_log(
    stage: str, file: str, schema: pa.Schema, words: str, chain: Chain, tmp_path: Path
) -> None:
    """In a process of its own, as rollouts, and in the flow's, as weights: a table that lacks its columns."""
    kind = file.removesuffix(".parquet")
    source = chain.specs["prepare" if stage == "rollouts" else "rollouts"]
    made = Job(source.model_copy(update={"home": str(tmp_path / "in")}))
    made.write(file, [{"problem_id": "a"}], schema)
    spec = chain.specs[stage]
    spec = spec.model_copy(update={"home": str(tmp_path), "inputs": spec.inputs | {kind: made.finish()}})
    log = tmp_path / "logs" / "stage.log"
    with pytest.raises(UnforeseenError) as error:
        run_stage(spec, log, lambda event: None)
    message = str(error.value)
    assert message.startswith(f"stage {stage} failed (") and words in message
    assert message.endswith(f"; its traceback is in {log}") and "\n" not in message
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(("number", "again"), [(signal.SIGKILL, True), (signal.SIGSEGV, False)])
def test_a_killed_process_is_tried_again_and_a_crash_is_not(
    number: signal.Signals, again: bool, chain: Chain, tmp_path: Path
) -> None:
    def listen(event: Any) -> None:
        if event["event"] == "log":
            for process in list(runner._running):
                os.kill(process.pid or 0, number)

    spec = chain.specs["rollouts"].model_copy(update={"home": str(tmp_path)})
    with pytest.raises(EngineError, match=rf"stage rollouts died \(signal {number.value}\)") as error:
        run_stage(spec, tmp_path / "stage.log", listen)
    assert isinstance(error.value, TransientError) == again


# What is stored.


def test_a_damaged_part(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named, with the way out; after it only what was lost is computed again, to the same bits."""
    shutil.copytree(chain.home / "store", tmp_path / "store")
    part = sorted(tmp_path.glob("store/targets/*/*.parquet"))[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    train = chain.specs["train_forward"].model_copy(update={"home": str(tmp_path)})

    message = refused(train)
    assert message.startswith(f"{part} is damaged")
    assert "run 'paced cache verify --delete', then the same command again" in message

    monkeypatch.setenv("PACED_HOME", str(tmp_path))
    for words, status in (([], 1), (["--delete"], 0), ([], 0)):
        monkeypatch.setattr(sys, "argv", ["paced", "cache", "verify", *words])
        assert cli.main() == status
    said = capsys.readouterr().out
    assert said.count(f"{part} is damaged") == 2

    teacher = execute(chain.specs["teacher"].model_copy(update={"home": str(tmp_path)}), lambda event: None)
    assert read_manifest(teacher.folder).counts["computed"] == 0  # the answers were whole, their targets were not
    assert contents(tmp_path / "store") == contents(chain.home / "store")
    assert contents(execute(train, lambda event: None).folder) == contents(chain.refs["train_forward"].folder)


def test_another_schema(chain: Chain, tmp_path: Path) -> None:
    """An artifact of another version, as an input and in the place of the output."""
    source = chain.refs["prepare"]
    other = tmp_path / "artifacts" / "prepare" / source.folder.name
    shutil.copytree(source.folder, other)
    manifest = other / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 99}))
    says = f"{manifest} has schema version 99, this version of paced reads 1: install the version that wrote it, or"

    rollouts = chain.specs["rollouts"]
    inputs = rollouts.inputs | {"problems": source.model_copy(update={"path": str(other)})}
    assert says in refused(rollouts.model_copy(update={"home": str(tmp_path), "inputs": inputs}))
    events: list[dict[str, Any]] = []
    spec = chain.specs["prepare"].model_copy(update={"home": str(tmp_path)})
    assert run(spec.model_dump_json, events.append) == 1
    assert says in events[-1]["message"]
    assert json.loads(manifest.read_text())["schema"] == 99


def test_targets_that_cannot_be_written(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written in a thread: its error ends the stage, which goes on later from what was committed."""
    spec = chain.specs["teacher"].model_copy(update={"home": str(tmp_path)})
    write, full = Collection.write, EngineError("the disk is full while writing targets")
    names: list[str] = []

    def failing(collection: Collection, rows: Any) -> str:
        if collection.folder.parent.name != "targets":
            return write(collection, rows)
        if len(names) == 2:
            raise full
        names.append(write(collection, rows))
        return names[-1]

    events: list[dict[str, Any]] = []
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "write", failing)
        assert run(spec.model_dump_json, events.append) == 1
    assert events[-1]["message"] == str(full)
    [folder] = tmp_path.glob("store/targets/*")
    assert {file.stem for file in folder.glob("*.parquet")} == set(names)

    execute(spec, events.append)
    assert contents(spec.folder) == contents(chain.refs["teacher"].folder)
    assert contents(folder) == contents(chain.home / folder.relative_to(tmp_path))


def test_a_full_disk(chain: Chain, tmp_path: Path) -> None:
    """On a file system that fills up while it samples; grown, it goes on from what was committed."""
    home = tmp_path / "small"
    home.mkdir()
    spec = chain.specs["rollouts"].model_copy(update={"home": str(home)})
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    stage = f"{sys.executable} -m paced rollouts --spec {tmp_path / 'spec.json'}"
    script = f"""
        mount -t tmpfs -o size=64k tmpfs {home} || exit 77
        {stage} > {tmp_path / "full"}; echo $? >> {tmp_path / "full"}
        mount -o remount,size=16m {home}
        {stage} > {tmp_path / "grown"} && cp -r {home} {tmp_path / "after"}
    """
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env=environment(home))
    mounted = done.returncode != 77 and "unshare failed" not in done.stderr
    need(mounted, "this machine lets nobody mount a small file system")
    *_, error, status = (tmp_path / "full").read_text().splitlines()
    assert status == "1"
    message = json.loads(error)["message"]
    assert message.startswith("the disk is full while writing ")
    way_out = "free some space or inodes (paced cache gc), then run the same command again; what was committed is kept"
    assert way_out in message
    assert "Traceback" not in done.stderr
    log = json.loads((tmp_path / "grown").read_text().splitlines()[0])["message"]
    reused = int(log.split()[1])
    assert 0 < reused < 800, log
    assert reused % 80 == 0
    after = tmp_path / "after" / spec.folder.relative_to(home)
    assert contents(after) == contents(chain.refs["rollouts"].folder)
