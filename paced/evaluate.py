"""Stage 'evaluate': k samples a problem on every benchmark, verified (method section 9)."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from paced.config import Model, Precision, Sampling
from paced.models import Tokenizer
from paced.problems import problems_of
from paced.samples import Sampler, model_folder
from paced.stage import Job
from paced.statistics import summary
from paced.tables import SCORES


class Config(BaseModel):
    """Identity-relevant configuration of the stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    samples: int
    sampling: Sampling
    seed: int
    dtype: Precision
    trust_remote_code: bool = False


def evaluate(job: Job) -> None:
    """Inputs: model, ``benchmark/NAME`` problem sets. Files: scores.parquet, evaluation.json."""
    config = Config.model_validate(job.spec.config)
    ref = job.input("model")
    folder = model_folder(ref)
    tokenizer = Tokenizer(folder, config.trust_remote_code)
    model = Model(path=str(folder), dtype=config.dtype, trust_remote_code=config.trust_remote_code)
    sampler = Sampler(job, ref, model, tokenizer, config.sampling, config.seed)
    table: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    for name in sorted(name for name in job.spec.inputs if name.startswith("benchmark/")):
        benchmark = name.partition("/")[2]
        wanted = []
        for problem in problems_of(job.input(name)):
            prompt_ids = tokenizer.prompt(problem["prompt"])
            wanted += [sampler.wanted(problem, i, prompt_ids) for i in range(config.samples)]
        parts = sampler.ensure(wanted, f"evaluation on {benchmark}")
        levels = [w.problem["level"] for w in wanted]
        rows = [
            {"benchmark": benchmark, "level": level, **{n: row[n] for n in SCORES.names if n in row}}
            for level, row in zip(levels, sampler.graded(wanted, parts), strict=True)
        ]
        result[benchmark] = summary(rows) | {
            "by_level": {
                str(level): summary([r for r in rows if r["level"] == level])
                for level in sorted({x for x in levels if x is not None})
            }
        }
        table += rows
        job.counts[f"{benchmark}/truncated"] = result[benchmark].get("truncated", 0.0)
    job.write("scores.parquet", table, SCORES)
    job.write_json("evaluation.json", result)
    job.counts |= {"samples": len(table), "tokens": sum(r["tokens"] for r in table)}
