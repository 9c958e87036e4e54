"""Self-distillation of a real language model, four problems small: SmolLM2-135M-Instruct."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from harness import finished, paced
from transformers import AutoModelForCausalLM, AutoTokenizer

SUMS = [(2, 3), (4, 5), (10, 7), (6, 6)]


def test_every_stage_on_a_real_model(model: Path, tmp_path: Path, prefect: Mapping[str, str]) -> None:
    data = tmp_path / "problems.jsonl"
    rows = [
        {"question": f"Tom has {a} apples and gets {b} more. How many has he?", "answer": f"{a}+{b}\n#### {a + b}"}
        for a, b in SUMS
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"question": "What is 1 plus 1?", "answer": "1+1=2\n#### 2"}) + "\n")
    changes = [
        f"student.path={model}", f"data.path={data}", f"evaluation.benchmarks.0.data.path={test}", "data.problems=4",
        "rollouts={samples: 2, sampling: {max_new_tokens: 24}}", "weights.shrinkage=[1, 1]", "training.steps=1",
        "training.batch=2", "training.warmup=0", "consolidation.rounds=1", "evaluation.benchmarks.0.data.problems=1",
        "evaluation.sampling.max_new_tokens=24", "runtime.threads=1",
    ]  # fmt: skip
    arguments = ["run", "recipes/smollm2_self.yaml", *(word for c in changes for word in ("--set", c))]
    run = finished(tmp_path / "home", paced(tmp_path / "home", *arguments, env=prefect))

    assert run.stages["0/rollouts"]["counts"]["samples"] == 8
    assert run.stages["paced/0/weights"]["counts"]["kept"] == 4  # shrinkage: eight tosses prove nothing impossible
    trained = Path(run.stages["paced/0/train_reverse_0"]["path"])
    (step,) = (json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines())
    # The teacher reads the solution, the student does not: two distributions, so a divergence above zero.
    assert step["step"] == 1 and step["kl_per_token"] > 1e-3

    folder = trained / "model"
    student, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert student.dtype == torch.bfloat16
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    batch = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = student.generate(**batch, max_new_tokens=16, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True).strip()
