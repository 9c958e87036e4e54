"""The registry in MLflow's own store: what is refused leaves no trace, and what was deleted is missed in one line."""

from pathlib import Path

import pytest

from paced_tasks.journal import PARENT, Journal
from paced_tasks.registry import Registry, RegistryError, Version


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Registry(tmp_path, "tiny")


def versions(registry: Registry, number: int) -> list[Version]:
    """That many versions of one run, registered."""
    folder, model = registry.home / "runs" / "r", registry.home / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    journal = Journal(folder, PARENT)
    journal.begin({}, {})
    for identity in "abcdefgh"[:number]:
        journal.model(model, "tiny", {"identity": identity}, "", {})
    return [registry.registered(folder, identity) for identity in "abcdefgh"[:number]]


def test_versions_that_others_change_meanwhile(registry: Registry, tmp_path: Path) -> None:
    first, second, third = versions(registry, 3)
    folder = tmp_path / "runs" / "r"
    assert [v.number for v in (first, second, third)] == [1, 2, 3]
    registry.crown(first, None)
    registry.crown(second, first)

    with pytest.raises(RegistryError, match="the champion of tiny changed from version 1 to 2 while version 3"):
        registry.crown(third, first)
    assert registry.versions()[3].tags.keys() == {"identity"}
    champion = registry.champion()
    assert champion and champion.number == 2 and champion.tags["replaced"] == "1"

    registry._client.delete_model_version("tiny", "3")
    way_out = folder / "mlflow.json"
    with pytest.raises(RegistryError, match=f"no longer holds the version of tiny that run r .* delete {way_out} and"):
        registry.registered(folder, "c")
    way_out.unlink()
    assert registry.registered(folder, "c").number == 4


def test_looks_are_counted_by_champion_and_outlive_versions(registry: Registry) -> None:
    first, second, third, fourth = versions(registry, 4)
    assert registry.look(first, None) == 1
    registry.crown(first, None)
    assert [registry.look(v, first) for v in (second, third, second)] == [1, 2, 1]  # decided again: no other look
    registry._client.delete_model_version("tiny", "3")
    assert registry.look(fourth, first) == 3
    registry.crown(fourth, first)
    assert registry.looks(fourth) == []  # a new champion begins anew
    assert registry.looks(first) == [2, 3, 4]  # and one that comes back does not
    assert registry.looks(None) == [1]
