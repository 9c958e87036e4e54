"""Where problems come from, and what of them is left out. Imports no torch."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from paced.config.base import PositiveInt, Reach, Section, Seed, Source, Verifier, left_out_at
from paced.config.catalog import SOURCES, SourceRecord
from paced.config.extensions import source

Script = Literal["han", "kana", "hangul", "cyrillic", "arabic", "hebrew", "devanagari", "thai"]


class Columns(Section):
    """Which fields of a table hold what, as dotted paths such as ``reward_model.ground_truth``."""

    question: str = Field(default="question", description="Text, or chat messages, of which the user's last counts.")
    answer: str = "answer"
    id: str | None = Field(default=None, description="The field 'id' if not set and there.")
    level: str | None = Field(
        default=None, description="A whole number or text such as 'Level 5'; the field 'level' if not set and there."
    )
    solution: str | None = Field(default=None, description="The field 'solution' if not set and there.")


class LevelShare(Section):
    """How much of the tiny world's problems is of one level."""

    level: int = Field(ge=0, le=6, description="0: sorting, which is never trained on; 1 to 6: arithmetic.")
    share: float = Field(gt=0, description="In proportion to the other rows.")


class Data(Section):
    """Where problems come from.

    ``tiny`` is generated (``mix`` gives the share of each level) or a file of its prompts; ``gsm8k`` is the original
    GSM8K; ``math`` any of the published layouts of mathematics that docs/data.md lists, told apart by their fields;
    ``mmlu`` multiple choice, judged by log-likelihood; ``table`` a file of your own. Installed packages add others.
    """

    source: Source
    path: Annotated[str | None, Reach.PLACE] = Field(
        default=None,
        description="A file (JSONL, JSON, CSV, TSV, Parquet, Arrow), a folder of such, or several by a pattern such as "
        "data/train-*; or a data set of the Hugging Face hub as hub:OWNER/NAME:SPLIT or hub:OWNER/NAME:CONFIG:SPLIT.",
    )
    columns: Columns | None = Field(default=None, description="Field names, for source table.")
    problems: PositiveInt | None = Field(default=None, description="How many problems to take; all if not set.")
    mix: tuple[LevelShare, ...] | None = Field(
        default=None, description="Share of each level (tiny). In a file also as {level: share}."
    )
    seed: Seed | None = Field(default=None, description="Draws the problems; the run's own seed if not set.")
    instruction: str = Field(default="", description="Added after each question.")
    drop_scripts: tuple[Script, ...] = Field(
        default=(), description="Leave out problems written in these scripts, such as han for Chinese."
    )
    max_characters: PositiveInt | None = Field(default=None, description="Leave out longer questions.")
    subjects: tuple[str, ...] = Field(default=(), description="Only these subjects (mmlu); all if not set.")
    shots: int = Field(default=0, ge=0, le=5, description="Solved examples of the dev split in each prompt (mmlu).")
    chat: bool = Field(default=False, description="Put the prompt through the model's chat template (mmlu).")
    score: Literal["letters", "texts"] = Field(
        default="letters", description="Compare the choices' letters, or their texts (mmlu)."
    )
    verifier: Verifier | None = Field(
        default=None, exclude_if=left_out_at(None), description="Grades the responses; the source's own if not set."
    )

    @field_validator("mix", mode="before")
    @classmethod
    def _rows(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        try:
            shares: dict[int, Any] = {
                int(str(level)): share for level, share in value.items()
            }  # a later one of a level wins
        except ValueError:
            raise ValueError(f"must be {{level: share}} with levels 0 to 6, got {value}") from None
        return [{"level": level, "share": shares[level]} for level in sorted(shares)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source != "tiny" and self.path is None:
            raise ValueError(f"source '{self.source}' needs path, the data file")
        own = [name for record in SOURCES.values() for name in record.reads if name not in self.record.reads]
        if changed := self.changed(*own):
            raise ValueError(f"{changed[0]} has no effect with source '{self.source}': remove it")
        if self.record.choices and self.instruction:
            raise ValueError(
                f"instruction has no effect with source '{self.source}', whose prompts have their own: remove it"
            )
        if self.record.choices and self.verifier:
            raise ValueError(
                f"verifier has no effect with source '{self.source}', which is judged without sampling: remove it"
            )
        if self.source == "tiny":
            if self.path is not None and self.mix is not None:
                raise ValueError("mix has no effect with path: a file of prompts is taken as it is")
            if self.generated and (not self.mix or self.problems is None):
                raise ValueError("source 'tiny' needs mix and problems, or path")
            if len({row.level for row in self.mix or ()}) < len(self.mix or ()):
                raise ValueError("mix names a level twice")
            if self.instruction:
                raise ValueError("instruction has characters that source 'tiny' has no tokens for: remove it")
            if changed := self.changed("drop_scripts", "max_characters"):
                raise ValueError(f"{changed[0]} has no effect with source 'tiny': remove it")
        return self

    @property
    def record(self) -> SourceRecord:
        """What is known of the source."""
        return source(self.source)

    @property
    def generated(self) -> bool:
        """Whether problems are made up rather than read."""
        return self.source == "tiny" and self.path is None


class Decontamination(Section):
    """What is dropped from the training data because it stands in a benchmark of the recipe.

    Always a question that equals a benchmark's but for case and spaces; and one that holds at least ``share`` of the
    n-grams, n ``words`` long, of a benchmark's question (docs/data.md says how the two numbers were chosen).
    """

    enabled: bool = True
    words: int = Field(default=13, ge=4)
    share: float = Field(default=0.3, gt=0, le=1)

    @model_validator(mode="after")
    def _effective(self) -> Self:
        if not self.enabled and (changed := self.changed("words", "share")):
            raise ValueError(f"{changed[0]} has no effect with enabled false: remove it")
        return self
