"""What every section of a recipe is made of: the base class, and types of numbers and names. Imports no torch."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator

from paced.config.extensions import Named

JsonObject = dict[str, JsonValue]
Precision = Literal["float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]
PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]
Exponent = Annotated[float, Field(ge=0)]
Scheme = Annotated[str, Named("weighting")]
Schedule = Annotated[str, Named("schedule")]
Loss = Annotated[str, Named("loss")]
Source = Annotated[str, Named("data source")]
Verifier = Annotated[str, Named("verifier")]
EngineKind = Annotated[str, Named("engine")]


def home() -> Path:
    """``PACED_HOME``, by default ``.paced`` in the working directory: artifacts, stores, runs, tracking, all of it."""
    return Path(os.environ.get("PACED_HOME", ".paced")).absolute()


class Section(BaseModel):
    """Base of every section: frozen, unknown keys and numbers that are not finite refused.

    A number may come as text, because YAML reads ``1e-6`` as text; true and false are no numbers, because it reads
    ``on`` and ``yes`` as true.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name
        kind: Any = cls.model_fields[info.field_name].annotation
        items: Any = value if isinstance(value, list | tuple) else [value]
        for item in items:
            if isinstance(item, bool) and kind not in (bool, bool | None):
                raise ValueError(f"must not be {str(item).lower()}")
        return value

    def changed(self, *names: str) -> list[str]:
        """Those of the fields that differ from their defaults."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
