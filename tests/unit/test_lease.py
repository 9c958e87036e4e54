"""The lease of a device: a GPU is the host's, the CPU a home's, and a dead holder's is free at once."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from paced.config import Runtime
from paced_tasks.lease import gpus, locks, take

ANY, CPU = Runtime(), Runtime(device="cpu")


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


def test_a_gpu_is_leased_to_one_home_at_a_time(tmp_path: Path) -> None:
    one, other = (locks(tmp_path / name, ANY) for name in ("one", "other"))
    held = take(one, 1)
    assert held
    assert take(other, 1) is None
    held.close()
    again = take(other, 1)
    assert again
    again.close()


def test_as_many_places_as_processes(tmp_path: Path) -> None:
    wanted = locks(tmp_path, Runtime(processes=2))
    first, second = take(wanted, 2), take(wanted, 2)
    assert first and second
    assert take(wanted, 2) is None
    first.close()
    third = take(wanted, 2)
    assert third
    third.close()
    second.close()


def test_all_devices_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on GPUs 0 and 1 that finds 1 taken holds 0 for nobody."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    held = take(locks(tmp_path, ANY), 1)
    assert held
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 0")
    assert take(locks(tmp_path, ANY), 1) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    free = take(locks(tmp_path, ANY), 1)
    assert free
    free.close()
    held.close()


def test_the_cpu_is_a_homes_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locks(tmp_path, CPU) == [tmp_path / "locks" / "slot"]
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert locks(tmp_path, ANY) == [tmp_path / "locks" / "slot"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus(tmp_path) == ["0", "1"]


def test_a_killed_holder_leaves_nothing_to_clear(tmp_path: Path) -> None:
    wanted = locks(tmp_path, ANY)
    program = (
        "import sys, pathlib; from paced_tasks.lease import take; held = take([pathlib.Path(sys.argv[1])], 1);"
        "print(bool(held), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(wanted[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "True\n"
        assert take(wanted, 1) is None
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        held = take(wanted, 1)
    assert held
    held.close()
