"""The model registry: who is champion, where its weights lie, and how the alias moves.

Unlike tracking, a decision needs the server: one that does not answer is an error, and the next run decides.
"""

import contextlib
import datetime
import functools
import getpass
import re
import warnings
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from paced.config import Model
from paced.errors import ConfigError, DataError, PacedError
from paced.stage import exclusive
from paced.storage.artifacts import Ref
from paced.storage.identity import model_identity, short
from paced_tasks.addresses import tracking_uri, turn_of
from paced_tasks.journal import PARENT
from paced_tasks.run import model_ref
from paced_tasks.tracking import Tracker, client_of

CHAMPION, CHALLENGER = "champion", "challenger"
RECIPE: Literal["recipe"] = "recipe"  # stands for the recipe's student, where versions have a number
PASSED: Literal["passed"] = "passed"  # the tag 'decision' of a challenger that waits for a person
HISTORY = "champion."  # before the number of a move, in the tags of a registered model
ROLLED_BACK = "rolled_back"  # the tag of a version that has lost the alias by a rollback


class RegistryError(PacedError):
    """MLflow's registry does not answer, or does not hold what it should."""


MoveEvent = Literal["promoted", "rolled_back", "restored", "revoked", "elsewhere"]


class Move(BaseModel):
    """A move of the alias ``champion``, from one version to another; None is the recipe's student."""

    model_config = ConfigDict(frozen=True)
    event: MoveEvent
    before: int | None
    after: int | None
    reason: str
    time: str = Field(default_factory=lambda: now())

    def __str__(self) -> str:
        old, new = named(self.before), named(self.after)
        match self.event:
            case "restored":
                return f"the rollback of {new} is undone: it is champion again, {old} no longer is"
            case "revoked":
                return f"{old} is champion no longer, {new} is the one to beat again"
            case "rolled_back":
                return f"{new} is champion again, {old} no longer is"
            case "promoted":
                return self.reason or f"{new} takes the place of {old}"
            case "elsewhere":
                return f"{new} is champion in place of {old}: moved by hand, or before moves were noted"


class Version(BaseModel):
    """A registered version of a model."""

    model_config = ConfigDict(frozen=True)
    number: int
    run_id: str
    tags: dict[str, str]


@contextlib.contextmanager
def asking(uri: str, turn: Path, otherwise: str) -> Generator[None]:
    """Ask MLflow something, holding the lock ``turn``.

    Raises:
        RegistryError: it does not answer; says what then is, ``otherwise``.
    """
    try:
        with exclusive(turn), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PacedError:
        raise
    except Exception as error:  # whatever a server or a database does
        reason = " ".join(str(error).split())[:200]
        raise RegistryError(f"MLflow at {uri} does not answer ({reason}): {otherwise}") from None


class Registry:
    """The registered versions of one model.

    Raises:
        ConfigError: it cannot be the name of one.
    """

    def __init__(self, home: Path, model: str):
        if not re.fullmatch(r"[a-z][a-z0-9_.-]*", model):
            raise ConfigError(f"{model!r} is no name of a model: a model is registered under its recipe's name")
        self.home, self.model, self.uri = home.absolute(), model, tracking_uri(home)

    @property
    def folder(self) -> Path:
        """Where retraining keeps what it knows of the model."""
        return self.home / "retrain" / self.model

    @functools.cached_property
    def _client(self) -> Any:
        return client_of(self.uri, self.home)

    @contextlib.contextmanager
    def _asking(self) -> Generator[Any]:
        stays = (
            f"the champion of {self.model} stays as it is; run the same again when it does, nothing that is computed "
        )
        with asking(self.uri, turn_of(self.uri, self.home, self.folder), stays + "is lost"):
            yield self._client

    def versions(self) -> dict[int, Version]:
        """All versions by number; none of a model that is not registered."""
        with self._asking() as client:
            found = client.search_model_versions(f"name = '{self.model}'")
            each = [Version(number=int(v.version), run_id=v.run_id or "", tags=v.tags) for v in found]
        return {v.number: v for v in sorted(each, key=lambda v: v.number)}

    def champion(self) -> Version | None:
        """The version with the alias ``champion``; none where the recipe's student is the one to beat.

        Raises:
            RegistryError: there was one, and it was deleted or has lost the alias: what is to take its place, a person
                has to say.
        """
        number, versions = self._reigning(), self.versions()
        if number is None or (number in versions and self._alias() == number):
            return None if number is None else versions[number]
        fate = "has lost its alias 'champion'" if number in versions else "was deleted"
        raise RegistryError(
            f"the champion of {self.model}, version {number}, {fate} at {self.uri}: say who is champion now: the one "
            f"before by 'paced rollback {self.model}', another by --to VERSION, the recipe's student by --to recipe"
        )

    def _alias(self) -> int | None:
        with self._asking() as client:
            return self._aliases(client).get(CHAMPION)

    def _reigning(self) -> int | None:
        """The version with the alias ``champion``, else the last one that had it."""
        alias, history = self._alias(), self.history()
        return alias if alias is not None else history[-1].after if history else None

    def history(self) -> list[Move]:
        """How the alias ``champion`` moved, in order; of moves that others made nothing but that they did."""
        with self._asking() as client:
            return self._history(client)

    def _history(self, client: Any) -> list[Move]:
        found = client.search_registered_models(f"name = '{self.model}'")
        tags = found[0].tags if found else {}
        return [Move.model_validate_json(tags[key]) for key in sorted(tags) if key.startswith(HISTORY)]

    def _moved(self, client: Any, event: MoveEvent, before: int | None, after: int | None, reason: str) -> Move:
        """Note a move; before it one that somebody else made, or an older release, since the last that is noted."""
        history = self._history(client)
        known = history[-1].after if history else None
        moves = [Move(event="elsewhere", before=known, after=before, reason="")] if known != before else []
        moves.append(Move(event=event, before=before, after=after, reason=reason[:2000]))
        for number, move in enumerate(moves, len(history) + 1):
            client.set_registered_model_tag(self.model, f"{HISTORY}{number:05}", move.model_dump_json())
        return moves[-1]

    def _aliases(self, client: Any) -> dict[str, int]:
        found = client.search_registered_models(f"name = '{self.model}'")
        return {alias: int(number) for alias, number in found[0].aliases.items()} if found else {}

    def version(self, name: str) -> Version:
        """A version by its number or alias.

        Raises:
            ConfigError: there is none; says which there are.
        """
        with self._asking() as client:
            aliases = self._aliases(client)
        versions = self.versions()
        number = int(name) if name.isdecimal() else aliases.get(name)
        if number not in versions:
            known = ", ".join([*(f"@{alias}" for alias in aliases), *(f"/{n}" for n in versions)]) or "no such model"
            raise ConfigError(f"{self.model} has no version {name!r} at {self.uri} (there are: {known})")
        return versions[number]

    def weights(self, version: Version) -> Path:
        """The folder of a version's weights on this host, its bytes compared with what was registered.

        It is the artifact that training left, or else a copy fetched from MLflow.

        Raises:
            DataError: the version says nothing of its bytes, or MLflow holds others.
        """
        what = f"version {version.number} of {self.model}"
        expected = version.tags.get("model")
        if not expected:
            raise DataError(
                f"{what} has no tag 'model', the digest of its files: only what a run of paced registered can be "
                "champion of a retraining"
            )
        identity = short(version.tags.get("identity", ""))
        kept = self.home / "artifacts" / "train" / identity / "model"
        fetched = self.folder / "weights" / short(expected) / "model"
        for place in (kept, fetched):
            with contextlib.suppress(DataError):
                if model_identity(place) == expected:
                    return place
        fetched.parent.mkdir(parents=True, exist_ok=True)
        with self._asking() as client:
            client.download_artifacts(version.run_id, "model", str(fetched.parent))
        if model_identity(fetched) != expected:
            raise DataError(f"the weights of {what} in MLflow are not those that were registered: roll back to another")
        return fetched

    def registered(self, run: Path, identity: str) -> Version:
        """The version that a run has trained, after sending MLflow what it may have missed of it.

        Raises:
            RegistryError: MLflow does not take it, or no longer holds it.
        """
        tracker = Tracker(run, self.home, run.name)
        if not tracker.flush(PARENT, wait=True):
            if tracker.lost:
                raise RegistryError(f"{tracker.lost}; then run the same again: nothing is decided yet, nothing is lost")
            raise RegistryError(
                f"MLflow at {self.uri} does not take what run {run.name} logged: nothing is decided; run the same "
                "again when it does, nothing that is computed is lost"
            )
        for version in self.versions().values():
            if version.tags.get("identity") == identity:
                return version
        raise RegistryError(
            f"MLflow at {self.uri} no longer holds the version of {self.model} that run {run.name} registered: nothing "
            f"is decided; delete {run / 'mlflow.json'} and run the same again, which registers it anew"
        )

    def note(self, version: Version, tags: Mapping[str, str]) -> None:
        with self._asking() as client:
            for key, value in tags.items():
                client.set_model_version_tag(self.model, str(version.number), key, value)

    def looks(self, champion: Version | None) -> list[int]:
        """The versions that were compared with a champion, or with the recipe's student, in order."""
        with self._asking() as client:
            return self._looks(client, champion)

    def _looks(self, client: Any, champion: Version | None) -> list[int]:
        return [int(n) for n in client.get_registered_model(self.model).tags.get(looks_tag(champion), "").split()]

    def look(self, version: Version, champion: Version | None) -> int:
        """The number, from 1, of a version's comparison with a champion; the same for the same version.

        It is noted on the registered model, so that it counts on although versions are deleted.
        """
        with self._asking() as client:
            looks = self._looks(client, champion)
            if version.number not in looks:
                looks.append(version.number)
                client.set_registered_model_tag(self.model, looks_tag(champion), " ".join(map(str, looks)))
        return looks.index(version.number) + 1

    def challenge(self, version: Version) -> None:
        """Give a version the alias ``challenger``."""
        with self._asking() as client:
            client.set_registered_model_alias(self.model, CHALLENGER, str(version.number))

    def crown(self, version: Version, replaced: Version | None, reason: str) -> None:
        """Make a version champion; ``replaced`` is noted on it, and is where a rollback goes.

        Raises:
            RegistryError: the champion is no longer ``replaced``, with which the version was compared.
        """
        tags = {"replaced": str(replaced.number)} if replaced else {}
        expected = replaced.number if replaced else None
        with self._asking() as client:
            if (current := self._aliases(client).get(CHAMPION)) != expected:
                raise RegistryError(
                    f"the champion of {self.model} changed from {named(expected)} to {named(current)} while version "
                    f"{version.number} was trained and judged against it: nothing is promoted, the next run trains anew"
                )
            for key, value in (tags | {"promoted": now()}).items():
                client.set_model_version_tag(self.model, str(version.number), key, value)
            client.set_registered_model_alias(self.model, CHAMPION, str(version.number))
            client.delete_registered_model_alias(self.model, CHALLENGER)
            self._moved(client, "promoted", expected, version.number, reason)

    def approve(self, number: int) -> Version:
        """Make a version champion that has passed and waits for a person.

        Raises:
            ConfigError: there is no such version, it does not wait, or the champion it was compared with is no longer.
        """
        version, champion = self.version(str(number)), self.champion()
        decision = version.tags.get("decision", "never judged by a retraining")
        if decision != PASSED:
            said = f" ({reason})" if (reason := version.tags.get("reason")) else ""
            raise ConfigError(
                f"version {number} of {self.model} does not wait for approval, it was {decision}{said}: "
                f"'paced rollback {self.model} --to {number}' makes it champion all the same"
            )
        parent, reigns = version.tags.get("parent"), str(champion.number) if champion else RECIPE
        if parent != reigns:
            compared = named(None if parent is None or parent == RECIPE else int(parent))
            raise ConfigError(
                f"version {number} of {self.model} passed against {compared}, but "
                f"{named(champion and champion.number)} is champion now: the next retraining judges anew"
            )
        self.crown(version, champion, version.tags.get("reason", ""))
        self.note(version, {"decision": "promoted", "approved": f"{now()} by {getpass.getuser()}"})
        return version

    def rollback(self, to: int | Literal["recipe"] | None) -> Move:
        """Move the alias ``champion`` to another version, by default to the one that the champion has replaced, or to
        the one before if that was deleted; ``recipe`` takes it away, and the recipe's student is the one to beat.

        A version that a rollback has taken it from, and that gets it back at once, was not wrong: the rollback was.

        Raises:
            ConfigError: there is no champion, no such version, or none before.
        """
        number, versions, history = self._reigning(), self.versions(), self.history()
        after = self._destination(to, number, versions, history)
        last = history[-1] if history else None
        taken = last is not None and last.event in ("rolled_back", "revoked")
        undone = taken and last is not None and (last.before, last.after) == (after, number)
        with self._asking() as client:
            if after is None:
                client.delete_registered_model_alias(self.model, CHAMPION)
            else:
                client.set_registered_model_alias(self.model, CHAMPION, str(after))
                client.delete_model_version_tag(self.model, str(after), ROLLED_BACK)
            if number in versions and number != after and not undone:
                client.set_model_version_tag(self.model, str(number), ROLLED_BACK, f"{now()} to {named(after)}")
            event = "restored" if undone else "revoked" if after is None else "rolled_back"
            return self._moved(client, event, number, after, "")

    def _destination(
        self, to: int | str | None, number: int | None, versions: Mapping[int, Version], history: Sequence[Move]
    ) -> int | None:
        """Where a rollback from version ``number`` goes; None is the recipe's student."""
        there = f"(there are: {', '.join(map(str, versions))})"
        if number is None and (not versions or not isinstance(to, int)):
            known = "no such model" if not versions else "it has versions, but none has the alias 'champion'"
            raise ConfigError(f"{self.model} has no champion at {self.uri}: {known}")
        if to == RECIPE:
            return None
        goal = before(number, versions, history) if to is None else int(to)
        if goal is None:
            first = f"version {number} is the first champion of {self.model}"
            gone = f"no champion of {self.model} before version {number} is left"
            raise ConfigError(
                f"{first if number in versions else gone}: name another with --to {there}, or revoke it with --to "
                "recipe: then the recipe's student is the one to beat"
            )
        if goal not in versions or (goal == number and self._alias() == number):
            fault = f"{self.model} has no such version" if goal not in versions else "is the champion already"
            raise ConfigError(f"--to {goal}: {fault} {there}")
        return goal


def before(number: int | None, versions: Mapping[int, Version], history: Sequence[Move]) -> int | None:
    """The version that a champion has replaced, or that one's if it was deleted, and so on; none before the first."""
    while number is not None:
        replaced = next((m.before for m in reversed(history) if (m.event, m.after) == ("promoted", number)), None)
        if replaced is None and number in versions and (tag := versions[number].tags.get("replaced")):
            replaced = int(tag)
        if replaced in versions:
            return replaced
        number = replaced
    return None


def named(number: int | None) -> str:
    """A champion in a message."""
    return "the recipe's student" if number is None else f"version {number}"


def looks_tag(champion: Version | None) -> str:
    """The tag of a registered model that lists who was compared with a champion."""
    return f"looks.{champion.number if champion else RECIPE}"


def registered(home: Path) -> list[dict[str, str]]:
    """The tags of every version of every registered model; none where nothing was ever tracked.

    Raises:
        RegistryError: MLflow does not answer.
    """
    uri = tracking_uri(home)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return []
    found: list[dict[str, str]] = []
    page: str | None = None
    unknown = "what the registered models need is not known, nothing is collected"
    with asking(uri, turn_of(uri, home, home / "locks"), unknown):
        client = client_of(uri, home)
        while page is None or page:
            versions = client.search_model_versions(max_results=1000, page_token=page)
            found += [v.tags for v in versions]
            page = versions.token or ""
    return found


def located(model: str, home: Path) -> Ref:
    """A model folder, or the weights of a registered model: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        ConfigError: there is no such version, or it is not written so.
        DataError: the folder is missing or is no model's.
    """
    if not model.startswith("models:"):
        return model_ref(Model(path=model))
    found = re.fullmatch(r"models:/([^/@]+)(?:@|/)([^/@]+)", model)
    if not found:
        raise ConfigError(f"model {model!r}: a registered model is models:/NAME@champion or models:/NAME/VERSION")
    registry = Registry(home, found[1])
    return model_ref(Model(path=str(registry.weights(registry.version(found[2])))))


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
