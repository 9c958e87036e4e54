"""Each prompt is rendered once: a template may write the date, and all stages, on whatever day, read the same ids."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from paced.batching import batched
from paced.models import Tokenizer
from paced.stage import exclusive
from paced.storage.store import Collection, sample_key
from paced.storage.tables import PROMPTS, Row

TOGETHER = 2048  # prompts rendered, committed and read at once


class PromptStore:
    """The prompts that a tokenizer writes.

    Args:
        home: whose store keeps them.
    """

    def __init__(self, home: Path, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._collection = Collection(home, "prompts", tokenizer.about, PROMPTS, tokenizer.token_map)
        self._lock = home / "locks" / f"prompts-{self._collection.folder.name}"

    def ids(self, prompts: Iterable[str]) -> Iterator[list[int]]:
        """Token ids of prompts, chat messages in JSON or a string that is read as it stands, in order.

        Raises:
            DataError: the chat template cannot write one, or it has a token that the model has no row for.
        """
        for prompt, row in self._rows(prompts, "prompt_ids"):
            yield row["prompt_ids"] if row else self.tokenizer.prompt(prompt)

    def texts(self, prompts: Iterable[str]) -> Iterator[str]:
        """The same as text, its control tokens marked (paced/models/control.py)."""
        for prompt, row in self._rows(prompts, "prompt"):
            yield row["prompt"] if row else self.tokenizer.text_of(prompt)

    def _rows(self, prompts: Iterable[str], column: str) -> Iterator[tuple[str, Row | None]]:
        """Each prompt with its row of the store; a string is nowhere stored."""
        for some in batched(prompts, TOGETHER):
            keys = {prompt: sample_key(prompt=prompt) for prompt in some if not prompt.startswith('"')}
            if any(key not in self._collection.refresh() for key in keys.values()):
                with exclusive(self._lock):  # else two stages would render at once, and each keep its own
                    self._collection.ensure({key: prompt for prompt, key in keys.items()}, self._rendered)
            places = self._collection.refresh()
            wanted = [(key, places[key]) for key in keys.values()]
            rows = dict(zip(keys, self._collection.rows(wanted, [column]), strict=True)) if wanted else {}
            yield from ((prompt, rows.get(prompt)) for prompt in some)

    def _rendered(self, prompts: Sequence[str]) -> list[Row]:
        texts = [self.tokenizer.text_of(prompt) for prompt in prompts]
        return [
            {"sample_key": sample_key(prompt=prompt), "prompt": text, "prompt_ids": self.tokenizer.encode(text)}
            for prompt, text in zip(prompts, texts, strict=True)
        ]
