"""The transformers engine: batched sampling with a key-value cache, on any device torch knows.

Shapes: R rows of a batch, T prompt tokens padded on the left, V ids the tokenizer knows.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from paced.config import Sampling
from paced.engines.base import Request, Response
from paced.errors import EngineError
from paced.models import Tokenizer, head, stop_ids

NUCLEUS = 512


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities [R, V] after temperature, top-k and top-p, in float64 on the way to an exact cumulative sum.

    The order and the rules are those of the transformers library's logits processors. What top-p drops is 0 and the
    rest is not scaled up again: ``draw`` takes a row's sum as its whole.
    """
    scores = logits.double() / sampling.temperature
    if sampling.top_k:
        kth = scores.topk(min(sampling.top_k, scores.shape[-1])).values[:, -1:]
        scores = scores.masked_fill(scores < kth, -torch.inf)
    probabilities = scores.softmax(-1)
    if sampling.top_p < 1:
        # The few ids that hold the nucleus are found without sorting the vocabulary; a flat row sorts it after all.
        ordered, order = probabilities.topk(min(NUCLEUS, probabilities.shape[-1]))
        if bool((ordered.sum(-1) < sampling.top_p).any()):
            ordered, order = probabilities.sort(descending=True)
        keep = ordered.cumsum(-1) - ordered < sampling.top_p
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered * keep)
    return probabilities


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Token ids [R] by inverse transform: one uniform number [R] in [0, 1) a row, so no row disturbs another."""
    cumulative = probabilities.cumsum(-1)
    threshold = (uniforms * cumulative[:, -1])[:, None]
    return torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp_max(probabilities.shape[-1] - 1)


class TransformersEngine:
    """Samples ``rows`` sequences at once; a finished sequence leaves the batch."""

    name = "transformers"

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, rows: int):
        self.model, self.tokenizer, self.rows = model, tokenizer, rows
        self.stops = stop_ids(model.generation_config, tokenizer)

    def sample(self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]) -> list[Response]:
        # Prompts of one length together: less padding, and the G samples of a prompt share its prefill.
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt_ids), requests[i].prompt_ids, i))
        results: list[Response | None] = [None] * len(requests)
        done = 0
        for start in range(0, len(order), self.rows):
            chosen = order[start : start + self.rows]
            try:
                responses = self._batch([requests[i] for i in chosen], sampling, lambda n, base=done: tick(base + n))
            except torch.OutOfMemoryError:
                raise EngineError(
                    f"out of device memory sampling {self.rows} sequences at once: lower runtime.sample_rows"
                ) from None
            for i, response in zip(chosen, responses, strict=True):
                results[i] = response
            done += len(chosen)
            tick(done)
        return [r for r in results if r is not None]

    def close(self) -> None:
        """Nothing to end: the model is the caller's."""

    @torch.inference_mode()
    def _batch(self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]) -> list[Response]:
        device = head(self.model).weight.device
        size = self.tokenizer.size
        uniforms = torch.from_numpy(
            np.stack([np.random.default_rng(r.seed).random(sampling.max_new_tokens) for r in requests])
        ).to(device)
        stops = torch.tensor(self.stops, device=device)

        unique: dict[tuple[int, ...], int] = {}
        owner = torch.tensor([unique.setdefault(tuple(r.prompt_ids), len(unique)) for r in requests], device=device)
        width = max(map(len, unique))
        ids = torch.tensor([[*[0] * (width - len(p)), *p] for p in unique], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in unique], device=device)
        cache = DynamicCache()
        position = (mask.cumsum(-1) - 1).clamp_min(0)
        logits = self._forward(ids, mask, position, cache)
        if bool(logits.isnan().any()):  # else every draw would be one and the same id, and every verdict wrong
            raise EngineError("the model's logits are not finite: its weights are damaged, or overflow in this dtype")
        cache.batch_select_indices(owner)
        logits, mask, position = logits[owner], mask[owner], position[owner, -1:] + 1

        live = torch.arange(len(requests), device=device)
        out = torch.full((len(requests), sampling.max_new_tokens), -1, device=device)
        for step in range(sampling.max_new_tokens):
            token = draw(filtered(logits[:, :size].float(), sampling), uniforms[live, step])
            out[live, step] = token
            going = ~torch.isin(token, stops)
            if step == sampling.max_new_tokens - 1 or not bool(going.any()):
                break
            if not bool(going.all()):
                cache.batch_select_indices(going.nonzero()[:, 0])
                live, token, mask, position = live[going], token[going], mask[going], position[going]
                tick(len(requests) - len(live))
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            logits = self._forward(token[:, None], mask, position, cache)
            position = position + 1

        responses = []
        for row in out.tolist():
            row = row[: row.index(-1)] if -1 in row else row
            responses.append(Response(row, "stop" if row[-1] in self.stops else "length"))
        return responses

    def _forward(self, ids: Tensor, mask: Tensor, position: Tensor, cache: DynamicCache) -> Tensor:
        """Logits [R, V] of the last position."""
        return self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
