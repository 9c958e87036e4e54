"""Models, and the engines that sample them. Imports no torch."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from paced.config.base import EngineKind, PositiveInt, Precision, Reach, Section
from paced.config.catalog import ENGINES, EngineRecord


class Engine(Section):
    """What draws a model's responses (docs/engines.md). Of this section only ``kind`` enters an identity."""

    kind: EngineKind = "transformers"
    tensor_parallel: PositiveInt = Field(default=1, description="Devices that share one copy of the model (vllm).")
    data_parallel: PositiveInt = Field(default=1, description="Copies of the model side by side (vllm).")
    memory_share: float = Field(default=0.85, gt=0, lt=1, description="Of each device's memory, for vllm to take.")
    python: Annotated[str | None, Reach.PROGRAM] = Field(
        default=None, description="Interpreter of an environment with vLLM; else .venv-vllm beside the own one (vllm)."
    )
    url: Annotated[str | None, Reach.PLACE] = Field(
        default=None, description="Of a running vLLM server, as http://host:8000/v1 (server)."
    )
    served_name: str | None = Field(default=None, description="Which of the server's models, if it has several.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for kind, record in ENGINES.items():
            if kind != self.kind and (changed := self.changed(*record.reads)):
                raise ValueError(f"{changed[0]} has no effect with kind '{self.kind}': remove it, or use kind '{kind}'")
        if "url" in self.record.reads and not (self.url or "").startswith(("http://", "https://")):
            raise ValueError(f"kind '{self.kind}' needs url, as http://host:8000/v1")
        return self

    @property
    def record(self) -> EngineRecord:
        """What is known of this kind of engine."""
        return ENGINES[self.kind]


class Model(Section):
    """A Hugging Face model folder, the precision its weights are computed in, and what it is sampled with."""

    path: Annotated[str, Reach.PLACE] = Field(
        description="Folder with config.json, safetensors and a tokenizer with a chat template."
    )
    dtype: Precision = "float32"
    trust_remote_code: Annotated[bool, Reach.CODE] = Field(
        default=False, description="Run Python code that comes with the model."
    )
    engine: Engine = Engine()


class Teacher(Model):
    """The model to learn from; without a path it is a frozen copy of the student (self-distillation)."""

    path: Annotated[str | None, Reach.PLACE] = None  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    privileged: bool = Field(
        default=False, description="The teacher also reads the reference solution; the student does not."
    )

    @model_validator(mode="after")
    def _own(self) -> Self:
        if self.path is None and (changed := self.changed("dtype", "trust_remote_code", "engine")):
            name = changed[0]
            raise ValueError(f"{name} has no effect without path: the teacher is the student, set student.{name}")
        return self
