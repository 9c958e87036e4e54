"""A teacher's answers and its distributions along them, as an artifact of stage 'teacher' has stored them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch

from paced.api.losses import SparseTargets
from paced.errors import DataError
from paced.losses.targets import ENTRIES, FLAT, Sparse, decode, joined
from paced.storage.artifacts import open_file, reference
from paced.storage.store import ROW_GROUP, Collection
from paced.storage.tables import TARGETS


class StoredTargets(NamedTuple):
    """One answer of the teacher, and its distribution before each token of it.

    Attributes:
        problem_id: the problem, as in the run's tables.
        sample_index: which of the problem's answers.
        prompt_ids: what the teacher read, token ids; a privileged teacher's prompt also holds the reference solution.
        response_ids: its answer, T token ids.
        sparse: flat entries of T positions: ``counts`` [T], ``ids`` and ``logprobs`` [sum of counts], ``tail`` [T];
            natural logarithms in fp16, which sum to 1 but for rounding.
        floor: ids that are not stored have at most this probability.
    """

    problem_id: str
    sample_index: int
    prompt_ids: list[int]
    response_ids: list[int]
    sparse: Sparse
    floor: float


def stored_targets(artifact: str | Path) -> Iterator[StoredTargets]:
    """The answers of an artifact of stage 'teacher', in the order of its table.

    Args:
        artifact: its folder, ``.paced/artifacts/teacher/ID``; a run's ``run.json`` has the ``path`` of each stage. The
            targets themselves lie in the store beside ``artifacts``; digests of both are checked.

    Raises:
        CacheError: the folder is no artifact, or a file is damaged or gone.
        DataError: it is an artifact of another stage.
    """
    ref = reference(Path(artifact).absolute())
    if ref.kind != "teacher":
        raise DataError(f"{artifact} is an artifact of stage '{ref.kind}', not of stage 'teacher'")
    about = json.loads(open_file(ref, "targets.json").read_text())
    collection = Collection(ref.folder.parents[2], "targets", about, TARGETS, about["tokens"])
    names = ("problem_id", "sample_index", "target_key", "part")
    with pq.ParquetFile(open_file(ref, "answers.parquet")) as table:
        for batch in table.iter_batches(ROW_GROUP, columns=list(names)):
            answers = batch.to_pylist()
            rows = collection.rows([(a["target_key"], a["part"]) for a in answers], list(FLAT))
            for answer, row in zip(answers, rows, strict=True):
                sparse = Sparse(*(np.array(row[name], kind) for name, kind in ENTRIES.items()))
                ids = row["prompt_ids"], row["response_ids"]
                yield StoredTargets(answer["problem_id"], answer["sample_index"], *ids, sparse, about["floor"])


def padded_targets(
    stored: Sequence[StoredTargets], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> SparseTargets:
    """The targets of several answers, position after position, as the losses take them.

    Args:
        stored: N positions in all; their answers lie one behind the other.
        device: where the tensors are to be.
        dtype: of the log-probabilities, which are renormalised: entries and tail sum to 1.

    Raises:
        DataError: there are none, or they are of different floors.
    """
    floors = {s.floor for s in stored}
    if len(floors) != 1:
        raise DataError(f"targets of one floor are needed, got {sorted(floors) or 'no targets'}")
    return SparseTargets(*decode(joined([s.sparse for s in stored]), torch.device(device), dtype), floors.pop())
