"""Whatever the operating system refuses is one line with a way out, whichever command it meets."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import TINY, environment, gone, need, paced, run_arguments

from paced.__main__ import guarded
from paced.errors import LONGEST, EngineError, PacedError, TransientError, UnforeseenError, explained, one_line, visible
from paced.stage import Job, Spec
from paced.storage.files import replacing
from paced_deployments import cli
from paced_tasks.lease import own_folder

STUDENT = str(TINY.parent.parent / "paced" / "tiny" / "student")
STUDY = str(TINY.parent.parent / "benchmarks" / "studies" / "weights.yaml")
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": (str(TINY),), "demo": (), "ablate": (str(TINY),), "study": (STUDY, "--draft"),
    "evaluate": (str(TINY), "--model", STUDENT), "diagnose": (str(TINY),),
    "report": ("x",), "compare": ("x", "y"), "mlflow-replay": ("x",), "data": (str(TINY),),
    "retrain": (str(TINY), "--watch", "/tmp"), "rollback": ("tiny",), "up": (), "status": (), "down": (),
    "cache ls": (), "cache verify": (), "cache gc": (), "cache report": ("x",),
}  # fmt: skip
NUMBERS = (
    "EACCES", "EPERM", "EROFS", "ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG", "ESTALE", "EIO", "EMFILE", "ENOSPC",
    "EDQUOT", "ENOENT", "ELOOP", "ENOMEM", "EAGAIN", "ETXTBSY",
)  # fmt: skip


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """What a command sets in its environment is its own."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """Exit status and standard error of a command run in this process."""
    monkeypatch.setattr(sys, "argv", ["paced", *arguments])
    status = cli.main()
    return status, capsys.readouterr().err


@pytest.mark.parametrize(("stream", "words"), [("stdout", "extensions"), ("stderr", "cache verify")])
def test_output_that_nobody_reads_any_more(
    stream: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of ``paced ... | head``: the end that a shell expects, without a word."""
    (tmp_path / "home").touch()  # of which the second command says that it is no folder
    monkeypatch.setenv("PACED_HOME", str(tmp_path / "home"))
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as unread:
        monkeypatch.setattr(sys, stream, unread)
        assert said(capsys, monkeypatch, *words.split()) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_home_that_is_a_file(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("PACED_HOME", str(tmp_path / "home"))
    status, err = said(capsys, monkeypatch, *command.split(), *COMMANDS[command])
    assert (status, len(err.splitlines())) == (1, 1), err
    assert err.startswith("error: ") and str(tmp_path / "home") in err


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_way_out(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is raised: in a command, in a stage, in a thread that writes."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), "/some/place")

    monkeypatch.setenv("PACED_HOME", str(tmp_path))
    monkeypatch.setattr("paced.storage.housekeeping.listing", refuse)
    status, err = said(capsys, monkeypatch, "cache", "ls")
    assert status == 1
    (line,) = err.splitlines()
    assert line.startswith("error: ") and "/some/place" in line and "then run the same command again" in line
    events: list[Any] = []
    assert guarded(refuse, events.append) == 1
    kind = "TransientError" if name == "EAGAIN" else "EngineError"  # of these, only that goes by itself
    assert events == [{"event": "error", "type": kind, "message": line.removeprefix("error: ")}]


def test_libraries_errors_are_the_system_s() -> None:
    sqlite = type("OperationalError", (Exception,), {"sqlite_errorname": "SQLITE_FULL"})()
    for error in (sqlite, RuntimeError("I/O error: No space left (os error 28)"), RuntimeError("[errno 28] writing")):
        told = explained(error, "x")
        assert type(told) is EngineError
        assert str(told).startswith("the disk is full while writing x: free some space or inodes")
    readonly = RuntimeError('IoError(Os { code: 30, kind: ReadOnlyFilesystem, message: "Read-only file system" })')
    assert str(explained(readonly, "x")).startswith("x: Read-only file system: let this user")
    assert type(explained(ConnectionResetError(104, "reset"))) is TransientError
    assert type(explained(ValueError("of ours"))) is UnforeseenError


def test_control_characters_and_length() -> None:
    hostile = "a\x1b[2J\x07b\r\nc\u202ed\x9b31m\udcffe" + "x" * 2000 + ": do this"
    line = one_line(hostile)
    assert line.isprintable() and len(line) <= LONGEST
    assert line.startswith(r"a\x1b[2J\x07b c\u202ed\x9b31m\udcffe") and line.endswith("x: do this")
    assert str(PacedError(hostile)) == line
    assert visible("a\tb\n\x1b") == "a\tb\n\\x1b"
    line.encode()


def test_names_from_data_do_not_reach_the_terminal(tmp_path: Path) -> None:
    data = tmp_path / "d.jsonl"
    hostile = "\x1b]0;owned\x07\x1b[2J"
    rows = [{"question": f"{n} + 1?", "answer": f"{hostile} no number"} for n in "12"]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "paced_deployments.cli", "data", str(data), "--source", "gsm8k"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path / "home"), check=False)
    assert "\x1b" not in done.stdout + done.stderr and "\x07" not in done.stdout + done.stderr
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr


def test_another_user_s_home(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Real refusals: another uid, which may read nothing there, or write nothing."""
    need(os.getuid() == 0, "no other user can be had here: run the tests as root")
    import paced.data.problems
    import paced.report.datasheet
    import paced.storage.housekeeping  # noqa: F401  the other user may not be able to read this repository

    with tempfile.TemporaryDirectory(dir="/tmp") as root:
        os.chmod(root, 0o755)
        for name, mode, command in (("closed", 0o700, ("cache", "ls")), ("open", 0o755, ("data", str(TINY)))):
            home = Path(root) / name
            home.mkdir()
            home.chmod(mode)
            monkeypatch.setenv("PACED_HOME", str(home))
            monkeypatch.setattr(sys, "argv", ["paced", *command])
            if not (child := os.fork()):
                os.setgid(65534)
                os.setuid(65534)
                os._exit(cli.main())
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
            (line,) = capfd.readouterr().err.splitlines()
            assert line.startswith("error: ") and "let this user read and write it" in line


@pytest.mark.parametrize("options", ["nr_inodes=40", *(["size=6m"] if "PACED_KILLS" in os.environ else [])])
def test_a_full_disk_at_any_moment(options: str, tmp_path: Path) -> None:
    """While stages write and while servers do, without bytes or without inodes left: one line."""
    home = tmp_path / "home"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(home)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    need(mounted, "no file system can be mounted here: run the tests as root")
    try:
        outcome = paced(home, *run_arguments())
        gone(home)
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)
    assert outcome.status == 1
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "disk" in errors[0] and "full" in errors[0], outcome.err
    assert "Traceback" not in outcome.err


def test_files_of_an_artifact_have_one_mode(tmp_path: Path) -> None:
    """By the umask, whatever a library made of it."""
    job = Job(Spec(stage="prepare", home=str(tmp_path)))
    job.write_json("a.json", {})
    (job.folder / "model").mkdir()
    (job.folder / "model" / "weights").touch(mode=0o600)
    job.add("model/weights")
    folder = job.finish().folder
    with replacing(tmp_path / "plain") as temporary:
        temporary.touch()
    modes = {stat.S_IMODE(p.stat().st_mode) for p in [tmp_path / "plain", *folder.rglob("*")] if p.is_file()}
    assert len(modes) == 1


def test_the_own_folder_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / f"paced-{os.getuid()}"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PacedError, match="is a link or belongs to another user"):
        own_folder()
    link.unlink()
    link.mkdir(mode=0o777)
    assert stat.S_IMODE(own_folder().stat().st_mode) == 0o700
