"""A run's folder: what ``run.json`` says of a stage, ``summary.json`` of a run, and ``recipe.yaml``. Imports no torch.

Whatever names an artifact names it from the home, so that a home can be moved.
"""

from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from paced.config import Recipe
from paced.config.label import Label
from paced.errors import CacheError
from paced.storage.artifacts import Ref, open_file, read_manifest
from paced.storage.files import replacing
from paced.storage.identity import text_digest
from paced.storage.tables import Row

BEGUN = "begun"  # a file that is there from the beginning of a run to its good end
MARK = "# "  # before the digest of a recipe's text


def folder_of(place: str, home: Path) -> Path:
    """Where an artifact lies; older versions noted the whole path, of a home that may have been moved since."""
    own = home.joinpath("artifacts", *Path(place).parts[-2:])
    return own if own.exists() else home / place


def home_path(path: str, home: Path) -> Path:
    """A path as it was noted from the home; a whole one below a home that was moved is looked for in this one."""
    parts = Path(path).parts
    for top in ("artifacts", "runs", "comparisons"):
        if Path(path).is_absolute() and top in parts:
            own = home.joinpath(*parts[len(parts) - 1 - parts[::-1].index(top) :])
            if own.exists():
                return own
    return home / path


def from_home(path: Path, home: Path) -> str:
    """A path as it is noted: from the home, if it lies there."""
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Begin a run: its recipe, below the digest of its text."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    with replacing(folder / BEGUN) as temporary:
        temporary.touch()
    with replacing(folder / "recipe.yaml") as temporary:
        temporary.write_text(f"{MARK}{text_digest(text)}\n{text}")


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        CacheError: it is missing or damaged.
    """
    path = folder / "recipe.yaml"
    try:
        text = path.read_text()
        first, _, rest = text.partition("\n")
        if first.startswith(f"{MARK}sha256:") and first != MARK + text_digest(rest):
            raise ValueError("its sha256 differs from the recorded one")
        return Recipe.model_validate(yaml.safe_load(text))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CacheError(f"{path} is damaged ({reason}): run the recipe again that it is of") from None


def _label(value: Label | str) -> Label:
    return Label.parse(value) if isinstance(value, str) else value


class Entry(BaseModel):
    """One stage of a run."""

    model_config = ConfigDict(frozen=True)
    label: Annotated[Label, BeforeValidator(_label), PlainSerializer(str)]
    stage: str
    arm: str | None = None
    seed: int | None = None
    path: str
    identity: str
    cached: bool = False
    seconds: float = 0.0
    counts: dict[str, float] = {}

    @property
    def step(self) -> str:
        """What the stage is for, without its round: ``sample`` of ``sample_1``."""
        return self.label.purpose or self.stage


def metrics_of(entry: Entry) -> list[str]:
    """The lines of ``metrics.jsonl`` that a stage of training has left, their digest checked; of others none.

    Raises:
        CacheError: the file is damaged.
    """
    manifest = read_manifest(Path(entry.path))
    if not any(file.name == "metrics.jsonl" for file in manifest.files):
        return []
    ref = Ref(kind=manifest.kind, path=entry.path, identity=entry.identity)
    return open_file(ref, "metrics.jsonl").read_text().splitlines()


class StageSummary(TypedDict):
    """One stage of a run; ``reused`` and ``computed`` are rows of the store."""

    name: str
    identity: str
    cached: bool
    reused: int
    computed: int
    seconds: float


class ComparisonSummary(TypedDict):
    """Arms judged on the same problems, of one run or of several.

    ``arms`` holds the scores, costs and settings of each arm; ``comparisons`` the paired differences a - b.
    """

    name: str
    status: str
    benchmarks: list[Row]
    arms: dict[str, Row]
    comparisons: list[Row]
    warnings: list[str]


class RunSummary(ComparisonSummary):
    """``summary.json``; ``data`` is what was left out of each data set."""

    seeds: list[int]
    data: dict[str, Row]
    stages: list[StageSummary]
    diagnosis: NotRequired[Any]
