"""Task 'prepare': a data set becomes a table of checked problems."""

from pathlib import Path

from paced.artifacts import Ref
from paced.config import Data
from paced.errors import DataError
from paced.identity import file_digest
from paced.stage import Spec
from tasks.run import Run
from tasks.stage import stage_task


@stage_task
def prepare(run: Run, label: str, data: Data, seed: int, split: str, exclude: dict[str, Ref]) -> Spec:
    """Problems of ``data`` that stand in none of ``exclude``; ``seed`` draws them unless the data set has its own."""
    inputs = {f"exclude/{name}": ref for name, ref in exclude.items()}
    if data.path is not None:
        path = Path(data.path).absolute()
        try:
            inputs["file"] = Ref(kind="file", path=str(path), identity=file_digest(path))
        except OSError as error:
            raise DataError(f"data file {path} cannot be read: {error.strerror}") from None
    settings = data.model_copy(
        update={"path": "file" if data.path else None, "seed": seed if data.seed is None else data.seed}
    )
    config = {"data": settings.model_dump(mode="json"), "split": split}
    return Spec(stage="prepare", home=run.home, config=config, inputs=inputs, runtime=run.recipe.runtime)
