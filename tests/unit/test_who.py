"""Who has started a run."""

import contextlib
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from paced_tasks import who


def run(**more: Any) -> Any:
    return SimpleNamespace(**{"id": uuid4(), "auto_scheduled": False, "labels": {}} | more)


@pytest.mark.parametrize(
    ("outermost", "by"),
    [
        (None, who.user()),  # of the command
        (run(labels={who.SUBMITTER: "alice"}), "alice"),
        (run(auto_scheduled=True), who.SCHEDULE),
        (run(), ""),  # a page without a proxy that knows users
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_who_has_started_a_run(outermost: Any, by: str, within: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that another run starts itself, which Prefect counts as nobody's."""

    def read(asked: UUID) -> Any:
        assert asked == outermost.id
        return outermost

    monkeypatch.setattr(who, "get_client", lambda **_: contextlib.nullcontext(SimpleNamespace(read_flow_run=read)))
    monkeypatch.delenv(who.OUTERMOST, raising=False)
    if outermost:
        monkeypatch.setenv(who.OUTERMOST, str(outermost.id))
    current = run() if within or not outermost else outermost
    monkeypatch.setattr(who.FlowRunContext, "get", lambda: SimpleNamespace(flow_run=current))
    assert who.submitter() == by
