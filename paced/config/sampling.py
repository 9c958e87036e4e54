"""How responses are drawn: of the student for pass rates, of the teacher for its answers. Imports no torch."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from paced.config.base import PositiveInt, Section, Share, left_out_at

# Named sampling settings: `sampling: paper`, or `sampling: {preset: paper, max_new_tokens: 2048}`.
PRESETS: dict[str, dict[str, float]] = {
    # arXiv 2603.11178, evaluation; its temperature there is 0.6 to 0.7.
    "paper": {"temperature": 0.6, "top_p": 0.8, "top_k": 20, "max_new_tokens": 8192},
    # The same, rollouts for pass rates and stage 2.
    "paper_rollouts": {"temperature": 1.0, "max_new_tokens": 8192},
    # The most probable token each time, whatever the temperature.
    "greedy": {"top_k": 1},
}


class Sampling(Section):
    """How responses are drawn. The same object serves pass rates, stage 2 and evaluation.

    The name of a preset may stand for all of it, or as ``preset`` beside the fields that differ.
    """

    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, description="0: no limit.")
    max_new_tokens: PositiveInt = Field(default=1024, description="A response that is longer is cut off, and wrong.")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        given = {"preset": value} if isinstance(value, str) else value
        if not isinstance(given, dict) or "preset" not in given:
            return value
        fields = dict(given)  # pyright: ignore[reportUnknownVariableType]
        name: Any = fields.pop("preset")
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}; there are: {', '.join(PRESETS)}")
        return {**PRESETS[name], **fields}


class Rollouts(Section):
    """Stage 'rollouts': G samples a problem, from which the pass rate is estimated."""

    samples: int = Field(default=8, ge=2, description="G. One sample can only show pass rate 0 or 1.")
    sampling: Sampling = Sampling()
    verdict_noise: Share = Field(
        default=0.0,
        exclude_if=left_out_at(0.0),
        description="For studies of an unreliable verifier: share of the known verdicts that are reversed before pass "
        "rates are counted. Teacher answers and benchmarks keep theirs.",
    )

    @model_validator(mode="after")
    def _differing(self) -> Self:
        if self.sampling.top_k == 1:
            raise ValueError(
                "sampling with top_k 1 (greedy) draws the same response every time, so that pass rates would all be 0 "
                "or 1: set another top_k"
            )
        return self


class Answers(Section):
    """Stage 'teacher': the teacher's answers and its sparse next-token distributions (method section 6)."""

    samples: PositiveInt = 1
    sampling: Sampling = Sampling(temperature=0.7)
    keep: Literal["correct", "all"] = "correct"
    floor: float = Field(
        default=0.001, ge=1e-6, lt=0.5, description="Ids that the teacher gives this probability or more are stored."
    )
    capture: bool = Field(
        default=False,
        description="Take the distributions from vLLM while it draws the answers, without a forward pass over them.",
    )

    @model_validator(mode="after")
    def _differing(self) -> Self:
        if self.sampling.top_k == 1 and self.samples > 1:
            raise ValueError("samples must be 1 with top_k 1 (greedy), which draws the same response every time")
        return self
