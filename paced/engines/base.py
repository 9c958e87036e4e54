"""What a sampling engine is asked and what it answers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from paced.config import Sampling


class Request(NamedTuple):
    """One sample to draw. ``seed`` alone decides its randomness, whatever batch it lands in."""

    prompt_ids: list[int]
    seed: int


class Response(NamedTuple):
    """``ids`` ends with the end-of-sequence token if ``finish`` is 'stop'; 'length' was cut by the limit."""

    ids: list[int]
    finish: str


class Engine(Protocol):
    """Draws responses; ``name`` is stored with them."""

    name: str

    def sample(self, requests: Sequence[Request], sampling: Sampling, tick: Callable[[int], None]) -> list[Response]:
        """Responses in the order of the requests; ``tick`` is told how many are finished.

        Raises:
            EngineError: the device ran out of memory, with the setting to lower; or the model gives NaN.
        """
        ...
