"""The diagnosis on the tiny world: gradients are those that training takes, whatever they are computed beside."""

import pytest
import torch
from harness import Chain, contents

from paced.diagnose import Config, Sketch, gradient, objective_of
from paced.models import Tokenizer, load_model
from paced.objectives import Student, coefficients, denominator
from paced.stage import Job, Spec, execute


@pytest.fixture(scope="module")
def spec(chain: Chain) -> Spec:
    return chain.specs["diagnose"]


def test_gradients_do_not_depend_on_parts(spec: Spec, chain: Chain) -> None:
    """Other parts, other rows sampled at once: the same bytes."""
    (once := chain.refs["diagnose"]).folder.rename(aside := once.folder.with_name("aside"))
    again = execute(spec.model_copy(update={"runtime": spec.runtime.model_copy(update={"part_problems": 33})}), print)
    assert contents(again.folder) == contents(aside)


def test_gradients_sum_to_that_of_a_training_step(spec: Spec) -> None:
    """Sixteen problems in two padded micro-batches, as a step takes them, and one by one."""
    config, job = Config.model_validate(spec.config), Job(spec, lambda event: None)
    folder = spec.inputs["model"].folder
    tokenizer, device = Tokenizer(folder), torch.device("cpu")
    from paced.config import Model

    model = load_model(folder, Model(path=str(folder)), device)
    student = Student(model, tokenizer.size, "float32")
    rates = job.table("weights", "pass_rates.parquet")["problem_id"]
    objective = objective_of(job, config, tokenizer, dict.fromkeys(rates, 1.0), device)
    sketch = Sketch(512, 0)
    alone = [gradient(student, objective, item, "sequence", sketch) for item in range(16)]

    samples = [objective.sample(item, 0) for item in range(16)]
    whole = denominator(samples, "sequence")
    for batch in (samples[:9], samples[9:]):
        shares = torch.tensor(coefficients(batch, whole, "sequence"))
        student(batch, shares, objective.divergence(batch))[0].backward()
    step = sketch([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(torch.stack([g for g, _ in alone]).mean(0), step, atol=1e-6, rtol=1e-4)
