"""Damage to any file of a finished run: what is read of it is what was written, or one line says what it is.

One bit flipped, 4 KB of zeros, cut short, empty, missing. CI takes some by seed; ``make corruption`` takes every file
in every way, and runs the command itself on each.
"""

import concurrent.futures
import json
import os
import queue
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness import Finished, Outcome, environment, finished, paced, run_arguments, told

from paced.errors import PacedError
from paced.report import build, drawn, write_summary
from paced.storage import identity
from paced.storage.artifacts import Ref, model_folder, open_file, read_manifest, reference
from paced.storage.checks import comparing, settle
from paced.storage.files import entry_of, read_record, vouched
from paced.storage.runs import RunSummary, read_recipe
from paced.storage.store import open_part
from paced.storage.verification import verify

ALL = "PACED_CORRUPTION" in os.environ  # 1/1: every file; 2/5: the second fifth of them
PART, PARTS = map(int, os.environ.get("PACED_CORRUPTION", "1/1").split("/"))
CASES, SEED = 400, 18
GONE = object()  # what is read of a file that is not there, and need not be


def flipped(data: bytes, random: random.Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def zeros(data: bytes, random: random.Random) -> bytes:
    start = random.randrange(len(data)) // 4096 * 4096
    return (data[:start] + bytes(4096) + data[start + 4096 :])[: len(data)]


WAYS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "flip": flipped,
    "zeros": zeros,
    "cut short": lambda data, random: data[: random.randrange(len(data))],
    "empty": lambda data, random: b"",
    "missing": lambda data, random: None,
}


def contents_of(folder: Path) -> list[Path]:
    """The files of a run that are read again: not the servers', nor locks and logs."""
    files = [p for part in ("artifacts", "store", "runs") for p in sorted((folder / part).rglob("*")) if p.is_file()]
    return [p for p in files if p.suffix not in (".lock", ".log")]


def numbered(home: Path) -> list[tuple[int, Path]]:
    """The files of this part of the campaign; one kind after the other, so that each part has some of all kinds."""
    return [*enumerate(contents_of(home))][PART - 1 :: PARTS]


def taken(path: Path, home: Path) -> Any:
    """What this program takes from a file, as those do that read it; raises what they raise."""
    top, *_ = path.relative_to(home).parts
    if top == "artifacts":
        return artifact(next(f for f in path.parents if f.parents[2] == home))
    if top == "store":
        if path.name == "collection.json":
            return read_record(path) if path.exists() else GONE
        part, tokens = open_part(path.with_suffix(".parquet"))
        with part:
            return part.read().to_pylist(), tokens
    if path.suffix == ".jsonl":
        return journal(path)
    if path.name == "recipe.yaml":
        return read_recipe(path.parent)
    if path.name in ("report.html", "report.json"):
        return drawn(path.parent)
    if path.name in ("arms.json", "students.json", "published.json") or path.suffix == ".png":
        return vouched(next(f for f in path.parents if f.parent.name == "runs") / "published.json")
    return read_record(path) if path.exists() else GONE


def artifact(folder: Path) -> Any:
    """All of an artifact, as a stage that it is an input of."""
    ref = reference(folder)
    with comparing():
        if ref.kind == "train":
            model_folder(ref)
        settle()
    names = [file.name for file in read_manifest(folder).files]
    return ref, [open_file(ref, name).read_bytes() for name in names]


def journal(path: Path) -> Any:
    """The entries of a journal that are good; some may be found damaged, none may be another."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [entry for line in lines if (entry := entry_of(line))["kind"] != "damaged"]


@pytest.fixture(scope="module")
def whole(first_run: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run's home without the servers' databases."""
    home = tmp_path_factory.mktemp("corruption") / "home"
    for part in ("artifacts", "store", "runs"):
        shutil.copytree(first_run.home / part, home / part)
    return home


def cases(home: Path) -> Iterator[tuple[Path, str]]:
    """Files and ways; every kind of file is among them."""
    every = [(path, way) for _, path in numbered(home) for way in WAYS if path.stat().st_size]
    if ALL:
        return iter(every)
    chosen = random.Random(SEED).sample(every, min(CASES, len(every)))
    kinds = {(path.relative_to(home).parts[0], path.suffix, path.name.endswith("manifest.json")) for path, _ in every}
    found = {(path.relative_to(home).parts[0], path.suffix, path.name.endswith("manifest.json")) for path, _ in chosen}
    assert kinds == found and len(chosen) >= 300
    return iter(chosen)


def forgotten() -> None:
    """As a process that has read nothing yet."""
    identity._file_digest.cache_clear()  # pyright: ignore[reportPrivateUsage]


def test_no_damage_is_taken_for_what_was_written(whole: Path) -> None:
    """Each is an error of one line, or is as if it were not there; and ``paced cache verify`` finds it."""
    assert verify(whole, delete=False)[1] == []
    silent: list[str] = []
    for number, (path, way) in enumerate(cases(whole)):
        draw = random.Random(number)
        forgotten()
        says = ""
        before, data = taken(path, whole), path.read_bytes()
        damaged = WAYS[way](data, draw)
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        forgotten()
        try:
            after, found = taken(path, whole), False
        except PacedError as error:
            after, found = None, True
            says = str(error)
        used = after is not False and after is not GONE and after != before
        if path.suffix == ".jsonl" and not found:  # lines may be lost, and are told apart; none is another
            used = any(entry not in before for entry in after)
        if not found and used and damaged != data:
            silent.append(f"{path.relative_to(whole)}: {way}")
        if found:
            assert "\n" not in says and path.parent.name in says, says
        committed = damaged is not None or path.suffix != ".json"  # a part without its note is what a kill leaves
        if found and committed and number % 20 == 0:
            assert verify(whole, delete=False)[1], (path, way)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
    assert silent == []


def test_a_report_of_damage_is_the_same_or_none(whole: Path, first_run: Finished) -> None:
    run = whole / "runs" / first_run.folder.name
    forgotten()

    def report() -> RunSummary:
        return build(run)[0] if ALL else write_summary(run)  # without its pictures

    expected = report()
    every = [*cases(whole)]
    for number, (path, way) in enumerate(every if ALL else random.Random(SEED).sample(every, 12)):
        data, damaged = path.read_bytes(), WAYS[way](path.read_bytes(), random.Random(number))
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        forgotten()
        try:
            summary = report()
        except PacedError:
            pass
        else:
            gone = damaged is None and path.name == "manifest.json"  # what is not there is left out, as ever
            assert gone or summary == expected, (path, way)
        path.unlink(missing_ok=True)
        path.write_bytes(data)


def mended(home: Path, first_run: Finished, command: Callable[..., Outcome]) -> None:
    """The same command ends with the same bits, or says in one line what to do, and then ends with them.

    What it need not read, because all that is made of it is there, changes nothing; ``paced cache verify`` tells it.
    """
    outcome = command(*run_arguments())
    if outcome.status:
        (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in outcome.err and len(line) < 520
    else:
        assert finished(home, outcome).numbers() == first_run.numbers()
    if outcome.status or command("cache", "verify").status:
        assert command("cache", "verify", "--delete").status == 0
        outcome = command(*run_arguments())
    last = finished(home, outcome)
    assert last.bits == first_run.bits and last.numbers() == first_run.numbers()
    assert command("report", last.folder.name).status == 0
    assert command("cache", "verify").status == 0


def test_the_command_mends_what_was_damaged(
    first_run: Finished, tmp_path: Path, prefect: Mapping[str, str]
) -> None:
    """One file of each kind at once; with ``make corruption`` each file in each way."""
    home, run = tmp_path / "home", first_run.folder.name
    shutil.copytree(first_run.home, home)
    (evaluation,) = home.glob(f"runs/{run}/executed/two_stage.0.evaluate.json")
    trained = home / first_run.stages["two_stage/0/train_reverse_1"]["path"].removeprefix(f"{first_run.home}/")
    scored = home / json.loads(evaluation.read_text())["path"]
    shutil.rmtree(scored)  # so that the damaged student has to be judged again
    paths = [
        trained / "model" / "model.safetensors",
        home / first_run.stages["0/rollouts"]["path"].removeprefix(f"{first_run.home}/") / "rollouts.parquet",
        sorted(p for p in home.glob("store/samples/*/*.json") if p.name != "collection.json")[0],
        home / "runs" / run / "run.json",
        home / "runs" / run / "journal" / "paced.0.train_forward.jsonl",
        evaluation,
    ]
    for path in paths:
        path.write_bytes(zeros(path.read_bytes(), random.Random(0)))
    mended(home, first_run, lambda *words: (paced if words[0] == "run" else told)(home, *words, env=prefect))


# Commands one after the other in one process, as a worker has them: starting it takes longer than such a command.
PROGRAM = """
import json, pathlib, sys
tests, home, url = sys.argv[1:]
sys.path.insert(0, tests)
from harness import told
for line in sys.stdin:
    print(json.dumps(told(pathlib.Path(home), *json.loads(line), env={"PREFECT_API_URL": url})), flush=True)
"""


class Commands:
    """A copy of a run's home in which files are damaged, and a process that takes commands there."""

    def __init__(self, first_run: Finished, folder: Path, url: str):
        self.first_run, self.home = first_run, folder / "home"
        shutil.copytree(first_run.home, self.home)
        words = [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[1]), str(self.home), url]
        self._process = subprocess.Popen(
            words, env=environment(self.home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *words: str) -> Outcome:
        assert self._process.stdin and self._process.stdout
        print(json.dumps(words), file=self._process.stdin, flush=True)
        return Outcome(*json.loads(self._process.stdout.readline()))

    def damage(self, case: tuple[int, Path, str]) -> None:
        """Harm one file of the run in one way, and see it mended; the databases stay, they are open over there."""
        number, path, way = case
        for part in ("artifacts", "store", "runs"):
            shutil.rmtree(self.home / part)
            shutil.copytree(self.first_run.home / part, self.home / part)
        own = self.home / path.relative_to(self.first_run.home)
        damaged = WAYS[way](own.read_bytes(), random.Random(number)) if own.stat().st_size else None
        own.unlink() if damaged is None else own.write_bytes(damaged)
        print(number, way, own.relative_to(self.home), flush=True)
        mended(self.home, self.first_run, self)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


if ALL:

    def test_the_command_mends_each(first_run: Finished, tmp_path: Path, prefect: Mapping[str, str]) -> None:
        cases = [(number, path, way) for number, path in numbered(first_run.home) for way in WAYS]
        homes = queue.SimpleQueue[Commands]()
        for number in range(2):
            homes.put(Commands(first_run, tmp_path / str(number), prefect["PREFECT_API_URL"]))

        def damage(case: tuple[int, Path, str]) -> str:
            commands = homes.get()
            try:
                commands.damage(case)
            except AssertionError as error:
                print("failed", case, error, flush=True)
                return str(case)
            finally:
                homes.put(commands)
            return ""

        with concurrent.futures.ThreadPoolExecutor(homes.qsize()) as pool:
            failed = [*filter(None, pool.map(damage, cases))]
        while not homes.empty():
            homes.get().close()
        assert failed == []


def test_a_damaged_weight_is_an_error_of_whoever_takes_the_model(whole: Path) -> None:
    """The model's folder by itself, as an export or the registry takes it."""
    folder = next((whole / "artifacts" / "train").iterdir())
    manifest = read_manifest(folder)
    ref = Ref(kind="train", path=str(folder), identity=manifest.identity)
    stray = folder / "model" / "more.safetensors"
    stray.touch()
    with pytest.raises(PacedError, match=r"more\.safetensors was not made by the stage"):
        model_folder(ref)
    stray.unlink()
