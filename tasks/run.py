"""A run: one recipe, resolved, with a folder of its own that everything about it is written to."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from paced.artifacts import Ref, replacing
from paced.config import Model, Recipe, home
from paced.identity import digest, model_identity


class Run(BaseModel):
    """Where a run lives. ``name`` is the recipe's name and a digest of everything set in it.

    So the same recipe is the same run: run again, it resumes, and its tracking goes on where it stopped.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    home: str
    recipe: Recipe

    @property
    def folder(self) -> Path:
        return Path(self.home) / "runs" / self.name


def run_name(recipe: Recipe) -> str:
    """The recipe's name and a digest of its settings other than ``runtime``."""
    settings = recipe.model_dump(mode="json", exclude={"runtime"})
    return f"{recipe.name}-{digest(settings).removeprefix('sha256:')[:8]}"


def open_run(recipe: Recipe) -> Run:
    """The run of a recipe; writes ``recipe.yaml`` into its folder."""
    run = Run(name=run_name(recipe), home=str(home()), recipe=recipe)
    with replacing(run.folder / "recipe.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    return run


def model_ref(config: Model) -> Ref:
    """A reference to a model folder that no stage made: its identity is that of its files.

    Raises:
        DataError: the folder is missing or holds no safetensors.
    """
    folder = Path(config.path).absolute()
    return Ref(kind="model", path=str(folder), identity=model_identity(folder))
