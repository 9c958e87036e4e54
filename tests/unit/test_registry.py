"""The registry in MLflow's own store: what is refused leaves no trace, and what was deleted is missed in one line."""

from pathlib import Path

import pytest

from paced.errors import ConfigError
from paced_tasks.journal import PARENT, Journal
from paced_tasks.registry import Registry, RegistryError, Version, before

pytestmark = pytest.mark.slow


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
    registry.crown(first, None, "better")
    registry.crown(second, first, "better")

    with pytest.raises(RegistryError, match="the champion of tiny changed from version 1 to version 2 while version 3"):
        registry.crown(third, first, "better")
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
    registry.crown(first, None, "better")
    assert [registry.look(v, first) for v in (second, third, second)] == [1, 2, 1]  # decided again: no other look
    registry._client.delete_model_version("tiny", "3")
    assert registry.look(fourth, first) == 3
    registry.crown(fourth, first, "better")
    assert registry.looks(fourth) == []  # a new champion begins anew
    assert registry.looks(first) == [2, 3, 4]  # and one that comes back does not
    assert registry.looks(None) == [1]


def crowned(registry: Registry, number: int) -> list[Version]:
    """Versions each of which has replaced the one before."""
    made = versions(registry, number)
    for replaced, version in zip([None, *made], made, strict=False):
        registry.crown(version, replaced, f"version {version.number} is better")
    return made


def reigning(registry: Registry) -> int | None:
    champion = registry.champion()
    return champion and champion.number


def test_undoing_a_rollback_blames_the_rollback(registry: Registry) -> None:
    crowned(registry, 2)
    assert str(registry.rollback(None)) == "version 1 is champion again, version 2 no longer is"
    assert registry.versions()[2].tags["rolled_back"].endswith("to version 1")
    with pytest.raises(ConfigError, match=r"version 1 is the first champion of tiny: .* or revoke it with --to recipe"):
        registry.rollback(None)
    undone = registry.rollback(2)
    assert str(undone) == "the rollback of version 2 is undone: it is champion again, version 1 no longer is"
    assert undone.event == "restored"
    assert not [v.number for v in registry.versions().values() if "rolled_back" in v.tags]
    assert reigning(registry) == 2
    with pytest.raises(ConfigError, match="--to 2: is the champion already"):
        registry.rollback(2)
    assert [(m.event, m.before, m.after) for m in registry.history()] == [
        ("promoted", None, 1), ("promoted", 1, 2), ("rolled_back", 2, 1), ("restored", 1, 2),
    ]  # fmt: skip
    assert registry.history()[1].reason == "version 2 is better"
    assert registry.rollback(1).event == "rolled_back"  # and this is one again
    assert "rolled_back" in registry.versions()[2].tags


def test_revoking_a_first_champion(registry: Registry) -> None:
    (first,) = crowned(registry, 1)
    move = registry.rollback("recipe")
    assert str(move) == "version 1 is champion no longer, the recipe's student is the one to beat again"
    assert reigning(registry) is None
    assert registry.versions()[1].tags["rolled_back"].endswith("to the recipe's student")
    with pytest.raises(ConfigError, match=r"tiny has no champion .*none has the alias"):
        registry.rollback(None)
    with pytest.raises(ConfigError, match="tiny has no champion"):
        registry.rollback("recipe")
    assert registry.rollback(first.number).event == "restored"
    assert reigning(registry) == 1


def test_a_champion_that_was_deleted_on_the_page(registry: Registry) -> None:
    """The recipe's student does not silently take its place, and a rollback passes over what is gone."""
    _, second, _ = crowned(registry, 3)
    registry._client.delete_model_version("tiny", "3")
    with pytest.raises(RegistryError, match=r"the champion of tiny, version 3, was deleted .*'paced rollback tiny'"):
        registry.champion()
    registry._client.delete_model_version("tiny", str(second.number))
    assert str(registry.rollback(None)) == "version 1 is champion again, version 3 no longer is"
    assert reigning(registry) == 1
    registry._client.delete_model_version("tiny", "1")
    with pytest.raises(ConfigError, match=r"no champion of tiny before version 1 is left: .* --to recipe"):
        registry.rollback(None)
    assert registry.rollback("recipe").event == "revoked"
    assert reigning(registry) is None


def test_an_alias_that_was_moved_on_the_page(registry: Registry) -> None:
    first, second = crowned(registry, 2)
    registry._client.delete_registered_model_alias("tiny", "champion")
    with pytest.raises(RegistryError, match="the champion of tiny, version 2, has lost its alias 'champion'"):
        registry.champion()
    registry._client.set_registered_model_alias("tiny", "champion", "1")
    assert reigning(registry) == 1  # a person said so
    registry.crown(second, first, "better again")
    told = [str(move) for move in registry.history()[2:]]
    assert told == ["version 1 is champion in place of version 2: moved by hand, or before moves were noted",
                    "better again"]  # fmt: skip


def test_a_challenger_that_passed_waits_for_a_person(registry: Registry) -> None:
    first, second, third, fourth = versions(registry, 4)
    registry.crown(first, None, "better")
    for version, decision in ((second, "passed"), (third, "kept"), (fourth, "passed")):
        registry.note(version, {"parent": "1", "decision": decision, "reason": f"version {version.number}: a reason"})
    with pytest.raises(ConfigError, match=r"version 3 of tiny does not wait .* was kept \(version 3: a reason\)"):
        registry.approve(3)
    with pytest.raises(ConfigError, match="version 1 of tiny does not wait for approval, it was never judged"):
        registry.approve(1)
    assert reigning(registry) == 1
    assert registry.approve(2).number == 2
    assert reigning(registry) == 2
    tags = registry.versions()[2].tags
    assert (tags["decision"], tags["replaced"]) == ("promoted", "1")
    assert " by " in tags["approved"]
    assert registry.history()[-1].reason == "version 2: a reason"
    with pytest.raises(ConfigError, match="version 4 of tiny passed against version 1, but version 2 is champion now"):
        registry.approve(4)


def test_a_home_of_an_older_release_has_tags_and_no_history(registry: Registry) -> None:
    first, second = versions(registry, 2)
    registry.note(second, {"replaced": "1"})
    registry._client.set_registered_model_alias("tiny", "champion", "2")
    assert registry.history() == []
    assert reigning(registry) == 2
    assert before(2, registry.versions(), []) == first.number
    assert registry.rollback(None).after == 1
    assert [m.event for m in registry.history()] == ["elsewhere", "rolled_back"]
