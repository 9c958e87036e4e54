"""Stage 'rollouts': sample a model on problems and verify each response.

It serves pass rates (G samples of every problem), the second stage's on-policy samples (one sample of the problems the
next steps will draw), and nothing else knows the difference.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from paced.batching import draws
from paced.config.stages import RolloutsConfig
from paced.data.problems import problems_of
from paced.models import Tokenizer
from paced.sampling.sampler import Sampler
from paced.stage import Job
from paced.storage.artifacts import model_folder
from paced.storage.tables import ROLLOUTS, ProblemRow, Row


def kept_problems(job: Job) -> list[ProblemRow]:
    """The problems of positive weight, in the order of the weights table; the population that draws are made from."""
    return kept_with_weights(job)[0]


def kept_with_weights(job: Job) -> tuple[list[ProblemRow], NDArray[np.float64]]:
    """The same problems, and the weight of each, [N]."""
    by_id = {p["problem_id"]: p for p in problems_of(job.input("problems"))}
    table = job.table("weights", "pass_rates.parquet", ["problem_id", "weight"])
    weights = table["weight"].to_numpy(float)
    kept = weights > 0
    return [by_id[i] for i in table["problem_id"].to_numpy()[kept].tolist()], weights[kept]


def rollouts(job: Job) -> None:
    """Inputs: problems, model and, with ``draw``, weights. Files: rollouts.parquet, samples.json."""
    config = RolloutsConfig.model_validate(job.spec.config)
    if config.draw:
        population, weights = kept_with_weights(job)
        chances = weights if config.draw.by_weight else None
        drawn = draws(len(population), config.draw.seed, config.draw.start, config.draw.number, chances)
        problems = [population[i] for i in dict.fromkeys(i for i, _ in drawn)]
    else:
        problems = problems_of(job.input("problems"))[: config.first]
    ref = job.input("model")
    folder = model_folder(ref)
    tokenizer = Tokenizer(folder, config.trust_remote_code, config.thinking)
    sampler = Sampler(job, ref, config.model(folder), tokenizer, config.sampling, config.seed)
    wanted = sampler.wanted(problems, config.samples)
    parts = sampler.ensure(wanted, "rollouts")
    counts = {
        "problems": len(problems),
        "samples": len(wanted),
        **dict.fromkeys(("tokens", "truncated", "correct", "unknown"), 0),
    }

    def rows() -> Iterator[Row]:
        for row in sampler.graded(wanted, parts):
            counts["tokens"] += row["tokens"]
            counts["truncated"] += row["finish"] == "length"
            for verdict in ("correct", "unknown"):
                counts[verdict] += row["verdict"] == verdict
            yield {name: row[name] for name in ROLLOUTS.names}

    job.write("rollouts.parquet", rows(), ROLLOUTS)
    job.write_json("samples.json", sampler.about)
    job.counts |= counts
