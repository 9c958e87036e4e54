"""What an exception becomes: one line, and tried again only if waiting can mend it."""

import errno
import socket
import types
from typing import Any

import httpx
import pytest

from paced.__main__ import guarded
from paced.errors import DataError, EngineError, PacedError, TransientError, explained
from paced_tasks.policies import infrastructure


def caught(program: Any) -> Exception:
    with pytest.raises(Exception) as error:  # noqa: PT011
        program()
    return error.value


def wrapped() -> None:
    """As libraries do it: the cause is another library's error, and its message says nothing."""
    try:
        try:
            socket.create_connection(("127.0.0.1", 9), 1)
        except OSError as error:
            raise httpx.ConnectError("all attempts failed") from error
    except httpx.ConnectError:
        raise RuntimeError("no luck")  # noqa: B904


def test_what_waiting_can_mend_is_tried_again() -> None:
    for error in (
        caught(wrapped), TimeoutError("slow"), ConnectionResetError(), socket.gaierror(-3, "no name"),
        OSError(errno.EBUSY, "device"), RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\n"),
    ):  # fmt: skip
        found = explained(error)
        assert type(found) is TransientError
        assert retried(found)
        assert "\n" not in str(found)


@pytest.mark.parametrize(
    "error",
    [ValueError("shapes cannot\nbe multiplied"), KeyError("prompt"), RuntimeError(), OSError("x")],
)  # fmt: skip
def test_what_is_wrong_stays_wrong(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """Shapes, templates, missing keys: once, with the error's own words in one line and the traceback in the log."""

    def program() -> None:
        raise error

    events: list[dict[str, Any]] = []
    assert guarded(program, events.append) == 1  # type: ignore[arg-type]
    [told] = events
    assert told["type"] == "UnforeseenError"
    assert told["message"].startswith(f"{type(error).__name__}: ") and "\n" not in told["message"]
    assert "Traceback" in capsys.readouterr().err
    assert not retried(explained(error))


def test_our_own_errors_stay_what_they_are() -> None:
    for error in (DataError("x"), EngineError("y"), PacedError("z")):
        assert explained(error) is error
        assert not retried(error)


def retried(error: Exception) -> bool:
    state: Any = types.SimpleNamespace(result=lambda raise_on_failure: error)
    return infrastructure(None, None, state)  # type: ignore[arg-type]
