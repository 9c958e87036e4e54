"""Targets captured while vLLM draws SmolLM2's answers, against those of the forward pass over them, both in fp32."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from harness import ROOT, contents, kill_at, vllm_python

from paced.config import Model
from paced.config.reading import load_recipe
from paced.losses.targets import ENTRIES, Sparse, encode
from paced.models import load_model, projection, response_hidden
from paced.sampling.engines.vllm import LIKELIEST
from paced.stage import Spec, execute
from paced.storage.artifacts import Ref, read_manifest
from paced_tasks.prepare import prepare
from paced_tasks.rollouts import rollouts
from paced_tasks.run import Run, model_ref
from paced_tasks.teacher import teacher_answers
from paced_tasks.weights import weights

FLOOR, LIMIT = 0.001, 40
CLOSE = 1e-4  # two kernels' probabilities, relative: nearer to the floor than this, an id may be an entry or not
NUMBERS = [(2, 3), (4, 5), (10, 7), (6, 6), (8, 1), (9, 4), (5, 5), (3, 12)]


def stage(home: Path, model: Path) -> Spec:
    """The teacher's stage over eight problems, four a part, after the stages that it needs."""
    vllm_python()
    home.mkdir(parents=True)
    rows = [{"question": f"What is {a} plus {b}?", "answer": f"{a}+{b}\n#### {a + b}"} for a, b in NUMBERS]
    (home / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = (
        f"student={{path: {model}, dtype: float32}}", "decontamination.enabled=false",
        f"teacher={{path: {model}, privileged: true, engine: {{kind: vllm}}}}", "data.problems=8",
        f"data.path={home}/problems.jsonl", f"evaluation.benchmarks.0.data.path={home}/problems.jsonl",
        f"answers={{capture: true, keep: all, samples: 2, floor: {FLOOR}, sampling: {{temperature: 0.7, top_p: 0.9, "
        f"max_new_tokens: {LIMIT}}}}}",
        "rollouts={samples: 2, sampling: {max_new_tokens: 2}}", "runtime.part_problems=4", "runtime.threads=1",
        "arms=[{name: uniform, scheme: uniform, schedule: forward}]",
    )  # fmt: skip
    recipe = load_recipe(ROOT / "recipes" / "smollm2_self.yaml", changes)
    run = Run(name="capture", home=str(home), recipe=recipe)

    def spec(task: Any, **arguments: Any) -> Spec:
        return task.cache_policy.build(run, task.__name__, **arguments)

    def made(task: Any, **arguments: Any) -> Ref:
        return execute(spec(task, **arguments), lambda event: None)

    ref = model_ref(recipe.student)
    problems = made(prepare, data=recipe.data, seed=0, split="train", exclude={})
    weighed = made(
        weights, scheme="uniform", settings=recipe.weights,
        rollouts=made(rollouts, seed=0, problems=problems, model=ref),
    )  # fmt: skip
    return spec(teacher_answers, seed=0, problems=problems, weights=weighed, teacher=ref, student=ref)


def stored(home: Path) -> list[dict[str, Any]]:
    """The targets, in the order of their keys."""
    files = sorted(home.glob("store/targets/*/*.parquet"))
    return sorted((row for file in files for row in pq.read_table(file).to_pylist()), key=lambda r: r["sample_key"])


def half(logp: float) -> float:
    """What a probability is off by when its logarithm is off by the last bit of half precision."""
    return 2.0**-10 * -logp * np.exp(logp)


@torch.inference_mode()
def test_captured_targets_are_those_of_the_forward_pass(model: Path, tmp_path: Path) -> None:
    """Killed between the targets and the answers of its second part; resumed, each answer has its targets.

    Of 10,974 entries 10,971 had the same bits; the others, one rounding step between them, are why the bound is one.
    """
    home = tmp_path / "home"
    spec = stage(home, model)
    kill_at(spec, "paced.storage.store:write_record", 7, within=400)
    committed = {p: d for p, d in contents(home / "store").items() if p.startswith("targets")}
    assert len(stored(home)) > 8
    ref = execute(spec, lambda event: None)
    assert committed.items() <= {p: d for p, d in contents(home / "store").items() if p.startswith("targets")}.items()

    counts = read_manifest(ref.folder).counts
    assert (counts["samples"], counts["reused"], counts["computed"]) == (16, 8, 8)
    assert 0 < counts["scored"] < 8
    answers = pq.read_table(ref.folder / "answers.parquet").to_pylist()
    rows = {row["sample_key"]: row for row in stored(home)}
    rows = {a["target_key"]: rows[a["target_key"]] for a in answers}
    lengths = {len(r["response_ids"]) for r in rows.values()}
    assert LIMIT in lengths and min(lengths) < LIMIT  # cut off by the limit, and ended
    # Of the answer that is scored: so many ids reach the floor that the likeliest ones do not settle it.
    assert max(max(row["entry_count"]) for row in rows.values()) >= LIKELIEST

    own = load_model(model, Model(path=str(model)), torch.device("cpu"))
    same = total = 0
    for row in rows.values():
        ids = row["response_ids"]
        if len(ids) < LIMIT:
            assert ids[-1] == own.generation_config.eos_token_id
        logits = projection(own, 49152).logits(response_hidden(own, [row["prompt_ids"]], [ids]))
        p = logits.double().softmax(-1).numpy()
        captured = Sparse(*(np.array(row[name], kind) for name, kind in ENTRIES.items()))
        scored = encode(logits, torch.tensor(ids), FLOOR)
        assert len(captured.counts) == len(captured.tail) == len(ids)
        ends = [np.cumsum([0, *s.counts]) for s in (captured, scored)]
        for t, token in enumerate(ids):
            a, b = (
                dict(zip(s.ids[e[t] : e[t + 1]].tolist(), s.logprobs[e[t] : e[t + 1]].astype(float), strict=True))
                for s, e in zip((captured, scored), ends, strict=True)
            )
            assert list(a) == sorted(a) and token in a
            border = a.keys() ^ b.keys()
            assert all(abs(p[t, i] / FLOOR - 1) < CLOSE for i in border)
            for i in a.keys() & b.keys():
                total, same = total + 1, same + (a[i] == b[i])
                assert abs(np.exp(a[i]) - np.exp(b[i])) <= FLOOR / 2 + half(b[i])
            u, v = (float(s.tail[t]) for s in (captured, scored))
            assert np.isfinite(u)
            assert abs(np.exp(u) - np.exp(v)) <= 1e-5 + half(v) + sum(p[t, i] for i in border)
    assert same / total > 0.99
