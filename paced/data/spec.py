"""The spec of stage 'prepare', for its task: imports no cleaning and no verifier, which a flow need not wait for."""

from collections.abc import Mapping
from pathlib import Path

from paced.config import Data, Decontamination, Runtime
from paced.config.stages import PrepareConfig
from paced.data.rows import identity, local
from paced.stage import Spec, spec_of
from paced.storage.artifacts import Ref


def prepare_spec(
    home: str,
    data: Data,
    seed: int,
    split: str,
    exclude: Mapping[str, Ref],
    decontamination: Decontamination | None,
    runtime: Runtime,
) -> Spec:
    """The spec of stage 'prepare'; ``seed`` draws the problems unless the data set has its own.

    Args:
        exclude: the benchmarks that problems must not stand in, unless ``decontamination`` says otherwise.
        decontamination: None for a benchmark, which is taken as it is, repeats and all.

    Raises:
        DataError: the data file cannot be read or fetched.
    """
    inputs: dict[str, Ref] = {}
    if decontamination and decontamination.enabled:
        inputs |= {f"exclude/{name}": ref for name, ref in exclude.items()}
    if data.path is not None:
        path = local(data.path, Path(home))
        inputs["file"] = Ref(kind="file", path=str(path), identity=identity(path))
    settings = data.model_copy(
        update={"path": "file" if data.path else None, "seed": seed if data.seed is None else data.seed}
    )
    config = PrepareConfig(data=settings, split=split, decontamination=decontamination)
    return spec_of(config, home=home, inputs=inputs, runtime=runtime)
