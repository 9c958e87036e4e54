"""A stage that is killed for want of memory says so, and is not tried again; the server of stages comes back."""

import os
import signal
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest
from harness import eventually

from paced.errors import TransientError
from paced.stage import STAGES, Spec
from paced_tasks import memory, runner
from paced_tasks.memory import OutOfMemory, Watch, kills


def test_counters_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, host = tmp_path / "memory.events", tmp_path / "vmstat"
    monkeypatch.setattr(memory, "EVENTS", (events, host))
    assert kills() == 0
    host.write_text("nr_free_pages 3\noom_kill 5\n")
    assert kills() == 5
    events.write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n")
    assert kills() == 1


def test_what_it_held_is_measured() -> None:
    with Watch(os.getpid()) as watch:
        eventually(lambda: watch.most > 1e6, 5, "it was looked at")
    assert watch.verdict("train") is None  # nothing was killed meanwhile


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Spec:
    """A stage whose process is killed at once."""
    monkeypatch.setitem(STAGES, "weights", STAGES["weights"]._replace(holds_weights=True))
    monkeypatch.setattr(runner, "work", killed)
    monkeypatch.setattr(runner, "server", lambda: CONTEXT)
    return Spec(stage="weights", home=str(tmp_path), runtime={"device": "cpu"})  # type: ignore[arg-type]


CONTEXT = runner.multiprocessing.get_context("forkserver")  # with nothing preloaded


def killed(*_: object) -> None:
    os.setsid()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("counts", "error", "says"), [
    ((3, 4), OutOfMemory, r"stage weights was killed because memory ran out: it held .* GB of .* lower runtime"),
    ((3, 3), TransientError, r"stage weights died \(signal 9\)"),
])  # fmt: skip
def test_a_kill_for_memory_is_told_from_others(
    counts: tuple[int, int], error: type[Exception], says: str, dying: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(counts)
    monkeypatch.setattr(memory, "kills", lambda: next(told))
    with pytest.raises(error, match=says) as found:
        runner.run_stage(dying, Path(dying.home) / "log", lambda event: None)
    assert type(found.value) is error and "\n" not in str(found.value)


@pytest.mark.slow
def test_a_killed_server_of_stages_is_started_again(dying: Spec) -> None:
    """Between two stages, and while one is started."""
    server = forkserver._forkserver  # pyright: ignore[reportAttributeAccessIssue]
    server.ensure_running()
    for _ in range(3):
        os.kill(server._forkserver_pid, signal.SIGKILL)
        with pytest.raises(TransientError, match=r"died \(signal 9\)"):
            runner.run_stage(dying, Path(dying.home) / "log", lambda event: None)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stage_starts_when_nobody_reads_its_output(
    stream: str, dying: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after its worker was killed: the server that it is started from has not died."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as unread:
        unread.write("a line that waits")
        monkeypatch.setattr(sys, stream, unread)
        with pytest.raises(TransientError, match=r"stage weights died \(signal 9\)"):
            runner.run_stage(dying, tmp_path / "log", lambda event: None)
        print("another", file=unread, flush=True)
