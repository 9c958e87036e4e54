"""A store that several homes share: what one has made, another takes; nothing wrong is read, nothing is lost."""

import importlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from paced import config
from paced.errors import CacheError, ConfigError, EngineError, TransientError
from paced.stage import Job, Spec, finished
from paced.storage import objects, shared
from paced.storage.artifacts import Ref, open_file, read_manifest
from paced.storage.copies import make_room
from paced.storage.inventory import shared_garbage, shared_listing, shared_verify
from paced.storage.objects import FolderObjects, Patient, StoredObject, Unavailable
from paced.storage.shared import SharedStore, probed
from paced.storage.store import Collection
from paced.storage.verification import verify

SCHEMA = pa.schema({"sample_key": pa.string(), "value": pa.int32()})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that hosts share, as PACED_STORE names it."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    monkeypatch.setenv("PACED_STORE", str(folder))
    shared._shared.cache_clear()
    return folder


def spec_of(home: Path, name: str = "one") -> Spec:
    return Spec(stage="train", home=str(home), config={"of": name})


def made(home: Path, name: str = "one", bits: bytes = b"weights") -> Ref:
    """An artifact with weights."""
    job = Job(spec_of(home, name))
    job.write_json("metrics.json", {"of": name})
    (job.folder / "model").mkdir()
    (job.folder / "model" / "w.safetensors").write_bytes(bits)
    job.add("model/w.safetensors")
    return job.finish()


def collection_of(home: Path) -> Collection:
    return Collection(home, "samples", {"model": "m"}, SCHEMA, "sha256:t")


def rows(*values: int) -> list[dict[str, Any]]:
    return [{"sample_key": f"{v:032x}", "value": v} for v in values]


def store_of(place: Path) -> SharedStore:
    return SharedStore(Patient(FolderObjects(place)))


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_another_home_takes_what_one_has_made(place: Path, tmp_path: Path) -> None:
    """Weights only when they are read; the store and either home can be moved."""
    ref = made(tmp_path / "a")
    place.rename(tmp_path / "moved")
    os.environ["PACED_STORE"] = str(tmp_path / "moved")
    there = finished(spec_of(tmp_path / "b"))
    assert there and (there.identity, there.digest) == (ref.identity, ref.digest)
    assert {*files(there.folder)} == {"manifest.json", "metrics.json"}
    assert open_file(there, "model/w.safetensors").read_bytes() == b"weights"
    assert files(there.folder) == files(ref.folder)


def test_the_loser_adopts(place: Path, tmp_path: Path) -> None:
    """Whoever finishes second, takes the first one's bits, wherever it had its own."""
    first, second = made(tmp_path / "a", bits=b"these"), made(tmp_path / "b", bits=b"those")
    assert first.digest == second.digest
    assert open_file(second, "model/w.safetensors").read_bytes() == b"these"
    assert shared_verify(store_of(place), delete=False)[1] == []


def test_a_home_that_was_begun_without_a_store(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has is in the store once its runs are run again: artifacts, and the parts that they may select."""
    monkeypatch.delenv("PACED_STORE")
    ref, own = made(tmp_path / "a"), collection_of(tmp_path / "a")
    part = own.write(rows(1, 2))
    monkeypatch.setenv("PACED_STORE", str(place))
    assert finished(spec_of(tmp_path / "a")) == ref
    other = finished(spec_of(tmp_path / "b"))
    assert other and other.digest == ref.digest
    pairs = [(row["sample_key"], part) for row in rows(2, 1)]
    assert [row["value"] for row in collection_of(tmp_path / "b").rows(pairs, ["value"])] == [2, 1]


def test_rows_are_computed_once(place: Path, tmp_path: Path) -> None:
    computed: list[int] = []

    def compute(values: list[int]) -> list[dict[str, Any]]:
        computed.extend(values)
        return rows(*values)

    for home in ("a", "b"):
        wanted = {row["sample_key"]: row["value"] for row in rows(1, 2, 3)}
        assert collection_of(tmp_path / home).ensure(wanted, compute) == (3 if home == "a" else 0)
    assert computed == [1, 2, 3]
    assert files(tmp_path / "a" / "store") == files(place / "store")
    assert files(tmp_path / "b" / "store").items() <= files(place / "store").items()


def test_damage_in_the_store_is_found_and_mended(place: Path, tmp_path: Path) -> None:
    """By verify --delete; what a host has whole, it puts there again."""
    ref, own = made(tmp_path / "a"), collection_of(tmp_path / "a")
    own.write(rows(1, 2))
    [part], [weights] = place.glob("store/*/*/*.parquet"), place.glob("artifacts/*/*/*/model/w.safetensors")
    for path in (part, weights):
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CacheError, match=r"is damaged.*paced cache verify --delete"):
        collection_of(tmp_path / "b").refresh()
    there = finished(spec_of(tmp_path / "b"))
    assert there
    with pytest.raises(CacheError, match=r"is damaged.*paced cache verify --delete"):
        open_file(there, "model/w.safetensors")
    assert len(shared_verify(store_of(place), delete=True)[1]) == 2
    assert finished(spec_of(tmp_path / "a")) == ref
    collection_of(tmp_path / "a").refresh()
    assert shared_verify(store_of(place), delete=False) == (5, [])
    assert verify(tmp_path / "b", delete=False)[1] == []  # what it has not fetched is no damage


def test_listing_and_garbage(place: Path, tmp_path: Path) -> None:
    made(tmp_path / "a")
    collection_of(tmp_path / "a").write(rows(1, 2))
    store = store_of(place)
    assert [line.split()[0] for line in shared_listing(store).splitlines()] == ["samples", "train", "total"]
    before = files(place)
    [folder] = place.glob("artifacts/*/*")
    left = [folder / "losers" / "metrics.json", place / "store" / "samples" / "c" / "p.parquet", place / "probe" / "x"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
    assert shared_garbage(store, delete=True) == []  # it may still be being written
    for path in place.rglob("*"):
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    assert {item.name for item in shared_garbage(store, delete=True)} == {
        path.relative_to(place).as_posix() for path in left
    }
    assert files(place) == before


def test_copies_that_are_not_used_make_room(place: Path, tmp_path: Path) -> None:
    """The oldest first, never one that the store has not, nor one that another process may be reading."""
    home, store = tmp_path / "a", store_of(place)
    refs = [made(home, name, bits=name.encode() * 1000) for name in ("one", "two", "six")]
    paths = [ref.folder / "model" / "w.safetensors" for ref in refs]
    assert make_room(home, store, limit=0) == []
    for age, path in ((3, paths[1]), (2, paths[0]), (1, paths[2])):
        os.utime(path, (time.time() - age * 7200, path.stat().st_mtime))
    [there] = place.glob(f"artifacts/train/{refs[1].folder.name}/*/model/w.safetensors")
    there.unlink()
    assert make_room(home, store, limit=6000) == [paths[0]]
    assert open_file(refs[0], "model/w.safetensors").read_bytes() == b"one" * 1000
    assert make_room(home, store, limit=0) == [paths[2]]


class Weather:
    """A store that fails: before a request is done, after it, or having put half of an object."""

    def __init__(self, seed: int, share: float):
        self.url, self.kept, self.failed = "weather", dict[str, bytes](), 0
        self._random, self._share = random.Random(seed), share

    def _fails(self) -> None:
        if self._random.random() < self._share:
            self.failed += 1
            raise Unavailable("500")

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        self._fails()
        if name not in self.kept:
            raise FileNotFoundError(name)
        return self.kept[name][start : None if length is None else start + length]

    def put(self, name: str, data: bytes | Path) -> None:
        self._fails()
        data = data if isinstance(data, bytes) else data.read_bytes()
        if self._random.random() < self._share:
            self.kept[name] = data[: len(data) // 2]
            self._fails()
            self.failed += 1
            raise Unavailable("cut off")
        self.kept[name] = data
        self._fails()  # done, and the reply lost

    def create(self, name: str, data: bytes) -> bool:
        self._fails()
        new = name not in self.kept
        self.kept.setdefault(name, data)
        self._fails()
        return new

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self._fails()
        yield from (StoredObject(n, len(d), 0.0) for n, d in self.kept.items() if n.startswith(f"{prefix}/"))

    def delete(self, names: Iterable[str]) -> None:
        self._fails()
        for name in names:
            self.kept.pop(name, None)


def test_faults(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """15% of requests fail, lost replies and halved puts among them: all is there, and only what was put is read."""
    monkeypatch.setattr(objects.time, "sleep", lambda seconds: None)
    weather = Weather(0, 0.15)
    store = SharedStore(Patient(weather))
    monkeypatch.setattr(shared, "_shared", lambda url: store)
    number = 0
    while weather.failed < FAULTS:
        bits = b"%d" % number
        refs = [made(tmp_path / home, str(number), bits=bits + home.encode()) for home in ("a", "b")]
        assert refs[0].digest == refs[1].digest
        assert open_file(refs[1], "model/w.safetensors").read_bytes() == bits + b"a"
        own = [collection_of(tmp_path / home) for home in ("a", "b")]
        wanted = {row["sample_key"]: row["value"] for row in rows(*range(number, number + 3))}
        own[number % 2].ensure(wanted, lambda values: rows(*values))
        index = own[1 - number % 2].refresh()
        found = own[1 - number % 2].rows([(key, index[key]) for key in wanted], ["value"])
        assert [row["value"] for row in found] == [*wanted.values()]
        if number % 25 == 24:
            for home in ("a", "b"):  # so that listings stay short
                shutil.rmtree(tmp_path / home)
            weather.kept.clear()
        number += 1
    assert shared_verify(store, delete=False)[1] == []


def test_a_store_that_is_away_when_a_stage_ends(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made is kept, and in the store as soon as it is asked for again: nothing is computed twice."""
    weather = Weather(0, 1.0)
    monkeypatch.setattr(shared, "_shared", lambda url: SharedStore(Patient(weather, patience=0)))
    with pytest.raises(TransientError, match="does not answer"):
        made(tmp_path / "a")
    with pytest.raises(TransientError, match="does not answer"):
        collection_of(tmp_path / "a").write(rows(1))
    weather._share = 0.0
    there = finished(spec_of(tmp_path / "a"))
    assert there and open_file(there, "model/w.safetensors").read_bytes() == b"weights"
    assert [*collection_of(tmp_path / "b").refresh()] == [row["sample_key"] for row in rows(1)]
    assert finished(spec_of(tmp_path / "b")) == there.model_copy(update={"path": str(spec_of(tmp_path / "b").folder)})


FAULTS = int(os.environ.get("PACED_FAULTS", "100"))  # `make store-faults`: 10,000


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many seconds, in one line that says what to do; waits grow to a bound."""
    clock, waits = [0.0], list[float]()
    monkeypatch.setattr(objects.time, "monotonic", lambda: clock[0])

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += seconds + 0.01

    monkeypatch.setattr(objects.time, "sleep", sleep)
    with pytest.raises(TransientError, match=r"the store weather does not answer \(500\).*run the same command again"):
        Patient(Weather(0, 1.0), patience=60).get("x")
    assert 50 < clock[0] <= 61
    assert max(waits) <= objects.LONGEST


class Careless(FolderObjects):
    """A store that keeps no promise but that of a put."""

    def create(self, name: str, data: bytes) -> bool:
        self.put(name, data)
        return True

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return iter(())


def test_what_a_store_promises_is_probed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert probed() == []
    assert files(place) == {}
    lines = SharedStore(Careless(place)).probe()
    assert [line.partition(str(place))[2].split(":")[0] for line in lines] == [
        " does not list at once what it was given", " overwrites where it is told not to (If-None-Match",
    ]  # fmt: skip

    class ReadOnly(FolderObjects):
        def put(self, name: str, data: bytes | Path) -> None:
            raise EngineError("refused")

    with pytest.raises(EngineError, match="refused"):
        SharedStore(ReadOnly(place)).probe()
    shutil.rmtree(place)
    with pytest.raises(ConfigError, match="is no folder: make it, or mount what it is on"):
        probed()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PACED_HOME", "s3://bucket/x", "PACED_HOME is a folder of this host.*set PACED_STORE to the address"),
        ("PACED_STORE", "s3://key:secret@bucket/x", "must not hold a password"),
        ("PACED_STORE", "file:///mnt/x", "write a folder as a path, /mnt/x"),
        ("PACED_STORE", "ftp://host/x", "give a folder, or s3://BUCKET/PREFIX"),
        ("PACED_STORE", "s3://", "give a folder, or s3://BUCKET/PREFIX"),
        ("PACED_STORE", "s3://bucket/x", r"needs the package obstore: .*pip install --editable '\.\[store\]'"),
        ("PACED_COPIES_GB", "many", "give a number of gigabytes"),
    ],
)
def test_settings_that_cannot_be(variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in one line, before anything is done."""
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=expected) as caught:
        config.home(), shared.shared(), config.copies(100)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_without_a_store_the_home_is_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PACED_STORE", raising=False)
    monkeypatch.setenv("PACED_HOME", str(tmp_path))
    assert shared.shared() is None
    monkeypatch.setenv("PACED_STORE", str(tmp_path))
    assert shared.shared() is None
    assert json.loads(open_file(made(tmp_path), "metrics.json").read_text()) == {"of": "one"}
    assert read_manifest(spec_of(tmp_path).folder).kind == "train"
