"""One of each kind that a package can add. Records name functions by module: to read one, no torch is imported."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paced.config.catalog import LossRecord, SourceRecord, VerifierRecord, WeightingRecord
from paced.data.layouts import Problem
from paced.errors import DataError
from paced.tiny.world import working

if TYPE_CHECKING:
    from torch import Tensor

    from paced.config import Data

TOTAL_VARIATION = LossRecord("paced_example:total_variation", "total variation")
PEAK = WeightingRecord("paced_example:peak", "peak", "#7a5cc2", options={"centre": 0.5, "width": 0.25})
LAST_LINE = VerifierRecord("paced_example:last_line", "the response's last line is the gold's")
PROMPTS = SourceRecord("paced_example:prompts", "one prompt of the tiny world a line", verifier="last_line")


def total_variation(log_q: "Tensor", log_p: "Tensor") -> "tuple[Tensor, Tensor]":
    """Half of sum |q - p|, and its gradient in the logits: q (s - sum q s), s half the sign of q - p."""
    q = log_q.exp()
    gap = q - log_p.exp()
    half_sign = gap.sign() / 2
    return gap.abs().sum(-1) / 2, q * (half_sign - (q * half_sign).sum(-1, keepdim=True))


def peak(
    correct: NDArray[np.float64], wrong: NDArray[np.float64], settings: Mapping[str, float]
) -> NDArray[np.float64]:
    """A bell over the pass rate, and nothing where the student never succeeds."""
    rate = correct / np.maximum(correct + wrong, 1)
    bell = np.exp(-((rate - settings["centre"]) ** 2) / (2 * settings["width"] ** 2))
    return np.where(correct > 0, bell, 0.0)


def last_line(response: str, gold: str, question: str) -> bool:
    """Whether the last lines agree; 'loop' in a response stands for a verifier that does not end."""
    while response == "loop":
        pass
    return response.strip().splitlines()[-1:] == gold.strip().splitlines()[-1:]


def prompts(path: Path, data: "Data") -> Iterator[Problem]:
    """A text file of prompts; their answers follow from them."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            yield Problem(f"{path}:{number}", line, working(line), None, None, line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}") from None
