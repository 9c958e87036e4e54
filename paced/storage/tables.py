"""Schemas of the tables that stages hand to each other: Parquet, flat lists, token ids int32."""

from typing import Any, NotRequired, TypedDict

import pyarrow as pa

Row = dict[str, Any]  # of a table, as pyarrow reads it; its fields are those of the table's schema

_IDS = pa.list_(pa.int32())

PROBLEMS = pa.schema(
    {
        "problem_id": pa.string(),  # stable digest of source and text
        "source": pa.string(),
        "question": pa.string(),
        "prompt": pa.string(),  # JSON: chat messages, or a string that the model reads as it stands
        "gold": pa.string(),
        "solution": pa.string(),  # reference solution for privileged teachers, nullable
        "level": pa.int32(),  # nullable
        "subject": pa.string(),  # nullable
        "choices": pa.list_(pa.string()),  # multiple choice: the continuations to compare; gold is a letter; else null
        "split": pa.string(),
    }
)

# The same of a data set whose recipe names a verifier.
PROBLEMS_WITH_VERIFIER = PROBLEMS.append(pa.field("verifier", pa.string()))

class ProblemRow(TypedDict):
    """A row of PROBLEMS."""

    problem_id: str
    source: str
    question: str
    prompt: str
    gold: str
    solution: str | None
    level: int | None
    subject: str | None
    choices: list[str] | None
    split: str
    verifier: NotRequired[str]  # named by the recipe, in PROBLEMS_WITH_VERIFIER


# Every question of a benchmark's file, used or not.
QUESTIONS = pa.schema({"question": pa.string()})

# Rows of the prompt store: what a tokenizer's chat template writes for chat messages.
PROMPTS = pa.schema({"sample_key": pa.string(), "prompt": pa.string(), "prompt_ids": _IDS})

# Rows of the sample store: responses of one model, its own or the teacher's.
SAMPLES = pa.schema(
    {
        "sample_key": pa.string(),
        "problem_id": pa.string(),
        "sample_index": pa.int32(),
        "prompt_ids": _IDS,
        "response_ids": _IDS,
        "response": pa.string(),
        "tokens": pa.int32(),  # of the response
        "finish": pa.string(),  # stop, length, error
        "engine": pa.string(),
    }
)

# What the rollouts stage adds to the samples it selects.
ROLLOUTS = pa.schema(
    {
        "problem_id": pa.string(),
        "sample_index": pa.int32(),
        "sample_key": pa.string(),
        "part": pa.string(),  # of the sample store
        "tokens": pa.int32(),
        "finish": pa.string(),
        "verdict": pa.string(),  # correct, wrong, unknown
        "extracted": pa.string(),
    }
)

PASS_RATES = pa.schema(
    {
        "problem_id": pa.string(),
        "samples": pa.int32(),
        "correct": pa.int32(),
        "wrong": pa.int32(),
        "unknown": pa.int32(),
        "truncated": pa.int32(),
        "pass_rate": pa.float64(),  # null when no verdict is known
        "low": pa.float64(),
        "high": pa.float64(),
        "raw_weight": pa.float64(),
        "weight": pa.float64(),
    }
)

# Rows of the target store: the teacher's sparse distribution at each position of a response.
TARGETS = pa.schema(
    {
        "sample_key": pa.string(),
        "problem_id": pa.string(),
        "sample_index": pa.int32(),
        "prompt_ids": _IDS,  # the teacher's context
        "response_ids": _IDS,
        "response": pa.string(),
        "entry_count": _IDS,  # one a position
        "entry_ids": _IDS,  # flat, entry_count of them a position
        "entry_logprobs": pa.list_(pa.float16()),
        "tail_logprob": pa.list_(pa.float16()),  # one a position; -inf when nothing is left out
    }
)

# What the teacher stage selects from the target store.
ANSWERS = pa.schema(
    {
        "problem_id": pa.string(),
        "sample_index": pa.int32(),
        "sample_key": pa.string(),  # of the answer, in the sample store
        "target_key": pa.string(),
        "part": pa.string(),  # of the target store
        "tokens": pa.int32(),
        "verdict": pa.string(),
    }
)

# What the diagnose stage measures of each problem.
GRADIENTS = pa.schema(
    {
        "problem_id": pa.string(),
        "pass_rate": pa.float64(),
        "loss": pa.float64(),  # nats; a token's mean, or their sum, as the recipe's reduction has it
        "norm": pa.float64(),  # of the projected gradient
    }
)

# Rows of the likelihood store: log-probability of a continuation behind a prompt.
LIKELIHOODS = pa.schema(
    {
        "sample_key": pa.string(),
        "problem_id": pa.string(),
        "prompt_ids": _IDS,
        "response_ids": _IDS,
        "logprob": pa.float64(),  # summed over the continuation's tokens, nats
    }
)

SCORES = pa.schema(
    {
        "benchmark": pa.string(),
        "problem_id": pa.string(),
        "level": pa.int32(),
        "subject": pa.string(),
        "sample_index": pa.int32(),
        "response": pa.string(),
        "tokens": pa.int32(),
        "finish": pa.string(),  # stop, length, error; scored: a choice compared by log-likelihood
        "verdict": pa.string(),
        "logprobs": pa.list_(pa.float64()),  # of a multiple-choice problem's continuations; else null
    }
)
