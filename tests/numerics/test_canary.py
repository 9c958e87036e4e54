"""The canary: training that would learn nothing from the teacher does not start."""

from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from paced.distill.objectives import TrainingSample
from paced.distill.student import Student, canary
from paced.errors import EngineError
from paced.losses import Divergence, exact, reverse_kl
from paced.models import Tokenizer


class Fixed:
    """Random teacher logits; with ``deaf`` the divergence leaves them out, as a dropped target would."""

    population = 2

    def __init__(self, size: int, deaf: bool):
        self._logits, self._deaf = torch.randn(6, size, generator=torch.Generator().manual_seed(0)), deaf

    def sample(self, item: int, epoch: int) -> TrainingSample:
        return TrainingSample([3, 4], [5, 6, 7], 1.0, item)

    def divergence(self, samples: Sequence[TrainingSample], shift: int = 0) -> Divergence:
        teacher = self._logits.roll(shift, -1)
        return lambda z, rows: exact(reverse_kl, z, z.clone() if self._deaf else teacher[rows])


@pytest.mark.parametrize("deaf", [False, True])
def test_the_loss_must_depend_on_the_teacher(model: PreTrainedModel, tokens: Tokenizer, deaf: bool) -> None:
    student, objective = Student(model, tokens.size, "float32"), Fixed(tokens.size, deaf)
    samples = [objective.sample(i, 0) for i in range(2)]
    if not deaf:
        return canary(student, objective, samples, torch.device("cpu"))
    with pytest.raises(EngineError, match=r"does not depend on the teacher's distributions: nothing would be learnt"):
        canary(student, objective, samples, torch.device("cpu"))
