"""What a stage shows on the Prefect run page."""

import logging
from typing import Any

import pytest

from paced_tasks import stage
from paced_tasks.stage import RunPage


@pytest.mark.parametrize("fails", ["create", "update"])
def test_a_page_that_cannot_be_drawn_stops_no_stage(
    fails: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, and goes on trying: the server may come back."""
    shown: list[str] = []

    def draw(name: str, answer: str) -> Any:
        def call(*_: Any, **__: Any) -> str:
            shown.append(name)
            if name == fails:
                raise RuntimeError("the server\nis away")
            return answer

        return call

    monkeypatch.setattr(stage, "REFRESH", 0.0)
    monkeypatch.setattr(stage, "create_progress_artifact", draw("create", "id"))
    monkeypatch.setattr(stage, "update_progress_artifact", draw("update", ""))
    page = RunPage("paced/0/train_forward")
    with caplog.at_level(logging.WARNING, "paced_tasks.stage"):
        for done in range(3):
            page.event(
                {"event": "progress", "what": "steps", "done": done, "total": 3, "rate": 0.0, "left": None, "here": 0}
            )
        page.close()
    says = "paced/0/train_forward: the run page does not show its progress (the server is away): the stage goes on"
    assert [r.getMessage() for r in caplog.records] == [says]
    assert shown == (["create"] * 3 if fails == "create" else ["create", "update", "update", "update"])
