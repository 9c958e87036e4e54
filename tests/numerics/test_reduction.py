"""Reductions: one denominator for a step, however it is split; masks from lengths; padding rows of the vocabulary."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from forks import forked
from torch import Tensor
from transformers import PreTrainedModel

from paced.batching import micro_batches
from paced.config import Model
from paced.distill.objectives import TrainingSample
from paced.distill.student import Student, coefficients, denominator
from paced.distill.train import shares
from paced.losses import LOSSES, Divergence, bucketed, exact, fused_loss
from paced.losses.targets import decode, encode
from paced.models import Tokenizer, head, hidden_states, load_model, projection, response_hidden, sharding
from paced.tiny.checkpoints import EOS, PAD, VOCABULARY


def step() -> list[TrainingSample]:
    """Six sequences of all lengths; some responses hold the padding id, inside and at the end, where it is eos."""
    make = torch.Generator().manual_seed(1)
    result: list[TrainingSample] = []
    for index in range(6):
        prompt, response = (
            torch.randint(2, 27, (int(torch.randint(1, high, (), generator=make)),), generator=make).tolist()
            for high in (8, 20)
        )
        ending = [[], [EOS], [PAD], [PAD, 5, PAD]][index % 4]
        result.append(TrainingSample(prompt, [*response, *ending], 0.25 * (index + 1), index))
    return result


SIZE = 27


class Teacher:
    """Random logits at each sample's positions, and the divergences from them."""

    def __init__(self, samples: Sequence[TrainingSample], dtype: torch.dtype = torch.float64):
        make = torch.Generator().manual_seed(2)
        self.logits = [
            torch.randn(len(s.response), SIZE, generator=make, dtype=torch.float64).to(dtype) for s in samples
        ]
        self.taken = [torch.tensor(s.response) for s in samples]

    def divergence(self, name: str, samples: Sequence[TrainingSample]) -> Divergence:
        logits = torch.cat([self.logits[s.place] for s in samples])
        kind, loss = name.split()
        if kind == "exact":
            return lambda z, rows: exact(LOSSES[loss], z, logits[rows])
        taken, floor = torch.cat([self.taken[s.place] for s in samples]), 0.02
        ids, logprobs, tail = decode(encode(logits, taken, floor), torch.device("cpu"), logits.dtype)
        bound = floor if kind == "bounded" else 1.0
        return lambda z, rows: bucketed(LOSSES[loss], z, ids[rows], logprobs[rows], tail[rows], bound)


NAMES = [f"{kind} {loss}" for kind in ("exact", "bucketed", "bounded") for loss in LOSSES]


def gradient(model: PreTrainedModel) -> Tensor:
    grad = torch.cat([sharding.full_tensor(p.grad).flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return grad


def off(found: Tensor, expected: Tensor) -> float:
    """Relative error, by norms."""
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("reduction", ["token", "sequence"])
@pytest.mark.parametrize("name", NAMES)
def test_any_split_gives_the_gradient_of_the_definition(
    model: PreTrainedModel, tokens: Tokenizer, name: str, reduction: str
) -> None:
    model = copy.deepcopy(model).double()
    samples = step()
    teacher = Teacher(samples)

    # The definition, sequence by sequence: no padding, no batch, no fused head.
    expected: Tensor | float = 0.0
    for s in samples:
        logits = model(input_ids=torch.tensor([[*s.prompt, *s.response]])).logits[0, len(s.prompt) - 1 : -1, :SIZE]
        gradient_in_logits = logits.detach().clone()
        values = teacher.divergence(name, [s])(gradient_in_logits, slice(None))
        # A scalar with the divergence's value and gradient.
        total = values.sum() + ((logits - logits.detach()) * gradient_in_logits).sum()
        expected = expected + s.weight * (total / len(s.response) / len(samples) if reduction == "sequence" else total)
    if reduction == "token":
        expected = expected / sum(s.weight * len(s.response) for s in samples)
    assert isinstance(expected, Tensor)
    expected.backward()
    wanted = gradient(model)

    total = denominator(samples, reduction)
    lengths = [len(s.prompt) + len(s.response) for s in samples]
    splits = [list(micro_batches(lengths, budget)) for budget in (1, 60, 10_000)] + [[[4, 0, 3], [5], [1, 2]]]
    assert [len(split) for split in (splits[0], splits[2])] == [6, 1]
    for split in splits:
        assert sorted(i for batch in split for i in batch) == list(range(6))
        value = 0.0
        for batch in split:
            chosen = [samples[i] for i in batch]
            hidden = response_hidden(model, [s.prompt for s in chosen], [s.response for s in chosen])
            shares = torch.tensor(coefficients(chosen, total, reduction), dtype=torch.float64)
            loss, values = fused_loss(hidden, projection(model, tokens.size), shares, teacher.divergence(name, chosen))
            assert len(values) == sum(len(s.response) for s in chosen)  # every response token counts, pad and eos too
            loss.backward()
            value += loss.item()
        assert value == pytest.approx(expected.item(), abs=1e-10)
        assert off(gradient(model), wanted) < 1e-10


def gradients(folder: Path, names: Sequence[str]) -> list[Tensor]:
    """Of one step of training each, in fp32, as paced/distill/train.py forms them on this process and those beside it.

    Three a loss: in 6, some and 1 forward passes; with the last, one of two processes has none.
    """
    device = torch.device("cpu")
    student = Student(load_model(folder, Model(path=str(folder)), device), SIZE, "float32")
    sharding.shard(student, student.model, device, gather_once=False)
    samples = step()
    teacher, total = Teacher(samples, torch.float32), denominator(samples, "token")
    lengths = [len(s.prompt) + len(s.response) for s in samples]
    found: list[Tensor] = []
    for name in names:
        for budget in (1, 60, 10_000):
            batches = list(micro_batches(lengths, budget))
            for batch, counts in shares(batches, sharding.rank(), sharding.world_size()):
                chosen = [samples[i] for i in batch]
                each = torch.tensor(coefficients(chosen, total, "token")) * counts
                student(chosen, each, teacher.divergence(name, chosen))[0].backward()
            found.append(gradient(student.model))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_any_accumulation_gives_the_same_gradient_in_fp32(folder: Path, name: str) -> None:
    wanted, *others = gradients(folder, [name])
    for found in others:
        assert off(found, wanted) < 1e-6


SPREAD = ["bounded forward_kl", "exact reverse_kl", "bucketed jsd", "bounded akl"]


def one_of_two(rank: int, folder: Path, out: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{out / 'meet'}", rank=rank, world_size=2)
    torch.save(gradients(folder, SPREAD), out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(folder: Path, tmp_path: Path) -> None:
    processes = [forked(one_of_two, rank, folder, tmp_path) for rank in range(2)]
    alone = gradients(folder, SPREAD)
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    wanted = [alone[3 * i] for i in range(len(SPREAD)) for _ in range(3)]  # whatever the split
    for found in (alone, torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt")):
        for own, expected in zip(found, wanted, strict=True):
            assert off(own, expected) < 1e-6


def test_filling_is_never_looked_at(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = step()
    prompts, responses = [s.prompt for s in samples], [s.response for s in samples]
    plain = response_hidden(model, prompts, responses)
    rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
    filled = torch.full((len(rows), max(map(len, rows))), 7)
    for i, row in enumerate(rows):
        filled[i, : len(row)] = torch.tensor(row)
    monkeypatch.setattr("paced.models.folder.right_pad", lambda rows, device: filled)
    assert torch.equal(response_hidden(model, prompts, responses), plain)


def test_a_step_counts_its_weights_once() -> None:
    # Weights 1 and 3, lengths 4 and 2. token: 1*4 + 3*2 = 10, shares 1/10 and 3/10. sequence: 2; 1/4/2 and 3/2/2.
    samples = [TrainingSample([1], [2] * 4, 1.0, 0), TrainingSample([1], [2] * 2, 3.0, 1)]
    assert coefficients(samples, denominator(samples, "token"), "token") == [0.1] * 4 + [pytest.approx(0.3)] * 2
    assert coefficients(samples, denominator(samples, "sequence"), "sequence") == [0.125] * 4 + [0.75] * 2


def test_padding_rows_of_the_vocabulary_get_no_mass(model: PreTrainedModel, tokens: Tokenizer) -> None:
    assert tokens.size == SIZE < VOCABULARY
    model = copy.deepcopy(model)
    samples = step()
    teacher = Teacher(samples)
    shares = torch.ones(sum(len(s.response) for s in samples))
    values = []
    for rows in (0.0, 1e3):  # whatever the padding rows hold
        weight = head(model).weight
        weight.data[SIZE:] = rows
        hidden = response_hidden(model, [s.prompt for s in samples], [s.response for s in samples])
        loss, value = fused_loss(
            hidden,
            projection(model, tokens.size),
            shares.double(),
            teacher.divergence("exact reverse_kl", samples),
        )
        loss.backward()
        assert weight.grad is not None
        assert not weight.grad[SIZE:].any()
        assert weight.grad[:SIZE].any()
        values.append(value)
    assert torch.equal(*values)


def test_hidden_states_are_those_of_the_model(model: PreTrainedModel) -> None:
    ids = torch.randint(2, 27, (3, 11))
    own = model(input_ids=ids, output_hidden_states=True)
    torch.testing.assert_close(hidden_states(model, ids) @ head(model).weight.T, own.logits)
