"""Whether responses were drawn from the model's own law: sampler and trainer must find them equally probable.

An engine has a mask, a cache and kernels of its own, and a model that these do not fit gives wrong samples without an
error. So the first responses are scored again by the plain forward pass that training makes. Shapes: N tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from paced.config import Precision
from paced.models import projection
from paced.models.scoring import chunks, scored
from paced.sampling.engines.base import Request, Response

RESPONSES = 16  # that are scored; the longest ones, in which a window or a limit is most likely to be passed
# Nats a token. Rounding makes some 1e-5 in float32 and 0.02 in bfloat16.
LARGEST_GAP: dict[Precision, float] = {"float32": 0.002, "bfloat16": 0.1}


class Gap(NamedTuple):
    """How far the log-probabilities of N sampled tokens are apart, in nats: on average, and at most."""

    mean: float
    largest: float
    tokens: int


def longest(requests: Sequence[Request], responses: Sequence[Response]) -> list[tuple[Request, Response]]:
    """The requests and responses to score, of those whose log-probabilities the engine told."""
    told = [pair for pair in zip(requests, responses, strict=True) if pair[1].logprobs]
    return sorted(told, key=lambda pair: -len(pair[0].prompt_ids) - len(pair[1].ids))[:RESPONSES]


@torch.inference_mode()
def gap(model: PreTrainedModel, normalised: int, pairs: Sequence[tuple[Request, Response]]) -> Gap:
    """|log q_engine - log q_model| of each sampled token, q_model by one forward pass over the whole sequence.

    Args:
        normalised: ids that the engine's log-probabilities are over.
    """
    head = projection(model, normalised)
    differences: list[torch.Tensor] = []
    for batch, hidden in scored(model, [(request.prompt_ids, response.ids) for request, response in pairs]):
        own = [pairs[i][1] for i in batch]
        ids = torch.tensor([i for response in own for i in response.ids], device=hidden.device)
        told = torch.tensor([x for response in own for x in response.logprobs or ()], device=hidden.device)
        for some, chunk in chunks(hidden):
            logprobs = head.logits(chunk)[: len(ids[some])].float().log_softmax(-1)
            differences.append((logprobs.gather(1, ids[some][:, None])[:, 0] - told[some]).abs().cpu())
    found = torch.cat(differences)
    return Gap(found.mean().item(), found.max().item(), len(found))
