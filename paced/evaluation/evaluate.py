"""Stage 'evaluate': k samples a problem on every benchmark, verified; multiple choice by log-likelihood (section 9)."""

from collections.abc import Sequence
from typing import Any

from paced.config.stages import EvaluateConfig
from paced.data.problems import problems_of
from paced.models import Tokenizer
from paced.sampling.likelihoods import Chooser
from paced.sampling.sampler import Sampler
from paced.stage import Job
from paced.statistics import summary
from paced.storage.artifacts import model_folder
from paced.storage.tables import SCORES, ProblemRow, Row


def evaluate(job: Job) -> None:
    """Inputs: model, ``benchmark/NAME`` problem sets. Files: scores.parquet, evaluation.json."""
    config = EvaluateConfig.model_validate(job.spec.config)
    ref = job.input("model")
    folder = model_folder(ref)
    tokenizer = Tokenizer(folder, config.trust_remote_code, config.thinking)
    sampler = Sampler(job, ref, config.model(folder), tokenizer, config.sampling, config.seed)
    about = {key: sampler.about[key] for key in ("model", "dtype", "tokens")} | tokenizer.bound
    chooser = Chooser(job, about, tokenizer, lambda: sampler.model)
    table: list[Row] = []
    result: dict[str, Any] = {}
    benchmarks = {name: problems_of(ref) for name, ref in sorted(job.inputs("benchmark").items())}
    # Sampling first: an engine with memory of its own gives it back before likelihoods need the model here.
    for benchmark in sorted(benchmarks, key=lambda b: (bool(benchmarks[b][0]["choices"]), b)):
        problems = benchmarks[benchmark]
        if problems[0]["choices"]:
            rows = [
                {"problem_id": p["problem_id"], "level": p["level"], "subject": p["subject"], "sample_index": 0} | row
                for p, row in zip(problems, chooser.answers(problems, f"evaluation on {benchmark}"), strict=True)
            ]
        else:
            rows = sampled(sampler, problems, config.samples[benchmark], f"evaluation on {benchmark}")
        rows = [{"benchmark": benchmark} | {n: row[n] for n in SCORES.names if n in row} for row in rows]
        result[benchmark] = summary(rows) | {f"by_{kind}": summaries(rows, kind) for kind in ("level", "subject")}
        table += rows
        job.counts[f"{benchmark}/truncated"] = result[benchmark].get("truncated", 0.0)
    job.write("scores.parquet", table, SCORES)
    job.write_json("evaluation.json", result)
    job.counts |= {"samples": len(table), "tokens": sum(r["tokens"] for r in table)}


def sampled(sampler: Sampler, problems: Sequence[ProblemRow], samples: int, what: str) -> list[Row]:
    """``samples`` graded responses to each problem, with the problem's level and subject."""
    wanted = sampler.wanted(problems, samples)
    graded = sampler.graded(wanted, sampler.ensure(wanted, what))
    return [
        row | {"level": w.problem["level"], "subject": w.problem["subject"]}
        for w, row in zip(wanted, graded, strict=True)
    ]


def summaries(rows: Sequence[Row], kind: str) -> dict[str, dict[str, float]]:
    """The summary of each level, or subject, that rows have."""
    values = sorted({r[kind] for r in rows if r[kind] is not None})
    return {str(value): summary([r for r in rows if r[kind] == value]) for value in values}
