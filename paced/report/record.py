"""What a run has left behind: ``run.json``, and the artifacts of its stages. Imports no torch."""

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from paced.config import Loss, Schedule, Scheme, Weights
from paced.config.arms import weighting
from paced.config.label import Label
from paced.errors import DataError
from paced.storage.artifacts import Manifest, Ref, open_file, read_manifest
from paced.storage.files import read_record
from paced.storage.runs import Entry, folder_of


class RunArm(BaseModel):
    """One student that the run trains, or a model that it only judges, which has neither scheme nor schedule."""

    model_config = ConfigDict(frozen=True)
    name: str
    scheme: Scheme | None = None
    schedule: Schedule | None = None
    exponents: tuple[float, float] | None = None
    loss: Loss | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether its first weights need no pass rates."""
        return self.scheme is not None and weighting(self.scheme).keeps_all

    @property
    def weighting(self) -> str:
        """The scheme, with the arm's own exponents if it has any."""
        return " ".join([self.scheme or "", *(f"{x:g}" for x in self.exponents or ())])


class RunRecord(BaseModel):
    """``run.json``."""

    model_config = ConfigDict(frozen=True)
    name: str
    status: str
    seeds: list[int]
    arms: list[RunArm]
    weights: Weights
    stages: list[Entry]


class Made(NamedTuple):
    """A stage that has left an artifact."""

    entry: Entry
    manifest: Manifest

    def file(self, name: str) -> Path:
        """One file of the artifact, its digest checked."""
        ref = Ref(kind=self.manifest.kind, path=self.entry.path, identity=self.manifest.identity)
        return open_file(ref, name)

    def count(self, name: str) -> int:
        return int(self.manifest.counts.get(name, 0))


def read(folder: Path) -> tuple[RunRecord, dict[Label, Made]]:
    """A run and, by label, those of its stages whose artifact is there.

    Raises:
        DataError: run.json is missing or damaged.
        CacheError: an artifact is damaged.
    """
    path = folder / "run.json"
    try:
        run = RunRecord.model_validate(read_record(path))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {folder} is no run folder, or its run has not ended yet") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    home = folder.absolute().parent.parent
    stages = [e.model_copy(update={"path": str(folder_of(e.path, home)) if e.path else ""}) for e in run.stages]
    run = run.model_copy(update={"stages": stages})
    there = [e for e in run.stages if e.path and (Path(e.path) / "manifest.json").exists()]
    return run, {e.label: Made(e, read_manifest(Path(e.path))) for e in there}
