"""MATH-500, AIME and MMLU, a few problems of each, through the real stages with a real model, SmolLM2-135M-Instruct."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from harness import ROOT, need
from transformers import AutoModelForCausalLM, AutoTokenizer

from paced.config import Evaluation, Model, Recipe
from paced.data.problems import problems_of
from paced.stage import execute
from paced.storage.artifacts import Ref
from paced_tasks.evaluate import compare, evaluate
from paced_tasks.prepare import prepare
from paced_tasks.run import Run, model_ref

DATA = ROOT.parent / "shared" / "data"


def recipe(model: Path) -> Recipe:
    def benchmark(name: str, file: str, problems: int, **more: Any) -> dict[str, Any]:
        retention = {"retention": True} if more.get("source") == "mmlu" else {}
        samples = {"samples": more.pop("samples")} if "samples" in more else {}
        data = {"source": "math", "path": str(DATA / file), "problems": problems, "seed": 0} | more
        return {"name": name, "data": data} | samples | retention

    evaluation = {
        "samples": 1,
        "sampling": {"preset": "paper", "max_new_tokens": 12},
        "benchmarks": [
            benchmark("math500", "math500_test.jsonl", 2),
            benchmark("aime24", "aime24_test.jsonl", 1, samples=2, max_characters=400),
            benchmark("mmlu", "mmlu_csv.zip", 4, source="mmlu", subjects=["astronomy", "virology"]),
        ],
    }
    return Recipe(
        name="trial",
        data={"source": "math", "path": str(DATA / "dsr_sub_train.parquet")},  # pyright: ignore
        student=Model(path=str(model)),
        evaluation=Evaluation.model_validate(evaluation),
        runtime={"device": "cpu", "threads": 1, "part_problems": 4},  # pyright: ignore
    )


def build(task: Any, run: Run, **arguments: Any) -> Ref:
    return execute(task.cache_policy.build(run, "", **arguments), lambda event: None)


def test_the_papers_benchmarks_on_a_real_model(model: Path, tmp_path: Path) -> None:
    need(DATA.is_dir(), f"the original data sets are not in {DATA}")
    run = Run(name="trial", home=str(tmp_path), recipe=recipe(model))
    sets = {
        b.name: build(prepare, run, data=b.data, seed=0, split=b.name, exclude={})
        for b in run.recipe.evaluation.benchmarks
    }
    base = build(evaluate, run, model=model_ref(run.recipe.student), benchmarks=sets)
    found = json.loads((base.folder / "evaluation.json").read_text())
    assert {n: (b["problems"], b["samples"], b["k"]) for n, b in found.items()} == {
        "math500": (2, 2, 1), "aime24": (1, 2, 2), "mmlu": (4, 4, 1),
    }  # fmt: skip
    assert found["math500"]["truncated"] > 0 and found["math500"]["mean_tokens"] <= 12
    assert set(found["mmlu"]["by_subject"]) == {"astronomy", "virology"}

    rows = pq.read_table(base.folder / "scores.parquet").to_pylist()
    answers = {r["problem_id"]: r for r in rows if r["benchmark"] == "mmlu"}
    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    for p in problems_of(sets["mmlu"])[:2]:
        ids = tokenizer(json.loads(p["prompt"]), add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logprobs = network(ids).logits[0, -1].log_softmax(-1)
        letters = [tokenizer(f" {letter}", add_special_tokens=False)["input_ids"] for letter in "ABCD"]
        assert all(len(letter) == 1 for letter in letters)
        expected = [float(logprobs[letter[0]]) for letter in letters]
        row = answers[p["problem_id"]]
        assert row["logprobs"] == pytest.approx(expected, abs=2e-4)
        assert row["response"] == "ABCD"[expected.index(max(expected))]
        assert row["verdict"] == ("correct" if row["response"] == p["gold"] else "wrong")

    result = build(compare, run, scores={"base/0": base, "paced/0": base})
    compared = json.loads((result.folder / "comparison.json").read_text())
    assert {c["metric"] for c in compared["comparisons"]} == {"accuracy", "math500", "aime24", "retention"}
    assert all(c["difference"] == 0 for c in compared["comparisons"])
