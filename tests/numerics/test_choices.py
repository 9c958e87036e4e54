"""Multiple choice by log-likelihood: against a plain forward pass a continuation, and resumed after a kill."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from paced.config import Runtime
from paced.errors import DataError
from paced.losses import Projection
from paced.models import Tokenizer
from paced.sampling.likelihoods import Choice, Chooser, log_normaliser, split_ids
from paced.stage import Job, Spec

ABOUT = {"model": "sha256:x", "dtype": "float32", "tokens": "sha256:y"}


def problem(name: str, prompt: str, choices: list[str], gold: str = "A") -> dict[str, Any]:
    return {"problem_id": name, "question": prompt, "prompt": json.dumps(prompt), "choices": choices, "gold": gold}


# One token, several, of different lengths, one the beginning of another; prompts of different lengths.
PROBLEMS = [
    problem("sums", "12+30=", ["+", "-", "#", "*"], "A"),
    problem("words", "50+92+30=", ["+92=42;+30=72;#72", "+92=42;+30=72;#7", "#72", "+92=43;+30=73;#73"]),
    problem("letters", "geggfg>", ["#efgggg", "#gggg", "#"], "B"),
]


def chooser(home: Path, model: PreTrainedModel, tokens: Tokenizer, part: int = 2) -> Chooser:
    job = Job(Spec(stage="evaluate", home=str(home), runtime=Runtime(part_problems=part)), lambda event: None)
    return Chooser(job, ABOUT, tokens, lambda: model)


def brute_force(model: PreTrainedModel, tokens: Tokenizer, prompt: str, continuation: str) -> float:
    """One sequence at a time, the model's own logits, every token's log-softmax in float64."""
    first, whole = tokens.encode(prompt), tokens.encode(prompt + continuation)
    with torch.no_grad():
        logits = model(torch.tensor([whole])).logits[0].double()[:, : tokens.size]
    return float(sum(logits[i - 1].log_softmax(-1)[whole[i]] for i in range(len(first), len(whole))))


def test_likelihoods_are_those_of_a_plain_forward_pass(
    model: PreTrainedModel, tokens: Tokenizer, tmp_path: Path
) -> None:
    rows = chooser(tmp_path, model, tokens).answers(PROBLEMS, "test")
    for p, row in zip(PROBLEMS, rows, strict=True):
        expected = [brute_force(model, tokens, p["question"], c) for c in p["choices"]]
        assert row["logprobs"] == pytest.approx(expected, abs=2e-5)
        best = "ABCD"[max(range(len(expected)), key=lambda i: expected[i])]
        assert (row["response"], row["verdict"]) == (best, "correct" if best == p["gold"] else "wrong")
    assert {r["verdict"] for r in rows} == {"correct", "wrong"}


def test_continuations_of_one_token_share_a_forward_pass(
    model: PreTrainedModel, tokens: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = model.base_model.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        seen.append(int((kwargs["input_ids"] != 0).any(1).sum()))  # rows filled with zeros are nobody's
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.base_model, "forward", counting)
    chooser(tmp_path, model, tokens).answers(PROBLEMS[:1], "test")
    assert seen == [1]


def test_the_prompts_of_one_part_are_in_memory(
    model: PreTrainedModel, tokens: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, held = chooser(tmp_path, model, tokens, part=1), list[int]()
    score = one._score

    def counting(choices: Any) -> Any:
        held.append(sum(isinstance(thing, Choice) for thing in gc.get_objects()))
        return score(choices)

    monkeypatch.setattr(one, "_score", counting)
    one.answers(PROBLEMS, "test")
    assert held == [len(p["choices"]) for p in PROBLEMS]


def test_a_killed_stage_computes_only_what_is_missing(
    model: PreTrainedModel, tokens: Tokenizer, tmp_path: Path
) -> None:
    whole = chooser(tmp_path / "whole", model, tokens).answers(PROBLEMS, "test")
    killed = chooser(tmp_path, model, tokens, part=1)
    score, calls = killed._score, 0

    def dying(choices: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return score(choices)

    killed._score = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        killed.answers(PROBLEMS, "test")
    resumed = chooser(tmp_path, model, tokens, part=1)
    assert [r["logprobs"] for r in resumed.answers(PROBLEMS, "test")] == [
        pytest.approx(r["logprobs"], abs=2e-5) for r in whole
    ]
    assert resumed.job.counts == {"computed": 3, "reused": 8}  # the third problem's, and the two before it
    again = Chooser(resumed.job, ABOUT, tokens, lambda: pytest.fail("the model is not needed"))
    assert again.answers(PROBLEMS, "test") == resumed.answers(PROBLEMS, "test")


def test_a_continuation_is_split_off_where_both_are_one_text() -> None:
    # A toy tokenizer whose words have their space in front: "a b" is two words, and "a " has a word of its own.
    def encode(text: str) -> list[int]:
        words = text.replace(" ", " _").split(" ")
        return [sum(map(ord, w)) for w in words]

    prompt, response = split_ids(encode, "say ", "yes")
    assert encode("say") == prompt
    assert encode("say yes") == prompt + response


def test_what_a_tokenizer_puts_in_front_is_there_once(
    model: PreTrainedModel, tokens: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lm-evaluation-harness has it; a chat template may have written it already."""
    begin = tokens.encode("#")
    monkeypatch.setattr(tokens, "begins", begin)
    one = chooser(tmp_path, model, tokens)
    for prompt in ("12+30=", "#12+30="):
        choice = one._choice(problem("sums", prompt, []), prompt, "42")  # type: ignore[arg-type]
        assert (choice.prompt_ids, choice.response_ids) == (tokens.encode("#12+30="), tokens.encode("42"))


def test_normaliser_in_chunks_and_low_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paced.sampling.likelihoods.COLUMNS", 3)
    hidden, weight = torch.randn(5, 4), torch.randn(10, 4).bfloat16()
    expected = (hidden.double() @ weight.double().T).logsumexp(-1)
    torch.testing.assert_close(
        log_normaliser(hidden, Projection(weight, len(weight))).double(), expected, atol=1e-6, rtol=1e-6
    )


def test_a_prompt_too_long_or_empty_is_refused(model: PreTrainedModel, tokens: Tokenizer, tmp_path: Path) -> None:
    answers = chooser(tmp_path, model, tokens).answers
    with pytest.raises(DataError, match="exceeds the context of 96"):
        answers([problem("long", "1+" * 48 + "=", ["#1", "#2"])], "test")
    with pytest.raises(DataError, match="prompt and choices must not be empty"):
        answers([problem("empty", "1+1=", ["", "#2"])], "test")
