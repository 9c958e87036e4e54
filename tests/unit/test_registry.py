"""The registry in MLflow's own store: what is refused leaves no trace, and what was deleted is missed in one line."""

from pathlib import Path

import pytest

from paced_tasks.journal import PARENT, Journal
from paced_tasks.registry import Registry, RegistryError


def test_versions_that_others_change_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry, folder, model = Registry(tmp_path, "tiny"), tmp_path / "runs" / "r", tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    journal = Journal(folder, PARENT)
    journal.begin({}, {})
    for identity in "abc":
        journal.model(model, "tiny", {"identity": identity}, "", {})
    first, second, third = (registry.registered(folder, identity) for identity in "abc")
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
