"""The losses that ``import paced`` offers: against float64 references, by gradcheck, and against the trainer's."""

from typing import Any

import numpy as np
import pytest
import torch
from reference import FORMS, LOSS, NAMES, V, akl_of_constant_share, close, cut, log_softmax, partition, rounded, whole
from torch import Tensor, nn

import paced
import paced.api.losses
from paced.distill.objectives import TrainingSample
from paced.distill.student import coefficients, denominator
from paced.errors import ConfigError, DataError
from paced.losses import LOSSES, Projection, bucketed, exact, fused_loss

B, T, H = 3, 4, 8
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
MASK = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0], [1, 1, 0, 1]])
WEIGHTS = [0.5, 2.0, 1.25]


def drawn(*sizes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    make = torch.Generator().manual_seed(seed)
    return [torch.randn(*size, generator=make, dtype=torch.float64) for size in sizes]


def function(name: str) -> Any:
    """The plain function of a loss of ``NAMES``."""
    if name.startswith("jsd0"):
        return lambda *given, **options: paced.jsd(*given, share=float(name[3:]), **options)
    return getattr(paced, name)


def targets(t: np.ndarray, dtype: torch.dtype, floor: float) -> tuple[paced.SparseTargets, tuple[Any, ...]]:
    """Sparse targets of teacher logits [N, V], and what the reference takes for them."""
    ids, kept, tail, sets = cut("top 5", log_softmax(t))
    sparse = paced.SparseTargets(
        torch.tensor(ids), torch.tensor(kept, dtype=dtype), torch.tensor(tail, dtype=dtype), floor
    )
    return sparse, (rounded(kept, dtype), rounded(tail, dtype), sets, floor)


@PRECISIONS
@NAMES
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_exact_functions(name: str, temperature: float, dtype: torch.dtype, tolerance: float) -> None:
    """In the shape [B, T, V], each position's upstream another."""
    s, t, up = (x.to(dtype) for x in drawn((B, T, V), (B, T, V), (B, T)))
    s.requires_grad_()
    values = function(name)(s, t, temperature=temperature)
    values.backward(up)
    z, p = (x.detach().double().numpy().reshape(-1, V) / temperature for x in (s, t))
    expected, slopes = whole(name, z, p)
    assert values.shape == (B, T) and values.dtype == dtype and s.grad is not None
    close(values.detach().double().numpy().reshape(-1), expected, tolerance)
    close(s.grad.double().numpy().reshape(-1, V), slopes * up.double().numpy().reshape(-1, 1) / temperature, tolerance)


@PRECISIONS
@NAMES
@pytest.mark.parametrize("floor", [1.0, 0.1])
def test_sparse_functions(name: str, floor: float, dtype: torch.dtype, tolerance: float) -> None:
    s, t = (x.to(dtype) for x in drawn((6, V), (6, V)))
    sparse, plain = targets(t.double().numpy(), dtype, floor)
    s.requires_grad_()
    values = function(name)(s, sparse)
    values.sum().backward()
    expected, slopes = partition(name, s.detach().double().numpy(), *plain)
    assert s.grad is not None
    close(values.detach().double().numpy(), expected, tolerance)
    close(s.grad.double().numpy(), slopes, tolerance)


@FORMS
@LOSS
def test_gradcheck(name: str, support: str | None, floor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "akl":  # its weight is a constant in its gradient, which finite differences do not know
        monkeypatch.setattr("paced.losses.akl", akl_of_constant_share())
    s, t = drawn((3, V), (3, V))
    teacher = t if support is None else targets(t.numpy(), torch.float64, floor)[0]
    assert torch.autograd.gradcheck(lambda z: function(name)(z, teacher), s.requires_grad_())


def test_a_student_in_bfloat16_gets_a_gradient_in_bfloat16() -> None:
    """The divergence of its logits is formed in fp32."""
    s, t = (x.to(torch.bfloat16) for x in drawn((6, V), (6, V)))
    s.requires_grad_()
    values = paced.forward_kl(s, t)
    values.sum().backward()
    expected, slopes = whole("forward_kl", *(x.detach().double().numpy() for x in (s, t)))
    assert values.dtype == torch.float32 and s.grad is not None and s.grad.dtype == torch.bfloat16
    close(values.detach().double().numpy(), expected, 1e-5)
    close(s.grad.double().numpy(), slopes, 2.0**-8)


def test_long_inputs_are_cut_up_to_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    s, t = drawn((7, V), (7, V))
    at_once = paced.reverse_kl(s, t)
    monkeypatch.setattr(paced.api.losses, "chunk_rows", lambda size: 3)
    assert torch.equal(paced.reverse_kl(s, t), at_once)


class Case:
    """A batch whose logits come from hidden states by an output projection with a bias."""

    def __init__(self) -> None:
        self.hidden, weight, bias, self.teacher = drawn((B, T, H), (V, H), (V,), (B, T, V))
        self.head = nn.Linear(H, V, dtype=torch.float64)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)
        self.hidden.requires_grad_()

    def gradients(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, (self.hidden, self.head.weight, self.head.bias)))


@FORMS
@LOSS
@pytest.mark.parametrize("reduction", ["sequence", "token"])
def test_the_module_is_the_trainer_s_loss(name: str, support: str | None, floor: float, reduction: Any) -> None:
    """Value and all gradients, by hidden states and by logits, with the trainer's coefficients and fused loss."""
    case, chosen = Case(), MASK.bool()
    flat = case.teacher[chosen]
    if support is None:
        teacher, temperature = case.teacher, 0.7
        divergence = lambda z, rows: exact(LOSSES[name], z, flat[rows] / 0.7)  # noqa: E731
    else:
        (teacher, _), temperature = targets(flat.numpy(), torch.float64, floor), 1.0
        divergence = lambda z, rows: bucketed(LOSSES[name], z, *(x[rows] for x in teacher[:3]), floor)  # noqa: E731
    samples = [TrainingSample([], [0] * n, w, 0) for n, w in zip(MASK.sum(1).tolist(), WEIGHTS, strict=True)]
    shares = torch.tensor(coefficients(samples, denominator(samples, reduction), reduction), dtype=torch.float64)
    projection = Projection(case.head.weight, V, case.head.bias, None, temperature)
    expected = fused_loss(case.hidden[chosen], projection, shares, divergence)[0]
    slopes = case.gradients(expected)

    module = paced.PacedLoss(name, reduction=reduction, temperature=temperature)
    weights = torch.tensor(WEIGHTS)
    by_hidden = module(case.hidden, teacher, MASK, weights=weights, head=case.head)
    by_logits = module(case.head(case.hidden), teacher, MASK, weights=weights)
    for found in (by_hidden, by_logits):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        for mine, its in zip(case.gradients(found), slopes, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["sequence", "token"])
def test_a_step_in_two_parts(reduction: Any) -> None:
    """With the whole step's denominator the parts sum to the whole; 3 sequences, sum of w T = 1.5 + 2 + 3.75."""
    case, module, weights = Case(), paced.PacedLoss(reduction=reduction), torch.tensor(WEIGHTS)
    logits = case.head(case.hidden)
    whole_step = module(logits, case.teacher, MASK, weights=weights)
    total = 3 if reduction == "sequence" else 7.25
    parts = [
        module(logits[i:j], case.teacher[i:j], MASK[i:j], weights=weights[i:j], denominator=total)
        for i, j in ((0, 1), (1, 3))
    ]
    torch.testing.assert_close(parts[0] + parts[1], whole_step, rtol=1e-12, atol=1e-12)


def test_what_does_not_count_does_not_matter() -> None:
    """Masked positions get no gradient, whatever stands there; a part of a step may have none that count."""
    s, t = drawn((B, T, V), (B, T, V))
    s[~MASK.bool()] = torch.nan
    s.requires_grad_()
    loss = paced.PacedLoss()(s, t, MASK)
    loss.backward()
    assert s.grad is not None and torch.isfinite(loss)
    assert not s.grad[~MASK.bool()].any() and s.grad[MASK.bool()].abs().sum(-1).all()
    nothing = paced.PacedLoss("jsd", reduction="token")(s, t, 0 * MASK, denominator=5.0)
    (gradient,) = torch.autograd.grad(nothing, s)
    assert nothing.item() == 0 and not gradient.any()


def test_a_projection_cuts_padding_rows_off() -> None:
    case = Case()
    wide = torch.cat([case.head.weight.detach(), torch.full((3, H), 9.0, dtype=torch.float64)]).requires_grad_()
    head = Projection(wide, V, case.head.bias)
    module = paced.PacedLoss("reverse_kl")
    found, plain = (module(case.hidden, case.teacher, MASK, head=h) for h in (head, case.head))
    assert torch.equal(found, plain)
    found.backward()
    assert wide.grad is not None and not wide.grad[V:].any() and wide.grad[:V].any()


LOGITS = torch.zeros(B, T, V)
SPARSE = paced.SparseTargets(
    torch.zeros(7, 1, dtype=torch.int64), torch.full((7, 1), -0.5), torch.full((7,), np.log1p(-np.exp(-0.5)))
)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: paced.PacedLoss("kl"), ConfigError, "loss: there is no 'kl'; there are: forward_kl, "),
        (lambda: paced.PacedLoss(reduction="mean"), ConfigError, "neither 'sequence' nor 'token'"),  # type: ignore[arg-type]
        (lambda: paced.PacedLoss(jsd_share=0.5), ConfigError, "no effect with loss 'forward_kl'"),
        (lambda: paced.PacedLoss("jsd", jsd_share=1.0), ConfigError, "1.0 is not between 0 and 1"),
        (lambda: paced.forward_kl(LOGITS, LOGITS, temperature=0), ConfigError, "temperature: 0 is not above 0"),
        (lambda: paced.forward_kl(LOGITS, LOGITS[..., :5]), DataError, "cut padding rows of either off"),
        (lambda: paced.akl(LOGITS, LOGITS[:1]), DataError, "differ in positions"),
        (lambda: paced.jsd(LOGITS, SPARSE), DataError, "of 7 positions, the student has 12"),
        (lambda: paced.akl(LOGITS, SPARSE, temperature=2), ConfigError, "temperature has no effect on stored targets"),
        (lambda: paced.PacedLoss()(LOGITS, LOGITS, MASK[:1]), DataError, "mask"),
        (lambda: paced.PacedLoss()(LOGITS, LOGITS[:1], MASK), DataError, "teacher"),
        (lambda: paced.PacedLoss()(LOGITS, LOGITS, MASK, weights=torch.ones(2)), DataError, "each of 3 sequences"),
        (lambda: paced.PacedLoss(reduction="token")(LOGITS, LOGITS, 0 * MASK), DataError, "no position counts"),
        (
            lambda: paced.forward_kl(LOGITS[0, :1, :5], SPARSE._replace(ids=SPARSE.ids + 9)),
            DataError,
            "of 7 positions, the student has 1",
        ),
        (
            lambda: paced.PacedLoss()(LOGITS[..., :5], SPARSE._replace(ids=SPARSE.ids + 9), MASK),
            DataError,
            "name id 9, the student has 5 ids",
        ),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()
