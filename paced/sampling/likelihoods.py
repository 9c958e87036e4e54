"""Multiple choice judged by log-likelihood: the continuation a model finds most probable is its answer.

log p(continuation | prompt) = sum over its tokens of log-softmax over the V ids the tokenizer knows; nothing is
sampled. The likelihoods are kept in a store by model, prompt and continuation, part by part, so that a killed stage
resumes. Shapes: B sequences, T tokens, N scored positions, V ids.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from paced.data.layouts import LETTERS
from paced.errors import DataError
from paced.losses import Projection
from paced.models import Tokenizer, check_length, projection
from paced.models.scoring import chunks, scored
from paced.sampling.prompts import PromptStore
from paced.stage import Job
from paced.storage.store import Collection, sample_key
from paced.storage.tables import LIKELIHOODS, ProblemRow, Row

COLUMNS = 16_384  # rows of the output matrix held in float32 at once


class Choice(NamedTuple):
    """One continuation to score behind a prompt."""

    problem: str
    prompt_ids: list[int]
    response_ids: list[int]
    key: str


def split_ids(encode: Callable[[str], list[int]], prompt: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of a continuation as they are when both are written as one text.

    White space at the prompt's end belongs to the continuation, as the tokenizers' words have it in front
    (lm-evaluation-harness does the same).
    """
    bare = prompt.rstrip()
    continuation, prompt = prompt[len(bare) :] + continuation, bare
    whole, first = encode(prompt + continuation), encode(prompt)
    return whole[: len(first)], whole[len(first) :]


class Chooser:
    """Answers multiple-choice problems with one model.

    Args:
        about: what makes the model's likelihoods its own: identity, dtype, token map.
        model: called when the first likelihood is missing from the store.
    """

    def __init__(self, job: Job, about: dict[str, Any], tokenizer: Tokenizer, model: Callable[[], PreTrainedModel]):
        self.job, self.about, self.tokenizer = job, about, tokenizer
        self.collection = Collection(job.home, "likelihoods", about, LIKELIHOODS, tokenizer.token_map)
        self._prompts, self._load = PromptStore(job.home, tokenizer), model

    @functools.cached_property
    def model(self) -> PreTrainedModel:
        return self._load()

    def answers(self, problems: Sequence[ProblemRow], what: str) -> list[Row]:
        """One row of scores a problem: the letter it answers, its verdict, the likelihoods, in order."""
        # Keys only: the prompts of all choices would be most of the memory, so they are encoded again to be scored.
        prompts = self._prompts.texts(p["prompt"] for p in problems)
        keys = [
            [self._choice(p, prompt, text).key for text in p["choices"] or ()]
            for p, prompt in zip(problems, prompts, strict=True)
        ]
        size, index = self.job.runtime.part_problems, self.collection.refresh()
        parts = [
            {
                key: (p, text)
                for p, own in zip(problems[start : start + size], keys[start : start + size], strict=True)
                for text, key in zip(p["choices"] or (), own, strict=True)
            }
            for start in range(0, len(problems), size)
        ]
        missing = [part for part in parts if not part.keys() <= index.keys()]
        computed = self.job.have(self.collection, missing, lambda p, _: self.collection.ensure(p, self._scored), what)
        flat = [key for own in keys for key in own]
        self.job.count_reused(len(flat), computed)
        places = self.collection.refresh()
        found = self.collection.rows([(key, places[key]) for key in flat], ["logprob"])
        logprobs = iter([row["logprob"] for row in found])
        rows: list[Row] = []
        for problem in problems:
            scores = [next(logprobs) for _ in problem["choices"] or ()]
            letter = LETTERS[scores.index(max(scores))]
            verdict = "correct" if letter == problem["gold"] else "wrong"
            rows.append({"response": letter, "tokens": 0, "finish": "scored", "verdict": verdict, "logprobs": scores})
        return rows

    def _choice(self, problem: ProblemRow, text: str, continuation: str) -> Choice:
        prompt, response = split_ids(self._encode, text, self.tokenizer.marked(continuation))
        if not text.strip() or not response:
            raise DataError(f"question {problem['question'][:60]!r}: prompt and choices must not be empty")
        check_length(prompt, len(response), self.tokenizer.folder, problem["question"])
        key = sample_key(**self.about, prompt=prompt, response=response)
        return Choice(problem["problem_id"], prompt, response, key)

    def _encode(self, text: str) -> list[int]:
        """Token ids with those in front that the tokenizer puts there; a chat template may have written them."""
        ids, begins = self.tokenizer.encode(text), self.tokenizer.begins
        return ids if ids[: len(begins)] == begins else [*begins, *ids]

    def _scored(self, pairs: Sequence[tuple[ProblemRow, str]]) -> list[Row]:
        """Rows of the store, of problems and continuations."""
        prompts = self._prompts.texts(problem["prompt"] for problem, _ in pairs)
        return self._score([self._choice(p, prompt, text) for (p, text), prompt in zip(pairs, prompts, strict=True)])

    @torch.inference_mode()
    def _score(self, choices: Sequence[Choice]) -> list[Row]:
        """Rows of the store. Continuations of one token share their prompt's forward pass."""
        head = projection(self.model, self.tokenizer.size)
        passes: dict[tuple[tuple[int, ...], int], list[int]] = {}  # (ids read, of them scored) -> choices
        for i, c in enumerate(choices):
            passes.setdefault(((*c.prompt_ids, *c.response_ids[:-1]), len(c.response_ids)), []).append(i)
        keys = list(passes)
        logprobs = [0.0] * len(choices)
        # One more id, whatever it is, stands for the last of the continuation: it is predicted, never read.
        read = [(ids[: len(ids) - n + 1], (*ids[len(ids) - n + 1 :], 0)) for ids, n in keys]
        for batch, states in scored(self.model, read):
            hidden = states.float()
            whole = log_normaliser(hidden, head)
            start = 0
            for b in batch:
                rows = slice(start, start + keys[b][1])
                for i in passes[keys[b]]:
                    own = head.onto(torch.tensor(choices[i].response_ids, device=hidden.device))
                    logits = own.finish((hidden[rows] * own.weight.float()).sum(-1))
                    logprobs[i] = float((logits - whole[rows]).double().sum())
                start = rows.stop
        return [
            {
                "sample_key": c.key,
                "problem_id": c.problem,
                "prompt_ids": c.prompt_ids,
                "response_ids": c.response_ids,
                "logprob": logprob,
            }
            for c, logprob in zip(choices, logprobs, strict=True)
        ]


def log_normaliser(hidden: Tensor, head: Projection) -> Tensor:
    """log sum_v exp(logit_v) of hidden states [N, H] under an output projection, in float32: [N].

    A bfloat16 model's logits are formed in float32 here: rounded to 8 bits, the letters of a choice often tie.
    """
    whole: list[Tensor] = []
    for some, chunk in chunks(hidden):
        total = torch.full((len(chunk),), -torch.inf, device=hidden.device)
        for start in range(0, head.size, COLUMNS):
            part = head.onto(slice(start, min(start + COLUMNS, head.size)))
            total = torch.logaddexp(total, part.finish(chunk @ part.weight.float().T).logsumexp(-1))
        whole.append(total[: some.stop - some.start])
    return torch.cat(whole)
