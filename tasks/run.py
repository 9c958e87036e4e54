"""A run: one recipe, resolved, with a folder of its own that everything about it is written to."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from paced.config import Model, Recipe, home
from paced.config.label import Label
from paced.storage.artifacts import Ref, kept_model
from paced.storage.identity import digest, short
from paced.storage.runs import write_recipe

JUDGED = "model"  # what stands beside the base in an evaluation, where other runs have their arms

Purpose = Literal["training", "evaluation", "diagnosis"]


class Run(BaseModel):
    """Where a run lives. ``name`` is the recipe's name and a digest of everything set in it.

    So the same recipe is the same run: run again, it resumes, and its tracking goes on where it stopped. An evaluation
    judges a ``model``, a diagnosis measures gradients; neither trains one.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    home: str
    recipe: Recipe
    purpose: Purpose = "training"
    model: Ref | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of what is compared with the base."""
        others: dict[Purpose, tuple[str, ...]] = {"evaluation": (JUDGED,), "diagnosis": ()}
        return others.get(self.purpose, tuple(arm.name for arm in self.recipe.arms))

    @property
    def final(self) -> Label:
        """The student that is registered when it was trained: of the last arm and the first seed."""
        return Label(self.recipe.arms[-1].name, self.recipe.seeds[0])

    @property
    def folder(self) -> Path:
        return Path(self.home) / "runs" / self.name


def run_name(recipe: Recipe, purpose: Purpose = "training", model: Ref | None = None) -> str:
    """The recipe's name, the purpose if it is not training, and a digest of its settings (``Recipe.settings``)."""
    settings = recipe.settings()
    told = short(digest([settings, model.identity] if model else settings), 8)
    return "-".join([recipe.name, *([] if purpose == "training" else [purpose]), told])


def open_run(recipe: Recipe, purpose: Purpose = "training", model: Ref | None = None) -> Run:
    """The run of a recipe, or of an evaluation of ``model``; writes ``recipe.yaml`` into its folder."""
    run = Run(name=run_name(recipe, purpose, model), home=str(home()), recipe=recipe, purpose=purpose, model=model)
    write_recipe(run.folder, recipe)
    return run


def model_ref(config: Model) -> Ref:
    """A reference to the model that a recipe names.

    Raises:
        DataError: the folder is missing or holds no safetensors.
    """
    return kept_model(Path(config.path).absolute())
