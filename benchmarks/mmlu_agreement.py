"""Compare MMLU as stage 'evaluate' scores it with EleutherAI's lm-evaluation-harness, question by question.

    python -m venv LMEVAL && LMEVAL/bin/pip install torch==2.13.0 'transformers<5.20' "lm-eval[hf]==0.4.13"
    python benchmarks/mmlu_agreement.py mmlu_csv.zip MODEL --harness LMEVAL/bin/lm_eval --subject abstract_algebra \
        --shots 0 --work FOLDER

The harness gets the same questions through a task of its own (task.yaml in FOLDER: the prompt of its task ``mmlu``)
from JSON files that this script writes with Python's csv module, not with paced. Prints one line of JSON; exit status
1 if any prediction differs. Both sides run on the CPU in float32.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from paced.config import Data, Model, Runtime, Sampling
from paced.config.stages import EvaluateConfig
from paced.data.problems import problems_of
from paced.data.spec import prepare_spec
from paced.stage import execute, spec_of
from paced.storage.artifacts import open_file
from paced_tasks.run import model_ref

CHAT = {True: ["--apply_chat_template"], False: []}
TEXT = {
    "letters": (
        "{{question.strip()}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\nD. {{choices[3]}}"
        "\\nAnswer:",
        '["A", "B", "C", "D"]',
        "multiple choice questions",
    ),
    "texts": ("Question: {{question.strip()}}\\nAnswer:", '"{{choices}}"', "questions"),
}


def export(archive: Path, subject: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The subject's dev and test questions as JSON lines in the hub's layout."""
    splits: dict[str, list[dict[str, Any]]] = {}
    with zipfile.ZipFile(archive) as z:
        for split in ("dev", "test"):
            name = next(n for n in z.namelist() if n.endswith(f"/{subject}_{split}.csv"))
            rows = csv.reader(io.TextIOWrapper(z.open(name), encoding="utf-8", newline=""))
            splits[split] = [
                {"question": q, "choices": choices, "answer": "ABCD".index(a)} for q, *choices, a in map(list, rows)
            ]
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in splits[split]]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return splits


def harness(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The harness's samples, in the order of the file."""
    text, choices, kind = TEXT[arguments.score]
    about = arguments.subject.replace("_", " ")
    (folder / "task.yaml").write_text(
        f"""task: mmlu_local
dataset_path: json
dataset_kwargs:
  data_files:
    dev: {folder.absolute()}/dev.jsonl
    test: {folder.absolute()}/test.jsonl
test_split: test
fewshot_split: dev
fewshot_config:
  sampler: first_n
output_type: multiple_choice
description: "The following are {kind} (with answers) about {about}.\\n\\n"
doc_to_text: "{text}"
doc_to_choice: {choices}
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
    )
    command = [
        str(arguments.harness), "run", "--model", "hf", "--model_args", f"pretrained={arguments.model},dtype=float32",
        "--tasks", "mmlu_local", "--include_path", str(folder), "--num_fewshot", str(arguments.shots),
        "--device", "cpu", "--batch_size", "8", "--log_samples", "--output_path", str(folder / "harness"),
        *CHAT[arguments.chat],
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    # Its own environment: no PYTHONPATH of ours.
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, env=clean | offline, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    file = sorted((folder / "harness").rglob("samples_mmlu_local_*.jsonl"))[-1]
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted(samples, key=lambda s: s["doc_id"])


def ours(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Our answer and likelihoods by question and choices."""
    data = Data(
        source="mmlu",
        path=str(arguments.archive),
        subjects=(arguments.subject,),
        shots=arguments.shots,
        chat=arguments.chat,
        score=arguments.score,
    )
    runtime, home = Runtime(device="cpu", threads=1, part_problems=32), str(folder.absolute() / "home")

    def quiet(event: dict[str, Any]) -> None:
        pass

    problems = execute(prepare_spec(home, data, 0, "mmlu", {}, None, runtime), quiet)
    config = EvaluateConfig(
        dtype="float32", thinking=None, trust_remote_code=False, samples={}, sampling=Sampling(), seed=0
    )
    inputs = {"model": model_ref(Model(path=str(arguments.model))), "benchmark/mmlu": problems}
    scores = execute(spec_of(config, home=home, inputs=inputs, runtime=runtime), quiet)
    rows = {r["problem_id"]: r for r in pq.read_table(open_file(scores, "scores.parquet")).to_pylist()}
    return {json.dumps([p["prompt"], p["question"]]): rows[p["problem_id"]] | p for p in problems_of(problems)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--harness", type=Path, required=True)
    parser.add_argument("--subject", default="abstract_algebra")
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--score", choices=sorted(TEXT), default="letters")
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    folder: Path = arguments.work
    folder.mkdir(parents=True, exist_ok=True)
    export(arguments.archive, arguments.subject, folder)
    mine = ours(arguments, folder)
    theirs = harness(arguments, folder)
    same = right = wrong = 0
    largest = 0.0
    by_question: dict[str, list[dict[str, Any]]] = {}
    for row in mine.values():
        by_question.setdefault(row["question"], []).append(row)
    for sample in theirs:
        logprobs = [float(pair[0][0] if isinstance(pair[0], list) else pair[0]) for pair in sample["resps"]]
        letter = "ABCD"[logprobs.index(max(logprobs))]
        gold = "ABCD"[sample["doc"]["answer"]]
        # a repeated question has one of its rows taken each time
        candidates = by_question[sample["doc"]["question"].strip()]
        row = next(
            (r for r in candidates if r["gold"] == gold and r["logprobs"] and close(r["logprobs"], logprobs)), None
        )
        row = row or candidates[0]
        candidates.remove(row)
        largest = max([largest, *(abs(a - b) for a, b in zip(row["logprobs"], logprobs, strict=True))])
        same += row["response"] == letter
        right += letter == gold
        wrong += row["verdict"] == "correct"
    result = {
        "subject": arguments.subject, "shots": arguments.shots, "chat": arguments.chat, "score": arguments.score,
        "questions": len(theirs), "same_predictions": same, "harness_correct": right, "paced_correct": wrong,
        "largest_logprob_difference": round(largest, 6),
    }  # fmt: skip
    print(json.dumps(result))
    return 0 if same == len(theirs) == len(mine) else 1


def close(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) < 1e-2 for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    sys.exit(main())
