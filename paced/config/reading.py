"""Reading recipes: YAML, ``--set`` assignments, and one clear line, with the path of the field, for each mistake.

A recipe is one YAML file (see recipes/); what may stand in it say the modules of paced/config. Imports no torch.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from paced.config import Data, Recipe
from paced.config.base import JsonObject, Section
from paced.errors import ConfigError

Kind = TypeVar("Kind", bound=Section)

_LONGEST = 1 << 20  # characters of a recipe
_VALUES = 20_000  # in a recipe, those counted that aliases and merge keys repeat
_MERGED = 100  # mappings that one merge key brings in
_DIGITS = 100  # characters of a number
_MERGE = "tag:yaml.org,2002:merge"
_TOLD = 20  # mistakes of one recipe that are listed
_SHOWN = 200  # characters of what stands in a field, in a message


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _explain(error: ValidationError, source: str) -> ConfigError:
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"]) or "recipe"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key"
        elif item["type"] not in ("missing", "value_error"):
            message += f", got {_shown(item['input'])}"
        lines.append(f"{field}: {message}")
    if len(lines) > _TOLD:
        lines[_TOLD:] = [f"and {len(lines) - _TOLD} more"]
    return ConfigError(" ".join(f"{source}: {'; '.join(lines)}".split()))


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice in a mapping is an error: one of the two would be ignored.

    How many values it has is bounded, and so is what merge keys bring in: a few lines of them could stand for more
    pairs than fit in memory.
    """

    _values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._values += 1
        if self._values > _VALUES:
            raise yaml.YAMLError(f"more than {_VALUES} values, which is no recipe")
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            if key.tag == _MERGE and isinstance(value, yaml.SequenceNode) and len(value.value) > _MERGED:
                raise yaml.MarkedYAMLError(
                    problem=f"more than {_MERGED} mappings to merge", problem_mark=key.start_mark
                )
        super().flatten_mapping(node)
        if len(node.value) > _VALUES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {_VALUES} pairs in a mapping by merge keys", problem_mark=node.start_mark
            )

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    """A number that is short enough to be one: a long one costs the square of its length (1:59:59:...)."""
    if len(node.value) > _DIGITS:
        raise yaml.MarkedYAMLError(problem=f"a number of more than {_DIGITS} characters", problem_mark=node.start_mark)
    make = loader.construct_yaml_int if node.tag.endswith("int") else loader.construct_yaml_float
    return make(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _number)


def _parsed(text: str) -> Any:
    """Plain values from YAML.

    Raises:
        ValueError: with the reason, in one line.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"more than {_LONGEST} characters, which is no recipe")
    try:
        return _unshared(_Loader(text).get_single_data(), [_VALUES])
    except RecursionError:
        raise ValueError("nested too deeply, or an anchor that refers to itself") from None
    except (yaml.YAMLError, ValueError) as error:  # the latter of a date or a number that is none
        raise ValueError(" ".join(str(error).split())) from None


def _assign(tree: JsonObject, assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {assignment}: expected a.b=value")
    node: Any = tree
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, list):
            if not key.isdecimal() or int(key) >= len(node):
                raise ConfigError(f"--set {assignment}: {'.'.join(keys[:depth])} has items 0 to {len(node) - 1}")
            place: Any = int(key)
        elif isinstance(node, dict):
            place = key
        else:
            raise ConfigError(f"--set {assignment}: {'.'.join(keys[:depth])} is a plain value, not a section")
        if last:
            try:
                node[place] = _parsed(text)
            except ValueError as error:
                raise ConfigError(f"--set {assignment}: the value is not valid YAML ({error})") from None
        else:
            if isinstance(node, dict):
                node.setdefault(place, {})
            node = node[place]


def _unshared(node: Any, left: list[int]) -> Any:
    """A copy in which a YAML anchor's aliases are values of their own, so that assigning to one leaves the others.

    Args:
        left: how many more values there may be; a few lines of aliases can stand for more than fit in memory.

    Raises:
        ValueError: there are more, or a text that no message could show.
    """
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"its aliases stand for more than {_VALUES} values")
    if isinstance(node, dict):
        return {_unshared(key, left): _unshared(value, left) for key, value in node.items()}
    if isinstance(node, list):
        return [_unshared(item, left) for item in node]
    if isinstance(node, str) and not node.isascii() and any("\ud800" <= c <= "\udfff" for c in node):
        raise ValueError("half a surrogate pair, which is no character")
    return node


def load_data(source: str, path: str, assignments: tuple[str, ...] = ()) -> Data:
    """A data set outside a recipe: its source, its path and ``field=value`` assignments, checked.

    Raises:
        ConfigError: with the path of each bad field.
    """
    tree: JsonObject = {"source": source, "path": path}
    for assignment in assignments:
        _assign(tree, assignment)
    try:
        return Data.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, path) from None


def checked(kind: type[Kind], tree: Any, source: str) -> Kind:
    """A section from plain values, such as those of a form or a schedule; ``source`` is named in messages.

    Raises:
        ConfigError: with the path of each bad field.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, source) from None


def load_tree(path: Path, kind: str) -> JsonObject:
    """The sections of a YAML file of a ``kind``, not yet checked.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="utf-8").replace("${package}", str(Path(__file__).resolve().parent.parent))
    except OSError as error:
        raise ConfigError(f"{kind} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{kind} {path} is not UTF-8 text") from None
    try:
        tree = _parsed(text)
    except ValueError as error:
        raise ConfigError(f"{kind} {path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{kind} {path} is not a mapping of sections")
    return tree


def load_recipe(path: Path, assignments: tuple[str, ...] = ()) -> Recipe:
    """Read a YAML recipe, apply ``a.b=value`` assignments, check it.

    Relative paths in a recipe are relative to the working directory. ``${package}`` stands for the folder of the
    installed ``paced`` package, where the tiny checkpoints lie.

    Raises:
        ConfigError: with the path of each bad field.
    """
    tree = load_tree(path, "recipe")
    for assignment in assignments:
        _assign(tree, assignment)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, str(path)) from None


def with_changes(recipe: Recipe, source: str, **fields: Any) -> Recipe:
    """The recipe with other values of some fields, checked as if it had been written so.

    Raises:
        ConfigError: with ``source`` and the path of each bad field.
    """
    try:
        return Recipe.model_validate(recipe.model_dump() | fields)
    except ValidationError as error:
        raise _explain(error, source) from None
