"""What a sampling engine is asked and what it answers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from paced.config import Sampling
from paced.errors import EngineError
from paced.losses.targets import Sparse

COLUMNS = 64  # tokens of each sequence that the transformers engine's cache grows by


class Request(NamedTuple):
    """One sample to draw. ``seed`` alone decides its randomness, whatever batch it lands in.

    ``logprobs``: the response tells how probable its ids were.
    """

    prompt_ids: list[int]
    seed: int
    logprobs: bool = False


class Response(NamedTuple):
    """``ids`` ends with the end-of-sequence token if ``finish`` is 'stop'; 'length' was cut by the limit.

    ``targets``: the distributions that the ids were drawn from, at temperature 1, if the engine was asked for them and
    could tell. ``logprobs``: what the engine took each id's log-probability for, at temperature 1 and before top-p and
    top-k, if the request asked for it.
    """

    ids: list[int]
    finish: str
    targets: Sparse | None = None
    logprobs: list[float] | None = None


class Limits(NamedTuple):
    """What holds for every response of a model, whichever engine draws it."""

    known: int  # ids below are the tokenizer's
    vocabulary: int  # ids from ``known`` up to here are padding rows, never to be drawn
    stops: list[int]
    context: int  # most tokens of prompt and response; 0 if the model does not say

    @property
    def rows(self) -> int:
        """Of the output projection, over all of which an engine that cannot leave out the padding normalises."""
        return self.vocabulary or self.known

    def response(self, ids: list[int], sampling: Sampling, engine: str) -> Response:
        """A response that came from outside, held to the rules that the transformers engine follows by construction.

        Raises:
            EngineError: an unknown id, a stop id inside, or an end that is neither a stop id nor the limit.
        """
        stopped = bool(ids) and ids[-1] in self.stops
        whole = 0 < len(ids) <= sampling.max_new_tokens and (stopped or len(ids) == sampling.max_new_tokens)
        if not whole or max(ids) >= self.known or any(i in self.stops for i in ids[:-1]):
            raise EngineError(
                f"{engine} gave a response that breaks the rules ({len(ids)} ids of at most {sampling.max_new_tokens}, "
                f"last {ids[-3:]}, stop ids {self.stops}, {self.known} known ids): is it serving this very model?"
            )
        return Response(ids, "stop" if stopped else "length")


class SamplingEngine(Protocol):
    """Draws responses; ``name`` is stored with them. Log-probabilities are over the first ``normalised`` ids."""

    name: str
    normalised: int

    def sample(self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]) -> list[Response]:
        """Responses in the order of the requests; ``tick`` is told how many are finished.

        Raises:
            EngineError: the device ran out of memory, with the setting to lower; or the model gives no number, or +inf.
        """
        ...

    def close(self) -> None:
        """End whatever the engine has started, and give its memory back; it may be asked again afterwards."""
        ...
