"""The model registry: who is champion, where its weights lie, and how the alias moves.

Unlike tracking, a decision needs the server: one that does not answer is an error, and the next run decides.
"""

import contextlib
import datetime
import functools
import re
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from paced.config import Model
from paced.errors import ConfigError, DataError, PacedError
from paced.stage import exclusive
from paced.storage.artifacts import Ref
from paced.storage.identity import model_identity, short
from paced_tasks.journal import PARENT
from paced_tasks.run import model_ref
from paced_tasks.tracking import Tracker, client_of, tracking_uri, turn_of

CHAMPION, CHALLENGER = "champion", "challenger"


class RegistryError(PacedError):
    """MLflow's registry does not answer, or does not hold what it should."""


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
        """The version with the alias ``champion``."""
        with self._asking() as client:
            number = self._aliases(client).get(CHAMPION)
        return None if number is None else self.versions()[number]

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

    def challenge(self, version: Version) -> None:
        """Give a version the alias ``challenger``."""
        with self._asking() as client:
            client.set_registered_model_alias(self.model, CHALLENGER, str(version.number))

    def crown(self, version: Version, replaced: Version | None) -> None:
        """Make a version champion; ``replaced`` is noted on it, and is where a rollback goes.

        Raises:
            RegistryError: the champion is no longer ``replaced``, with which the version was compared.
        """
        tags = {"replaced": str(replaced.number)} if replaced else {}
        expected = replaced.number if replaced else None
        with self._asking() as client:
            if (current := self._aliases(client).get(CHAMPION)) != expected:
                raise RegistryError(
                    f"the champion of {self.model} changed from version {expected} to {current} while version "
                    f"{version.number} was trained and judged against it: nothing is promoted, the next run trains anew"
                )
            for key, value in (tags | {"promoted": now()}).items():
                client.set_model_version_tag(self.model, str(version.number), key, value)
            client.set_registered_model_alias(self.model, CHAMPION, str(version.number))
            client.delete_registered_model_alias(self.model, CHALLENGER)

    def rollback(self, to: int | None) -> tuple[Version, Version]:
        """Move the alias ``champion`` to another version, by default to the one that the champion has replaced.

        Returns:
            the version that was champion, and the one that is.

        Raises:
            ConfigError: there is no champion, no such version, or none before.
        """
        current, versions = self.champion(), self.versions()
        if current is None:
            known = "no such model" if not versions else "it has versions, but none has the alias 'champion'"
            raise ConfigError(f"{self.model} has no champion at {self.uri}: {known}")
        previous = current.tags.get("replaced")
        if to is None and previous is None:
            raise ConfigError(
                f"version {current.number} is the first champion of {self.model}: name another with --to "
                f"(there are: {', '.join(map(str, versions))})"
            )
        number = to if to is not None else int(previous or 0)
        if number not in versions or number == current.number:
            raise ConfigError(
                f"--to {number}: "
                + ("is the champion already" if number == current.number else f"{self.model} has no such version")
                + f" (there are: {', '.join(map(str, versions))})"
            )
        self.note(current, {"rolled_back": f"{now()} to version {number}"})
        with self._asking() as client:
            client.set_registered_model_alias(self.model, CHAMPION, str(number))
        return current, versions[number]


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
