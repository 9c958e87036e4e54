"""What every section of a recipe is made of: the base class, and types of numbers and names. Imports no torch."""

import os
import re
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import CoreSchema

from paced.config.extensions import Named
from paced.errors import ConfigError

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


class Reach(Enum):
    """Marks a field by which a recipe reaches out of itself, into the host or further (paced/config/allowed.py)."""

    PLACE = auto()  # a file, a folder or an address
    PROGRAM = auto()  # a program that is started, with its arguments
    CODE = auto()  # whether code that comes with a model is run


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PASSWORD = re.compile(_ADDRESS.pattern + r"[^/?#\s@]*:[^/?#\s@]+@")
NO_PASSWORD = f"^(?!.*{_PASSWORD.pattern})"  # the same for the server, which keeps what was filled in

Place = Annotated[str, WithJsonSchema({"type": "string", "pattern": NO_PASSWORD})]  # a form's field by itself


def _is_text(node: JsonObject) -> bool:
    """Whether a JSON schema stands for any text, not for one of a list."""
    return node.get("type") == "string" and not node.keys() & {"enum", "const"}


def left_out_at(default: object) -> Callable[[object], bool]:
    """For ``exclude_if``: a setting that came later is left out of identities at its default, so the old ones stay."""
    return lambda value: value == default


def is_address(text: str) -> bool:
    """Whether a text is the address of something, such as ``s3://bucket/prefix``, and not the path of a file."""
    return bool(_ADDRESS.match(text))


def home() -> Path:
    """``PACED_HOME``, by default ``.paced`` in the working directory: artifacts, stores, runs, tracking, all of it.

    Raises:
        ConfigError: it is the address of something.
    """
    place = os.environ.get("PACED_HOME", ".paced")
    if is_address(place):
        raise ConfigError(
            f"PACED_HOME is a folder of this host, with its databases and logs, and {place} is none: set PACED_STORE "
            "to the address, and PACED_HOME to a folder"
        )
    return Path(place).absolute()


def store() -> str:
    """``PACED_STORE``, what several hosts share: a folder or an address such as ``s3://bucket/prefix``; '' for none.

    Raises:
        ConfigError: it holds a password, or is the address of a file.
    """
    place = os.environ.get("PACED_STORE", "")
    if _PASSWORD.match(place):
        raise ConfigError(
            "PACED_STORE must not hold a password, because it is written into messages: give it by the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY)"
        )
    if place.startswith("file://"):
        raise ConfigError(f"PACED_STORE={place}: write a folder as a path, {place.removeprefix('file://')}")
    return place if is_address(place) or not place else str(Path(place).absolute())


def copies(total: int) -> int:
    """``PACED_COPIES_GB`` in bytes: what a home may hold of a shared store; by default half of its disk's ``total``.

    Raises:
        ConfigError: it is no number.
    """
    given = os.environ.get("PACED_COPIES_GB", "")
    try:
        return int(float(given) * 1e9) if given else total // 2
    except (ValueError, OverflowError):
        raise ConfigError(f"PACED_COPIES_GB={given}: give a number of gigabytes") from None


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

    @field_validator("*", mode="after")
    @classmethod
    def _no_password(cls, value: Any) -> Any:
        """What a recipe holds is written into names, pages, logs and artifacts."""
        items: Any = value if isinstance(value, tuple) else (value,)
        if any(isinstance(item, str) and _PASSWORD.search(item) for item in items):
            raise ValueError(
                "must not hold a password, because it is written into pages and artifacts: take it out of the address, "
                "and give it by the environment (VLLM_API_KEY, AWS_SECRET_ACCESS_KEY) or by a Prefect block"
            )
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The form's rules: the server refuses a password in an address before it keeps what was filled in."""
        found = handler(schema)
        for field in handler.resolve_ref_schema(found).get("properties", {}).values():
            for node in (field, field.get("items", {})):
                if any(_is_text(kind) for kind in (node, *node.get("anyOf", ()))):
                    node.setdefault("pattern", NO_PASSWORD)
        return found

    def changed(self, *names: str) -> list[str]:
        """Those of the fields that differ from their defaults."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
