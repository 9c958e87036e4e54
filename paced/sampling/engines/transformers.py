"""The transformers engine: continuous batching with a key-value cache, on any device torch knows.

A sequence owns a row of the batch, and its token at position s stands in column s of the cache. So rows need not be
equally long, and a row whose sequence has ended takes the next one. What a sequence is computed from depends on itself
alone: a prompt is padded to a width that follows from its length, columns behind a sequence's end weigh exactly 0, and
with one CPU thread a row of a matrix product does not depend on how many there are, if only they are FEWEST or more.

Shapes: R rows of the batch, S columns of the cache, V ids the tokenizer knows.
"""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, Cache, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from paced.config import Sampling
from paced.errors import ConfigError, EngineError
from paced.models import NOT_FINITE, Tokenizer, head, next_logits, stop_ids
from paced.models.scoring import shape_of
from paced.sampling.engines.base import COLUMNS, Request, Response
from paced.sampling.engines.draw import draw, filtered

# Rows of a product on a CPU: for fewer, MKL takes other kernels, which round otherwise; from how many on depends on the
# processor and on the length of the sums. 15 and fewer differ on one of 2023, 3 and fewer on an older one.
FEWEST = 16
COLUMN_LAYERS = {DynamicLayer, DynamicSlidingWindowLayer}  # of the library's cache, that keep one column a token
SPARSE = 0.75  # rows leave the batch when no more than this share of it is in use


def capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, softcap: float) -> Tensor:
    """Attention [R, T, H, D] with soft-capped scores (Gemma 2), which torch's own has not; without a mask causal."""
    key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], 1) for x in (key, value))
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * scale / softcap)
    if mask is None:
        old = scores.shape[3] - scores.shape[2]
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=query.device).tril(old)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).transpose(1, 2)


def grouped(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
    """The library's attention; for one new token a row without its copy of keys and values for each query head.

    The query heads [R, H, 1, D] that share a key head become that head's queries: [R, keys' heads, H / those, D].
    """
    if softcap := kwargs.get("softcap"):
        return capped(query, key, value, attention_mask, kwargs["scaling"], softcap), None
    if query.shape[2] > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    queries = query.reshape(len(query), key.shape[1], -1, query.shape[-1])
    scale: float | None = kwargs.get("scaling")
    out = functional.scaled_dot_product_attention(queries, key, value, attn_mask=attention_mask, scale=scale)
    return out.reshape(len(query), 1, query.shape[1], -1), None


def own_rows(
    *, batch_size: int, kv_length: int, q_offset: Any, mask_function: Any, device: Any, **kwargs: Any
) -> Tensor | None:
    """The mask that a layer asks for: the library's, but in a step every row [R] stands at a position of its own.

    ``mask_function`` is the model's own rule of who sees whom. Returns [R, 1, 1, S] of a step.
    """
    if not isinstance(q_offset, Tensor):
        return sdpa_mask(
            batch_size=batch_size, kv_length=kv_length, q_offset=q_offset, mask_function=mask_function, device=device,
            **kwargs,
        )  # fmt: skip
    row, column = torch.arange(batch_size, device=device), torch.arange(kv_length, device=device)
    seen: Tensor = mask_function(row[:, None, None, None], 0, q_offset[:, None, None, None], column[None, None, None])
    return seen.expand(batch_size, 1, 1, kv_length)


AttentionInterface.register("grouped", grouped)
AttentionMaskInterface.register("grouped", own_rows)


class ColumnCacheLayer(DynamicLayer):
    """A layer's keys and values [R, heads, S, D]; the next token's go to ``places`` [R, heads] of [R * heads * S, D].

    With an index for rows and another for columns, CUDA's deterministic way would copy the whole layer, out and back.
    """

    keys: Tensor
    values: Tensor
    places: Tensor

    def __init__(self, rows: int, like: Any) -> None:
        super().__init__()
        self.lazy_initialization(like.keys, like.values)
        _, heads, _, size = like.keys.shape
        self.keys = like.keys.new_zeros(rows, heads, 0, size)
        self.values = like.values.new_zeros(rows, heads, 0, like.values.shape[-1])

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        for own, new in ((self.keys, key_states), (self.values, value_states)):
            own.view(-1, own.shape[-1])[self.places] = new[:, :, 0]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Columns but for the one that the step's own token may take, which the library adds."""
        return self.keys.shape[2] - 1

    def widen(self, columns: int) -> None:
        self.keys = functional.pad(self.keys, (0, 0, 0, columns))
        self.values = functional.pad(self.values, (0, 0, 0, columns))


class ColumnCache(Cache):
    """What a step reads and writes; ``at`` [R] are the positions of its tokens."""

    def __init__(self, layers: Sequence[ColumnCacheLayer], at: Tensor) -> None:
        super().__init__(layers=list(layers))
        self.at = at

    def get_query_offset(self, layer_idx: int = 0) -> Any:
        return self.at


class Prompts(NamedTuple):
    """Prompts that went through the model together, for the samples of each to share."""

    cache: DynamicCache
    logits: Tensor  # [prompts, V] of the first token
    wanted: list[tuple[int, int]]  # requests, and which of the prompts each has


class Started(NamedTuple):
    """A response that is being drawn."""

    request: int  # its index
    prompt: int  # tokens
    random: np.random.Generator
    ids: list[int]
    logprobs: list[float]


class Batch:
    """R rows that step forward together."""

    def __init__(self, model: PreTrainedModel, rows: int, known: int) -> None:
        self.model, self.rows, self.known = model, rows, known
        self.columns = 0
        self.layers: list[ColumnCacheLayer] = []
        self.logits = torch.empty(0)

    def fill(self, rows: list[int], prompts: Prompts, which: list[int]) -> None:
        """Put prompts into rows; of what stands there only the columns up to a prompt's end will be looked at."""
        if not self.layers:
            self.layers = [ColumnCacheLayer(self.rows, layer) for layer in prompts.cache.layers]
            self.logits = prompts.logits.new_zeros(self.rows, self.known)
        width = prompts.cache.get_seq_length()
        self._widen(width)
        given: list[Any] = prompts.cache.layers
        for own, layer in zip(self.layers, given, strict=True):
            for row, prompt in zip(rows, which, strict=True):  # an index would copy all: see ColumnCacheLayer
                own.keys[row, :, :width] = layer.keys[prompt]
                own.values[row, :, :width] = layer.values[prompt]
        self.logits[rows] = prompts.logits[which]

    def step(self, tokens: list[int], positions: list[int]) -> None:
        """Each row's next logits, after its token [R] at its position [R]."""
        self._widen(max(positions) + 1)
        device = self.logits.device
        ids, at = torch.tensor([tokens, positions], device=device)
        places = {
            n: torch.arange(0, self.rows * n * self.columns, self.columns, device=device).view(-1, n) + at[:, None]
            for n in {layer.keys.shape[1] for layer in self.layers}
        }
        for layer in self.layers:
            layer.places = places[layer.keys.shape[1]]
        hidden = self.model.base_model(
            input_ids=ids[:, None],
            position_ids=at[:, None],
            past_key_values=ColumnCache(self.layers, at),
            use_cache=True,
        ).last_hidden_state
        self.logits = next_logits(self.model, hidden[:, -1], self.known)

    def keep(self, rows: list[int]) -> None:
        for layer in self.layers:
            layer.batch_select_indices(torch.tensor(rows, device=layer.keys.device))
        self.rows = len(rows)

    def _widen(self, columns: int) -> None:
        more = -(-(columns - self.columns) // COLUMNS) * COLUMNS
        if more > 0:
            self.columns += more
            for layer in self.layers:
                layer.widen(more)


def check(folder: Path, trust_remote_code: bool) -> None:
    """That the engine can sample a model, as far as its configuration says.

    Raises:
        ConfigError: what the model keeps of the tokens behind it has no column for each.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)  # None of a model with code of its own
    check_cache(str(folder), config, getattr(kind, "_is_stateful", False))


def check_cache(model: str, config: PreTrainedConfig, stateful: bool) -> None:
    """That each layer keeps keys and values token by token, as the library's own cache for the model tells.

    Args:
        stateful: the model's class says that it keeps something else beside a cache.

    Raises:
        ConfigError: some do not.
    """
    try:
        kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    except (AttributeError, KeyError, ValueError):  # the library has no such cache: the model makes one of its own
        stateful, kinds = True, set[Any]()
    if stateful or kinds - COLUMN_LAYERS:
        others = ", ".join(sorted(kind.__name__ for kind in kinds - COLUMN_LAYERS)) or "a state"
        raise ConfigError(
            f"model {model} keeps more of earlier tokens than keys and values ({others}), which the transformers "
            "engine cannot draw from: use engine.kind vllm"
        )


@contextlib.contextmanager
def attending(model: PreTrainedModel, implementation: str) -> Generator[None]:
    """A model with another attention function; whoever scores with it afterwards has its own again.

    Raises:
        ConfigError: the model's code does not let its attention be exchanged.
    """
    def current(config: Any) -> str:
        return config._attn_implementation or "eager"

    own = current(model.config)
    try:
        model.set_attn_implementation(implementation)
        if current(model.config.get_text_config()) != implementation:
            raise ConfigError(
                f"model {model.name_or_path} has attention of its own, which the transformers engine cannot step "
                "through: use engine.kind vllm"
            )
        yield
    finally:
        model.set_attn_implementation(own)


class TransformersEngine:
    """Samples ``rows`` sequences at once; when one ends, the next takes its row.

    Raises:
        ConfigError: the model keeps more of earlier tokens than keys and values, or has attention of its own.
    """

    name = "transformers"

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, rows: int):
        check_cache(str(model.name_or_path), model.config, getattr(model, "_is_stateful", False))
        self.model, self.tokenizer, self.rows = model, tokenizer, rows
        self.stops, self.normalised = stop_ids(model.generation_config, tokenizer), tokenizer.size

    def sample(self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]) -> list[Response]:
        try:
            with attending(self.model, "grouped"):
                return self._sample(requests, sampling, tick)
        except torch.OutOfMemoryError:
            raise EngineError(
                f"out of device memory sampling {self.rows} sequences at once: lower runtime.sample_rows"
            ) from None

    def close(self) -> None:
        """Nothing to end: the model is the caller's."""

    @torch.inference_mode()
    def _sample(self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]) -> list[Response]:
        limit = min(self.rows, len(requests))
        fewest = FEWEST if head(self.model).weight.device.type == "cpu" else 1
        batch = Batch(self.model, max(limit, fewest), self.tokenizer.size)
        waiting = Waiting(self._prompts(requests))
        live: dict[int, Started] = {}  # by row
        results: dict[int, Response] = {}
        while True:
            free = [row for row in range(batch.rows) if row not in live]
            drawn: list[int] = []
            for prompts, wanted in waiting.take(limit - len(live)):
                rows, free = free[: len(wanted)], free[len(wanted) :]
                batch.fill(rows, prompts, [which for _, which in wanted])
                for row, (i, _) in zip(rows, wanted, strict=True):
                    random = np.random.default_rng(requests[i].seed)
                    live[row] = Started(i, len(requests[i].prompt_ids), random, [], [])
                drawn += rows
            if not live:
                break
            if not drawn:
                if max(len(live), fewest) <= SPARSE * batch.rows:
                    batch.keep([*live, *free[: max(0, fewest - len(live))]])
                    live = dict(enumerate(live.values()))
                tokens, positions = [0] * batch.rows, [0] * batch.rows
                for row, s in live.items():
                    tokens[row], positions[row] = s.ids[-1], s.prompt + len(s.ids) - 1
                batch.step(tokens, positions)
                drawn = list(live)
            logits = batch.logits[drawn]
            uniforms = torch.tensor([live[row].random.random() for row in drawn], dtype=torch.float64)
            tokens = draw(filtered(logits, sampling), uniforms.to(logits.device)).tolist()
            if min(tokens) < 0:
                raise EngineError(NOT_FINITE)
            if any(requests[live[row].request].logprobs for row in drawn):
                logprobs = logits.log_softmax(-1)[range(len(tokens)), tokens].tolist()
                for row, logprob in zip(drawn, logprobs, strict=True):
                    live[row].logprobs.append(logprob)
            for row, token in zip(drawn, tokens, strict=True):
                s = live[row]
                s.ids.append(token)
                if token in self.stops or len(s.ids) == sampling.max_new_tokens:
                    finish = "stop" if token in self.stops else "length"
                    results[s.request] = Response(s.ids, finish, logprobs=s.logprobs or None)
                    del live[row]
                    tick(len(results))
        return [results[i] for i in range(len(requests))]

    def _prompts(self, requests: Sequence[Request]) -> Iterator[Prompts]:
        """Forward passes of all prompts, each once, shortest first; padded on the right, where nobody looks."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 0
        device = head(self.model).weight.device
        askers: dict[tuple[int, ...], list[int]] = {}
        for i, request in enumerate(requests):
            askers.setdefault(tuple(request.prompt_ids), []).append(i)
        unique = sorted(askers, key=lambda p: (len(p), p))
        for shape, likes in itertools.groupby(unique, lambda p: shape_of(len(p), limit)):
            likes = list(likes)
            for start in range(0, len(likes), shape[0]):
                chosen = likes[start : start + shape[0]]
                ids = torch.tensor([[*p, *[0] * (shape[1] - len(p))] for p in chosen], device=device)
                cache = DynamicCache()
                hidden = self.model.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
                last = torch.stack([row[len(p) - 1] for row, p in zip(hidden, chosen, strict=True)])
                last = functional.pad(last, (0, 0, 0, max(0, FEWEST - len(last))))
                logits = next_logits(self.model, last, self.tokenizer.size)[: len(chosen)]
                yield Prompts(cache, logits, [(i, row) for row, p in enumerate(chosen) for i in askers[p]])


class Waiting:
    """Requests in line; a prompt goes through the model when the first of its samples is about to start."""

    def __init__(self, prompts: Iterator[Prompts]) -> None:
        self.prompts = prompts
        self.current: Prompts | None = None

    def take(self, number: int) -> Iterator[tuple[Prompts, list[tuple[int, int]]]]:
        """At most ``number`` requests, as pieces that share a forward pass."""
        while number:
            if not (self.current and self.current.wanted):
                self.current = None  # its memory, before the next one's
                self.current = next(self.prompts, None)
                if not self.current:
                    return
            piece = self.current.wanted[:number]
            del self.current.wanted[:number]
            number -= len(piece)
            yield self.current, piece
