"""Artifacts: the manifest is last, damage is found, a full disk leaves nothing half done."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import need

import paced.storage.artifacts as artifacts
from paced.errors import CacheError, EngineError
from paced.stage import Job, Spec
from paced.storage.artifacts import Ref, commit, describe, discard, open_file, read_manifest, reference
from paced.storage.files import replacing, write_json, write_list


def make(folder: Path) -> Ref:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.json").write_text("[1, 2]")
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "b.bin").write_bytes(b"0123456789")
    files = [describe(folder / "a.json", rows=2), describe(folder / "sub" / "b.bin", "sub/b.bin")]
    return commit(
        folder, kind="test", identity="sha256:1", inputs={"x": "sha256:0"}, config={"k": [1]}, algorithm=3,
        counts={"rows": 2}, files=files, seconds=1.23456,
    )  # fmt: skip


def test_manifest(tmp_path: Path) -> None:
    ref = make(tmp_path / "a")
    assert reference(ref.folder) == ref
    raw = json.loads((ref.folder / "manifest.json").read_text())
    assert {
        "schema",
        "kind",
        "identity",
        "inputs",
        "config",
        "algorithm",
        "versions",
        "counts",
        "files",
        "seconds",
        "created",
        "digest",
    } == raw.keys()
    assert raw["schema"] == 1
    assert raw["files"][1] == {"name": "sub/b.bin", "bytes": 10, "sha256": raw["files"][1]["sha256"], "rows": None}
    assert open_file(ref, "sub/b.bin").read_bytes() == b"0123456789"
    assert {"paced", "torch", "transformers"} <= read_manifest(ref.folder).versions.keys()
    with pytest.raises(CacheError, match="holds no file c"):
        open_file(ref, "c")


def test_no_manifest_no_artifact(tmp_path: Path) -> None:
    ref = make(tmp_path / "a")
    (ref.folder / "manifest.json").unlink()  # what a kill before the last step leaves
    for attempt in (lambda: read_manifest(ref.folder), lambda: reference(ref.folder), lambda: open_file(ref, "a.json")):
        with pytest.raises(CacheError, match=r"manifest\.json is missing"):
            attempt()


def test_discard_removes_the_manifest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = make(tmp_path / "a")
    monkeypatch.setattr(artifacts.shutil, "rmtree", lambda *a, **k: None)  # killed in between
    discard(ref.folder)
    assert (ref.folder / "a.json").exists()
    assert not (ref.folder / "manifest.json").exists()
    monkeypatch.undo()
    discard(ref.folder)
    assert not ref.folder.exists()


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


@pytest.mark.parametrize(
    ("harm", "says", "by_size"),
    [
        (edit("sub/b.bin", lambda b: b[:5] + b"x" + b[6:]), "damaged.*paced cache verify --delete", False),
        (edit("sub/b.bin", lambda b: b[:5]), "paced cache verify --delete", True),
        (lambda f: (f / "sub" / "b.bin").unlink(), "missing.*paced cache verify --delete", True),
        (edit("manifest.json", lambda b: b[:40]), "unreadable.*paced cache verify --delete", True),
        (edit("manifest.json", lambda b: b"\xff" + b), "unreadable.*paced cache verify --delete", True),
        (edit("manifest.json", lambda b: b"[]"), "damaged.*paced cache verify --delete", True),
        (
            edit("manifest.json", lambda b: b.replace(b'"schema": 1', b'"schema": 2')),
            "schema version 2.*reads 1.*run again",
            True,
        ),
        (
            edit("manifest.json", lambda b: b.replace(b'"files"', b'"filez"')),
            "damaged.*paced cache verify --delete",
            True,
        ),
    ],
)
def test_damage_is_found(tmp_path: Path, harm: Callable[[Path], object], says: str, by_size: bool) -> None:
    ref = make(tmp_path / "a")
    harm(ref.folder)
    with pytest.raises(CacheError, match=says) as error:
        open_file(ref, "sub/b.bin")
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    if by_size:  # what a cache hit is validated by, without reading every byte
        with pytest.raises(CacheError):
            reference(ref.folder)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, object())

    def stopped(temporary: Path) -> None:
        temporary.write_text("half")
        assert json.loads(path.read_text()) == {"a": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        stopped(temporary)
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(path.parent) == ["x.json"]


def test_two_writers_of_one_file_share_no_temporary_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also under one process id: pods on one volume often have the same."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with replacing(tmp_path / "x") as one:
        one.write_text("one")
        with replacing(tmp_path / "x") as other:
            other.write_text("other")
        assert one.read_text() == "one"
    assert (tmp_path / "x").read_text() == "one"


@pytest.mark.parametrize(("held", "counts"), [(7, {"peak_memory": 7}), (0, {})])
def test_memory_that_others_hold_is_not_said_to_be_none(
    held: int, counts: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device on which this process holds nothing, as where vLLM samples."""
    cuda = SimpleNamespace(is_available=lambda: True, max_memory_allocated=lambda: held)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    ref = Job(Spec(stage="rollouts", home=str(tmp_path))).finish()
    assert read_manifest(ref.folder).counts == counts


@pytest.mark.parametrize("values", [[], [{"a": "1\n2\u2028", "b": []}], [1, {"c": {"d": [2, "é"]}}, []]])
def test_a_list_written_value_by_value(tmp_path: Path, values: list[object]) -> None:
    write_json(tmp_path / "whole", values)
    write_list(tmp_path / "parts", iter(values))
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_disk_full_is_one_line(tmp_path: Path, number: int) -> None:
    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises((EngineError, PermissionError)) as error, replacing(tmp_path / "x") as temporary:
        fail(temporary)
    assert isinstance(error.value, EngineError) == (number != errno.EACCES)
    assert os.listdir(tmp_path) == []


FILL = """
import os, pathlib, sys
import pyarrow as pa
from paced.storage.files import replacing, write_json
from paced.data.layouts import Problem
from paced.data.shelf import Shelf
from paced.errors import EngineError
from paced.storage.store import Collection, write_table
disk = pathlib.Path(sys.argv[1])
noise = os.urandom(200_000).hex()
schema = pa.schema({"sample_key": pa.string(), "text": pa.string()})
rows = [{"sample_key": "k", "text": noise}]
def table():
    with replacing(disk / "t.parquet") as temporary:
        write_table(temporary, pa.Table.from_pylist(rows, schema=schema))
store = Collection(disk, "s", {}, schema, "t")
def sort():
    with Shelf(disk / "p.sqlite") as shelf:
        shelf.fill([Problem("x:1", noise, "1", None, None, noise)])
for write in (lambda: write_json(disk / "x.json", noise), table, lambda: store.write(rows), sort):
    try:
        write()
    except EngineError as error:
        print(error)
print([p.name for p in disk.rglob("*") if p.is_file()])
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a 64 KiB file system of this process's own, where the kernel lets a user mount one."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "fill.py").write_text(FILL)
    script = 'mount -t tmpfs -o size=64k none "$1" || exit 77; exec "$2" "$3" "$1"'
    run = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        script,
        "sh",
        str(tmp_path / "disk"),
        sys.executable,
        str(tmp_path / "fill.py"),
    ]
    try:
        done = subprocess.run(
            run, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        )
    except FileNotFoundError:
        need(False, "unshare is missing: install util-linux")
    mounted = done.returncode != 77 and not done.stderr.startswith("unshare:")
    need(mounted, f"no file system can be mounted here: {done.stderr.strip()}")
    *messages, left = done.stdout.splitlines()
    assert len(messages) == 4, done.stderr
    assert all("the disk is full" in m and "run the same command again" in m for m in messages)
    assert left in ("['collection.json']", "[]")
