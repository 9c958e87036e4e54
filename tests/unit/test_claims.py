"""Hosts that divide the parts of a collection: each part is computed once, and nobody waits for the dead.

Threads stand for hosts: each has a home of its own, and they share nothing but the store.
"""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness import eventually
from test_shared import Weather, collection_of, files, rows

from paced.storage import claims, objects, shared
from paced.storage.inventory import shared_garbage, shared_verify
from paced.storage.objects import FolderObjects, Patient, StoredObject
from paced.storage.shared import SharedStore
from paced.storage.store import Collection

PARTS = [{row["sample_key"]: row["value"] for row in rows(*range(n, n + 3))} for n in range(0, 36, 3)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that hosts share; they look and give signs of life often."""
    (folder := tmp_path / "mounted").mkdir()
    monkeypatch.setenv("PACED_STORE", str(folder))
    shared._shared.cache_clear()
    for name, seconds in (("BEAT", 0.05), ("LOOK", 0.01), ("LONGEST", 0.05)):
        monkeypatch.setattr(claims, name, seconds)
    return folder


class Host:
    """What one host computes of PARTS, and how."""

    def __init__(self, home: Path, step: Callable[[list[int]], object] = lambda values: None):
        self.own: Collection = collection_of(home)
        self.values, self.told, self.there = list[int](), list[str](), list[int]()
        self.step = step

    def draw(self, values: list[int]) -> list[dict[str, Any]]:
        self.step(values)
        self.values += values
        return rows(*values)

    def fill(self) -> int:
        def compute(part: Mapping[str, int]) -> int:
            return self.own.ensure(part, self.draw)

        return claims.divided(
            self.own, PARTS, compute, lambda part: self.there.extend(part.values()), self.told.append
        )


def together(hosts: list[Host]) -> list[int]:
    """What each has computed."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        return [*pool.map(Host.fill, hosts)]


def test_each_part_is_computed_once(place: Path, tmp_path: Path) -> None:
    """By one of three hosts at work at once; the store is as one host leaves it, and all have the same index."""
    meeting = threading.Barrier(3)
    hosts = [Host(tmp_path / name) for name in "abc"]
    for host in hosts:
        host.step = lambda values, own=host: meeting.wait(60) if not own.values else time.sleep(0.01)
    assert together(hosts) == [len(host.values) for host in hosts]
    assert Counter(value for host in hosts for value in host.values) == Counter(range(36))
    assert all(sorted(host.there) == [*range(36)] for host in hosts)
    (tmp_path / "apart").mkdir()
    os.environ["PACED_STORE"] = str(tmp_path / "apart")
    alone = Host(tmp_path / "d")
    assert alone.fill() == 36
    assert files(place / "store") == files(tmp_path / "apart" / "store")
    assert all(host.own.refresh() == alone.own.refresh() for host in hosts)


def test_without_a_store_parts_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PACED_STORE", raising=False)
    host = Host(tmp_path)
    assert (host.fill(), host.values, host.there) == (36, [*range(36)], [*range(36)])


DIES = """
import os, signal, sys
from pathlib import Path
from test_claims import Host
drawn = []
def step(values):
    drawn.append(values)
    if len(drawn) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
Host(Path(sys.argv[1]), step).fill()
"""


def test_nobody_waits_for_the_dead(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but what a killed host had in hand comes first; that is computed when its claim has lapsed, by one host."""
    monkeypatch.setattr(claims, "LAPSE", 2.0)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    dead = subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "dead")], env=os.environ | {"PYTHONPATH": path})
    assert dead.returncode == -signal.SIGKILL
    began = time.monotonic()
    hosts = [Host(tmp_path / name) for name in "ab"]
    assert sum(together(hosts)) == 36 - 6
    assert time.monotonic() - began < 20
    assert sum(len(host.values) for host in hosts) == 36 - 6
    assert any(re.fullmatch(r"waits for what is in hand of .+: 1 of 12 parts", line) for h in hosts for line in h.told)


def renewals(store: SharedStore, claim: str) -> int:
    """How often a claim was renewed; 0 if it was given back meanwhile."""
    try:
        return json.loads(store.objects.get(claim))["beat"]
    except FileNotFoundError:
        return 0


def test_who_is_slow_keeps_what_is_in_hand(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a claim counts that is not renewed: until its own has been renewed for that long."""
    monkeypatch.setattr(claims, "LAPSE", 2.0)
    store = shared.shared()
    assert store

    def slow(values: list[int]) -> None:
        if 0 in values:
            beats = 1.5 * claims.LAPSE / claims.BEAT
            listed = functools.partial(store.objects.list, claims.CLAIMS)
            eventually(lambda: any(renewals(store, o.name) > beats for o in listed()), 60, "the claim is renewed")

    hosts = [Host(tmp_path / name, slow) for name in "ab"]
    together(hosts)
    assert Counter(value for host in hosts for value in host.values) == Counter(range(36))


def test_what_fails_is_given_back(place: Path, tmp_path: Path) -> None:
    """At once, so that another host, or the same command again, does not wait."""

    def fails(values: list[int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Host(tmp_path / "a", fails).fill()
    began = time.monotonic()
    assert Host(tmp_path / "b").fill() == 36
    assert time.monotonic() - began < claims.LAPSE


def test_a_store_that_keeps_no_promise(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where claims are overwritten and listed late, some rows are computed twice, and all are right."""

    class Careless(FolderObjects):
        def create(self, name: str, data: bytes) -> bool:
            self.put(name, data)
            return True

        def list(self, prefix: str) -> Iterator[StoredObject]:
            late = time.time() - 0.1
            return (found for found in super().list(prefix) if found.modified < late)

    monkeypatch.setattr(shared, "_shared", lambda url: SharedStore(Patient(Careless(place))))
    hosts = [Host(tmp_path / name, lambda values: time.sleep(0.01)) for name in "ab"]
    together(hosts)
    time.sleep(0.1)
    for host in hosts:
        assert {key: PARTS[int(key, 16) // 3][key] for key in host.own.refresh(anew=True)} == {
            key: value for part in PARTS for key, value in part.items()
        }
    assert shared_verify(SharedStore(FolderObjects(place)), delete=False)[1] == []


class Storm(Weather):
    """A store that fails before a request is done or after it; what is put is there whole or not at all."""

    def put(self, name: str, data: bytes | Path) -> None:
        self._fails()
        self.kept[name] = data if isinstance(data, bytes) else data.read_bytes()
        self._fails()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self._fails()
        kept = self.kept.copy()  # at once, whatever other threads put
        return (StoredObject(name, len(data), 0.0) for name, data in kept.items() if name.startswith(f"{prefix}/"))


def test_faults(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """15% of requests fail, half of them when they are done: nothing is missing, and nobody hangs."""
    monkeypatch.setattr(objects, "FIRST", 0.001)
    weather = Storm(0, 0.15)
    store = SharedStore(Patient(weather))
    monkeypatch.setattr(shared, "_shared", lambda url: store)
    hosts = [Host(tmp_path / name) for name in "abc"]
    together(hosts)
    assert weather.failed > 15
    assert all(len(host.own.refresh(anew=True)) == 36 for host in hosts)
    assert len({value for host in hosts for value in host.values}) == 36
    assert sum(len(host.values) for host in hosts) <= 39


def test_claims_are_garbage_the_day_after(place: Path, tmp_path: Path) -> None:
    Host(tmp_path / "a").fill()
    store = SharedStore(FolderObjects(place))
    found = [*place.glob("claims/*/*/*")]
    assert len(found) == len(PARTS) and {*json.loads(found[0].read_text())} == {"host", "nonce", "beat"}
    assert shared_garbage(store, delete=True) == []
    for path in found:
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    assert len(shared_garbage(store, delete=True)) == len(PARTS)
    assert not [*place.glob("claims/*/*/*")] and Host(tmp_path / "b").fill() == 0
