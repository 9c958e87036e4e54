"""Benchmarks, and how students are judged on them. Imports no torch."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from paced.config.base import PositiveInt, Section, Seed
from paced.config.data import Data
from paced.config.sampling import Sampling


class Benchmark(Section):
    """A set of problems the students are judged on; ``retention`` marks one that measures forgetting."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    data: Data
    retention: bool = False
    samples: PositiveInt | None = Field(default=None, description="k here; evaluation.samples if not set.")

    @model_validator(mode="after")
    def _effective(self) -> Self:
        if self.data.record.choices and self.samples is not None:
            raise ValueError(
                f"samples has no effect with source '{self.data.source}', which is judged without sampling: remove it"
            )
        return self


class Evaluation(Section):
    """Stage 'evaluate': k samples a problem on every benchmark, or the log-likelihoods of its choices (mmlu)."""

    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)
    samples: PositiveInt = Field(default=4, description="k: samples a problem, where a benchmark sets none.")
    sampling: Sampling = Sampling(temperature=0.7)
    seed: Seed = 0

    @model_validator(mode="after")
    def _fixed(self) -> Self:
        names = [b.name for b in self.benchmarks]
        if len(set(names)) < len(names):
            raise ValueError(f"benchmarks repeat a name: {', '.join(names)}")
        if "train" in names:
            raise ValueError("benchmarks cannot have the name 'train', which is that of the data to train on")
        if all(b.retention for b in self.benchmarks):
            raise ValueError("benchmarks need one that is not a retention benchmark")
        several = [b.name for b in self.benchmarks if not b.data.record.choices and (b.samples or self.samples) > 1]
        if self.sampling.top_k == 1 and several:
            raise ValueError(
                f"samples of benchmark {several[0]} must be 1 with top_k 1 (greedy), which draws the same response "
                "every time"
            )
        return self
