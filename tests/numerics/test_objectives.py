"""What training reads and leaves, apart from what it computes: the order of answers, stored buffers, moments."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM

from benchmarks.growth import MODEL, RUNTIME, TELL, collection, finished, identifier, key, target
from paced import batching
from paced.batching import systematic
from paced.distill.checkpoints import State, save_model
from paced.distill.objectives import Forward, TrainingSample
from paced.distill.student import coefficients, denominator
from paced.distill.train import drawn_samples
from paced.errors import DataError
from paced.losses import Divergence, forward_kl
from paced.models import Tokenizer
from paced.stage import Job, Spec
from paced.storage.tables import ANSWERS, PASS_RATES, PROBLEMS

CPU = torch.device("cpu")


def test_epochs_take_answers_in_their_order_wherever_they_are_stored(tmp_path: Path) -> None:
    """Each answer in a part of its own, whose name is a digest: the order of names is any."""
    tokenizer, problems = Tokenizer(MODEL), 6
    store = collection(tmp_path, tokenizer.token_map)
    table: list[dict[str, Any]] = []
    for i in range(2 * problems):
        row = target(i) | {"problem_id": identifier(i // 2), "sample_index": i % 2}
        place = {"sample_key": key(i), "target_key": key(i), "part": store.write([row]), "tokens": 24, "verdict": ""}
        table.append({"problem_id": identifier(i // 2), "sample_index": i % 2} | place)
    asked = ({"problem_id": identifier(i), "prompt": '"1"'} for i in range(problems))
    weighed = ({"problem_id": identifier(i), "weight": 1.0} for i in range(problems))
    inputs = {
        "answers": finished(tmp_path, "teacher", "answers.parquet", table, ANSWERS, targets={"floor": 0.001}),
        "problems": finished(tmp_path, "prepare", "problems.parquet", asked, PROBLEMS),
        "weights": finished(tmp_path, "weights", "pass_rates.parquet", weighed, PASS_RATES),
    }
    job = Job(Spec(stage="train", home=str(tmp_path), inputs=inputs, runtime=RUNTIME), TELL)
    weights = job.table("weights", "pass_rates.parquet", ["problem_id", "weight"])
    forward = Forward(job, forward_kl, tokenizer, weights, CPU, tmp_path / "scratch")
    assert len({row["part"] for row in table}) == 2 * problems
    for item in range(problems):
        for epoch in range(4):
            assert forward.sample(item, epoch).response == target(2 * item + epoch % 2)["response_ids"].tolist()
    tokenizer.size = 20  # a student with fewer rows than its teacher
    with pytest.raises(DataError, match=r"the teacher's answers have token 2\d, the student in .* only those below 20"):
        Forward(job, forward_kl, tokenizer, weights, CPU, tmp_path / "again")


class Listed(NamedTuple):
    """Problems with a response each, of any length; item i is at place i."""

    weights: NDArray[np.float64]
    lengths: list[int]

    @property
    def population(self) -> int:
        return len(self.lengths)

    @property
    def ids(self) -> list[str]:
        return [str(i) for i in range(self.population)]

    def has(self, item: int) -> bool:
        return True

    def sample(self, item: int, epoch: int) -> TrainingSample:
        return TrainingSample([1], [2] * self.lengths[item], float(self.weights[item]), item)

    def divergence(self, samples: Sequence[TrainingSample], shift: int = 0) -> Divergence:
        raise NotImplementedError


@pytest.mark.parametrize("reduction", ["sequence", "token"])
def test_a_weight_as_probability_has_the_expectation_of_the_factor(
    reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what each problem's gradient counts in a step, and of the denominator; exactly, over all offsets of an epoch.

    In units of their mean, 1.2 (not 1: others have no answer), the weights add up to 23, 27, 42, 44 and 60 twelfths. So
    what an epoch holds changes at offsets of whole twelfths alone, and one in the middle of each stands for all.
    """
    objective = Listed(np.array([2.3, 0.4, 1.5, 0.2, 1.6]), [3, 8, 1, 5, 2])
    exact = np.zeros(5)
    summed = 0.0
    for s in drawn_samples(objective, 0, 0, 5, "factor"):
        exact[s.place] += s.weight / (len(s.response) if reduction == "sequence" else 1)
        summed += s.weight * len(s.response)
    assert exact[0] == pytest.approx(2.3 / (3 if reduction == "sequence" else 1))
    found, denominators = np.zeros(5), list[float]()
    for k in range(12):
        offset = (k + 0.5) / 12
        monkeypatch.setattr(batching, "systematic", lambda weights, _, at=offset: systematic(weights, at))
        samples = drawn_samples(objective, 0, 0, 5, "probability")
        assert [s.weight for s in samples] == pytest.approx([1.2] * 5)
        for s in samples:
            found[s.place] += coefficients([s], 1.0, reduction)[0] / 12
        denominators.append(denominator(samples, reduction))
    assert found.tolist() == pytest.approx(exact.tolist())
    assert np.mean(denominators) == pytest.approx(5 if reduction == "sequence" else summed)


def test_buffers_that_a_model_stores_are_in_the_student(tmp_path: Path) -> None:
    """A router's correction is no parameter."""
    config = DeepseekV3Config(
        vocab_size=40, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, n_routed_experts=4, num_experts_per_tok=2, n_group=1,
        topk_group=1, first_k_dense_replace=1, kv_lora_rank=4, q_lora_rank=4, qk_rope_head_dim=4, qk_nope_head_dim=4,
        v_head_dim=4,
    )  # fmt: skip
    model = DeepseekV3ForCausalLM(config)
    buffers = {name: b for name, b in model.named_buffers() if name in model.state_dict()}
    assert buffers
    for buffer in buffers.values():
        buffer.copy_(torch.randn_like(buffer))
    weights = State(model, torch.optim.AdamW(model.parameters())).weights(torch.float32)
    (tmp_path / "tokenization_own.py").write_text("# a tokenizer's own code\n")
    save_model(model, weights, tmp_path, tmp_path / "model")
    assert (tmp_path / "model" / "tokenization_own.py").read_text() == "# a tokenizer's own code\n"
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(again[name], value), name


def test_moments_come_back_and_the_file_is_let_go(tmp_path: Path) -> None:
    """One of two parameters has never had a gradient, so it has no moments."""
    states: list[State] = []
    for _ in range(2):
        model: Any = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 2, False), "unused": torch.nn.Linear(2, 2, False)})
        states.append(State(model, torch.optim.AdamW(model.parameters(), 0.1)))
    first, second = states
    first.model["used"](torch.ones(1, 2)).sum().backward()
    first.optimizer.step()
    file = tmp_path / "state.safetensors"
    save_file(first.tensors(weights=True), file)
    second.restore(file)
    for name, value in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
    (moments,) = first.optimizer.state.values()
    (restored,) = second.optimizer.state.values()
    assert all(torch.equal(restored[name], value) for name, value in moments.items())
    # A network file system keeps the folder of a file that is still open from being removed.
    assert str(file) not in Path("/proc/self/maps").read_text()
