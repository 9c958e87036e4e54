"""What a run from a form may use of the host, and that no recipe holds a password."""

import inspect
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import TINY
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from paced.config import Model, Recipe, Retraining
from paced.config.allowed import FILE, begin, check, uses
from paced.config.reading import load_recipe, with_changes
from paced.errors import ConfigError, PacedError
from paced_deployments.definitions import DEFINITIONS, Definition
from paced_flows.evaluate import evaluate

DATA = {"source": "gsm8k", "path": "/d/train.jsonl"}
SERVER = {"kind": "server", "url": "http://gpu1:8000/v1"}


def recipe(**fields: Any) -> Recipe:
    return with_changes(load_recipe(TINY), "test", **fields)


def everything() -> dict[str, Any]:
    """A recipe and a retraining that set every field by which they can reach out of themselves."""
    base = load_recipe(TINY).model_dump()
    return {
        "recipe": recipe(
            student={"path": "/m/s", "trust_remote_code": True, "engine": {"kind": "vllm", "python": "/env/python"}},
            teacher={"path": "/m/t", "engine": SERVER, "trust_remote_code": True},
            data=DATA,
            evaluation=base["evaluation"] | {"benchmarks": [{"name": "b", "data": DATA | {"path": "/d/b"}}]},
            runtime=base["runtime"] | {"accelerate": "/c/two.yaml"},
        ),
        "retraining": Retraining.model_validate({"watch": "s3://bucket/in", "notify": {"command": ["/bin/tell", "x"]}}),
    }


def owner_allows(home: Path, **lists: Any) -> None:
    (home / FILE).write_text(yaml.safe_dump(lists))


def test_every_field_that_reaches_out_is_found() -> None:
    found = {path for name, section in everything().items() for path, _, _ in uses(section, name)}
    assert found == {
        "recipe.student.path", "recipe.student.trust_remote_code", "recipe.student.engine.python",
        "recipe.teacher.path", "recipe.teacher.trust_remote_code", "recipe.teacher.engine.url", "recipe.data.path",
        "recipe.evaluation.benchmarks.0.data.path", "recipe.runtime.accelerate", "retraining.watch",
        "retraining.notify.command",
    }  # fmt: skip


ALL = {
    "folders": ["/m", "/d", "/c"], "servers": ["http://gpu1:8000", "s3://bucket/in/"],
    "programs": ["/env/python", "/bin/tell"], "trust_remote_code": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        (ALL | {"folders": ["/d", "/c"]}, "recipe.student.path: /m/s is not allowed"),
        (ALL | {"folders": ["/m", "/d/train", "/c"]}, "recipe.data.path: /d/train.jsonl"),
        (ALL | {"servers": ["s3://bucket/in"]}, "recipe.teacher.engine.url: http://gpu1:8000/v1"),
        (ALL | {"servers": ["http://gpu1:8000", "s3://bucket/i"]}, "retraining.watch: s3://bucket/in"),
        (ALL | {"programs": ["/bin/tell"]}, "recipe.student.engine.python: /env/python"),
        (ALL | {"programs": ["/env/python", "/bin"]}, "retraining.notify.command: "),
        (ALL | {"trust_remote_code": False}, "recipe.student.trust_remote_code: True"),
    ],
)
def test_what_the_owner_does_not_list_is_refused(tmp_path: Path, lists: dict[str, Any], says: str) -> None:
    owner_allows(tmp_path, **ALL)
    check(tmp_path, **everything())
    owner_allows(tmp_path, **lists)
    with pytest.raises(ConfigError) as refused:
        check(tmp_path, **everything())
    assert str(refused.value).startswith(says)
    assert f"in {tmp_path / FILE}" in str(refused.value)


def test_a_new_home_allows_itself_and_where_it_was_begun(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    inside = {"model": Model(path=str(home / "x")), "recipe": load_recipe(TINY)}  # the package's own models
    check(home, **inside)
    begun = Model(path=str(folder / "model"))
    with pytest.raises(ConfigError):
        check(home, model=begun)
    begin(home, folder)
    check(home, model=begun, **{k: v for k, v in inside.items() if k == "recipe"})
    owner_allows(home, folders=[])
    begin(home, folder)  # what the owner has written stays
    with pytest.raises(ConfigError):
        check(home, model=begun)


def test_a_link_leads_where_it_leads(tmp_path: Path) -> None:
    home, secret = tmp_path / "home", tmp_path / "secret"
    home.mkdir()
    secret.mkdir()
    (home / "link").symlink_to(secret)
    for path in (home / "link" / "model", home / ".." / "secret"):
        with pytest.raises(ConfigError):
            check(home, model=Model(path=str(path)))


@pytest.mark.parametrize("text", ["folders: 3", "nothing: []", "- 1", "a: [", "folders: [x]\nprograms: {}"])
def test_a_bad_list_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError, match=FILE) as refused:
        check(tmp_path, recipe=load_recipe(TINY))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"teacher": {"path": "/m", "engine": SERVER | {"url": "https://me:hunter2@gpu1:8000/v1"}}},
        {"student": {"path": "s3://me:hunter2@bucket/model"}},
        {"data": {"source": "gsm8k", "path": "https://me:hunter2@host/train.jsonl"}},
        {"data": {"source": "gsm8k", "path": "x.jsonl", "instruction": "see ftp://me:hunter2@host/"}},
    ],
)
def test_no_recipe_holds_a_password(fields: dict[str, Any]) -> None:
    with pytest.raises(PacedError, match="must not hold a password") as refused:
        recipe(**fields)
    assert "hunter2" not in str(refused.value)


def test_no_retraining_holds_a_password() -> None:
    for fields in ({"watch": "s3://me:hunter2@b/in"}, {"watch": "in", "notify": {"command": ["curl", "http://a:b@c"]}}):
        with pytest.raises(ValueError, match="must not hold a password"):
            Retraining.model_validate(fields)


def texts(node: Any, defined: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of a form's fields that take any text, by its JSON schema."""
    for kind in (node, *node.get("anyOf", ())):
        if "$ref" in kind:
            yield from texts(defined[kind["$ref"].rpartition("/")[2]], defined, path)
        if kind.get("type") == "string" and not kind.keys() & {"enum", "const"}:
            yield path
        for name, child in kind.get("properties", {}).items():
            yield from texts(child, defined, (*path, name))
        if "items" in kind:
            yield from texts(kind["items"], defined, (*path, "0"))


def nested(path: tuple[str, ...], value: object) -> Any:
    """The value at a path of mappings and of lists with one item."""
    for name in reversed(path):
        value = [value] if name == "0" else {name: value}
    return value


def messages(errors: Iterable[Any]) -> Iterator[str]:
    for error in errors:
        yield error.message
        yield from messages(error.context)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.name)
def test_no_field_of_a_form_takes_a_password(definition: Definition) -> None:
    """The server refuses it, whatever else is wrong, before it keeps what was filled in."""
    file, _, name = definition.entrypoint.partition(":")
    flow = getattr(import_module(file.removesuffix(".py").replace("/", ".")), name)
    schema = parameter_schema(flow).model_dump()
    fields = set(texts(schema, schema["definitions"])) - {("retraining", "files")}  # names of files, with a rule of it
    assert fields
    for path in fields:
        found = validate(nested(path, "https://me:hunter2@host"), schema)
        assert any("'https://me:hunter2@host' does not match" in line for line in messages(found)), path


def test_an_evaluation_says_no_password() -> None:
    with pytest.raises(ConfigError, match=r"model: path: must not hold a password") as refused:
        inspect.unwrap(evaluate.fn)(load_recipe(TINY), "https://me:hunter2@host/model")
    assert "hunter2" not in str(refused.value)
