"""The server engine: a running vLLM server, through its OpenAI-compatible completions endpoint (docs/engines.md).

Prompts go as token ids and responses come back as token ids (``return_token_ids``), so nothing is tokenised twice. The
client library tries again, with growing pauses, on lost connections, timeouts and status 408, 409, 429 and 5xx.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openai

from paced.config import Model, Runtime, Sampling
from paced.errors import ConfigError, EngineError, TransientError
from paced.models import Tokenizer
from paced.sampling.engines.base import Limits, Request, Response

RETRIES = 6  # pauses double from 0.5 s up to 8 s
TIMEOUT = 3600.0  # seconds for one response: a long one waits its turn in the server
PROBES = 2000  # ids whose text is compared


class ServerEngine:
    """At most ``runtime.sample_rows`` requests are under way at once."""

    def __init__(self, folder: Path, model: Model, tokenizer: Tokenizer, limits: Limits, runtime: Runtime):
        assert model.engine.url
        self.url, self.served = model.engine.url.rstrip("/"), model.engine.served_name
        self.folder, self.tokenizer, self.limits, self.rows = folder, tokenizer, limits, runtime.sample_rows
        self.name, self.normalised = "server", limits.rows
        self._checked = False

    def sample(self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]) -> list[Response]:
        return asyncio.run(self._sample(requests, sampling, tick)) if requests else []

    def close(self) -> None:
        """Nothing to end: the server is somebody else's."""

    async def _sample(
        self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]
    ) -> list[Response]:
        key = os.environ.get("VLLM_API_KEY", "none")  # the variable that the server itself reads
        free, done = asyncio.Semaphore(self.rows), 0
        async with openai.AsyncOpenAI(base_url=self.url, api_key=key, max_retries=RETRIES, timeout=TIMEOUT) as client:

            async def one(request: Request) -> Response:
                nonlocal done
                async with free:
                    response = await self._one(client, request, sampling)
                done += 1
                tick(done)
                return response

            try:
                if not self._checked:
                    await self._check(client, max(len(r.prompt_ids) for r in requests) + sampling.max_new_tokens)
                    self._checked = True
                return await asyncio.gather(*(one(r) for r in requests))
            except openai.OpenAIError as error:
                raise self._explained(error) from None

    async def _one(self, client: openai.AsyncOpenAI, request: Request, sampling: Sampling) -> Response:
        assert self.served
        padding = range(self.limits.known, self.limits.vocabulary)
        answer = await client.completions.create(
            model=self.served,
            prompt=request.prompt_ids,
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            presence_penalty=0,
            frequency_penalty=0,
            logit_bias={str(i): -100 for i in padding},
            logprobs=0 if request.logprobs else openai.omit,  # of the ids that are drawn
            # Spelled out, since a server takes what is missing from the model's generation config.
            extra_body={
                "top_k": sampling.top_k, "min_p": 0, "repetition_penalty": 1, "ignore_eos": True,
                "stop_token_ids": self.limits.stops, "seed": request.seed % (1 << 63), "return_token_ids": True,
            },
        )  # fmt: skip
        ids: list[int] | None = (answer.choices[0].model_extra or {}).get("token_ids")
        if ids is None:
            raise EngineError(f"{self.url} gives text but no token ids: use a vLLM server that knows return_token_ids")
        told = answer.choices[0].logprobs
        logprobs = told.token_logprobs if told else None
        return self.limits.response(ids, sampling, f"{self.url} ({self.served})")._replace(logprobs=logprobs)

    async def _check(self, client: openai.AsyncOpenAI, need: int) -> None:
        """Choose the model, and compare what can be known of it from outside: its name, length and tokenizer."""
        cards: dict[str, Any] = {card.id: card async for card in client.models.list()}
        if self.served is None and len(cards) == 1:
            [self.served] = cards
        if self.served not in cards:
            raise EngineError(
                f"{self.url} serves {', '.join(sorted(cards))}"
                + (f", not {self.served}" if self.served else "")
                + ": set engine.served_name to one of them"
            )
        length = (cards[self.served].model_extra or {}).get("max_model_len")
        if length and need > length:
            raise EngineError(
                f"{self.url} takes {length} tokens, and prompt and response need {need}: start the server with a "
                "larger --max-model-len, or lower max_new_tokens"
            )
        ids = list(range(0, self.limits.known, -(-self.limits.known // PROBES)))
        body = {"model": self.served, "tokens": ids}
        try:
            found: Any = await client.post(self.url.removesuffix("/v1") + "/detokenize", cast_to=object, body=body)
        except openai.NotFoundError:
            return  # not every version has it; the ids that come back are checked in any case
        if found["prompt"] != self.tokenizer.core.decode(ids):
            raise ConfigError(
                f"{self.url} ({self.served}) has another tokenizer than {self.folder}: serve the model of that folder"
            )

    def _explained(self, error: openai.OpenAIError) -> EngineError:
        words = " ".join(str(error).split())[:300]
        match error:
            case openai.APITimeoutError():
                return TransientError(f"{self.url} did not answer within {TIMEOUT:.0f} s: lower runtime.sample_rows")
            case openai.APIConnectionError():
                return TransientError(f"{self.url} cannot be reached: start the server, or correct engine.url")
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return EngineError(f"{self.url} refuses the key: set VLLM_API_KEY to the server's")
            case openai.InternalServerError():
                return TransientError(f"{self.url} failed {RETRIES + 1} times: see the server's own log ({words})")
            case _:
                return EngineError(f"{self.url}: {words}")
