"""Task 'prepare': a data set becomes a table of cleaned problems."""

from paced.config import Data
from paced.data.spec import prepare_spec
from paced.stage import Spec
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


@stage_task
def prepare(run: Run, label: str, data: Data, seed: int, split: str, exclude: dict[str, Ref]) -> Spec:
    """Problems of ``data``; those of split ``train`` are kept apart from the benchmarks in ``exclude``."""
    decontamination = run.recipe.decontamination if split == "train" else None
    return prepare_spec(run.home, data, seed, split, exclude, decontamination, run.recipe.runtime)
