"""Contracts of the sources: nothing is unpickled or evaluated, and what must start fast imports no torch."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from paced.config import Recipe, Retraining

ROOT = Path(__file__).parents[2]
SOURCES = sorted(f for folder in ("paced", "tasks", "flows", "deployments") for f in (ROOT / folder).rglob("*.py"))
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    ("torch", "load"),
    ("torch", "save"),
    ("pd", "read_pickle"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("os", "system"),
    ("os", "popen"),
    ("subprocess", "getoutput"),
    ("subprocess", "getstatusoutput"),
}
METHODS = {"to_pickle", "read_pickle", "recv"}  # a pipe's recv() unpickles, recv_bytes() does not


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What in a module can run code that came with data."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            yield from (f"{line}: import {a.name}" for a in node.names if a.name.partition(".")[0] in PICKLES)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (node.module or "").partition(".")[0] in PICKLES or (node.module, alias.name) in ATTRIBUTES:
                    yield f"{line}: from {node.module} import {alias.name}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield f"{line}: {node.func.id}()"
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield f"{line}: .{node.attr}"
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr) in ATTRIBUTES
        ):
            yield f"{line}: {node.value.id}.{node.attr}"
        elif (
            isinstance(node, ast.keyword)
            and node.arg in {"allow_pickle", "shell"}
            and not (isinstance(node.value, ast.Constant) and node.value.value is False)
        ):
            yield f"{line}: {node.arg}="


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    assert list(unsafe(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "from torch import load",
        "eval('1')",
        "df.to_pickle(p)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f)",
        "import joblib",
        "connection.recv()",
        "os.system(line)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_the_check_finds_what_it_looks_for(text: str) -> None:
    assert list(unsafe(ast.parse(text)))


@pytest.mark.parametrize(
    "module", ["paced.config", "paced.storage.artifacts", "paced.stage", "paced.verify", "paced.weighting"]
)
def test_light_modules_import_no_torch(module: str) -> None:
    heavy = "{'torch', 'transformers', 'accelerate', 'vllm', 'prefect', 'mlflow'}"
    script = f"import sys, {module}; found = {heavy} & sys.modules.keys(); sys.exit(str(found) if found else 0)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr


def test_one_file_of_tests_starts_fast() -> None:
    """What every test imports loads neither Prefect nor torch, so that a small test takes no longer than it must."""
    script = "import sys, conftest, harness; print({'prefect', 'torch'} & {*sys.modules})"
    path = os.pathsep.join(str(ROOT / name) for name in ("tests", "src"))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.stdout == "set()\n", done.stdout + done.stderr


def test_imports_go_down_only() -> None:
    """Each folder of paced/ says what belongs in it, and the contract names every one of them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rooms,) = (c for c in contracts if c["name"].startswith("Rooms"))
    names = {f"paced.{p.parent.name}" for p in (ROOT / "paced").glob("*/__init__.py")}
    assert names <= set(rooms["layers"])
    rooms_and_modules = [p for p in (ROOT / "paced").iterdir() if not p.name.startswith("_") and p.name != "py.typed"]
    assert len(rooms_and_modules) <= 20
    for path in (ROOT / "paced").rglob("__init__.py"):
        module = ast.parse(path.read_text())
        assert len((ast.get_docstring(module) or "").splitlines()) >= 3 or path.parent.name == "paced", path
        assert all(isinstance(n, ast.Expr | ast.ImportFrom | ast.Assign) for n in module.body), f"{path} holds logic"


@pytest.mark.parametrize("package", ["paced", "paced_recipes"])
def test_a_wheel_holds_every_file_that_is_read(package: str) -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][package]
    folder = ROOT / "src" / package
    shipped = {path for pattern in patterns for path in folder.resolve().glob(pattern)}
    files = {path for path in folder.resolve().rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path for path in files - shipped if not path.name.endswith(".log.jsonl")} == set()


def editors(schema: Any, path: str = "") -> Iterator[str]:
    """Where Prefect's form would show a JSON editor: any mapping, and whatever may be one of several kinds."""
    if isinstance(schema, list):
        for item in schema:
            yield from editors(item, path)
    if not isinstance(schema, dict):
        return
    if "discriminator" in schema or "oneOf" in schema:
        yield f"{path}: one of several"
    if len([x for x in schema.get("anyOf", ()) if x.get("type") != "null"]) > 1:
        yield f"{path}: any of several"
    if schema.get("type") == "object" and "properties" not in schema:
        yield f"{path}: a mapping"
    for key, value in schema.items():
        if key == "default":
            continue
        yield from editors(value, path if key in ("properties", "$defs", "items", "anyOf") else f"{path}.{key}")


@pytest.mark.parametrize("model", [Recipe, Retraining], ids=lambda m: m.__name__)
def test_forms_need_no_json(model: type[BaseModel]) -> None:
    assert list(editors(model.model_json_schema())) == []


def test_the_check_of_forms_finds_what_it_looks_for() -> None:
    class Cat(BaseModel):
        kind: Literal["cat"]

    class Dog(BaseModel):
        kind: Literal["dog"]

    class Bad(BaseModel):
        shares: dict[int, float]
        pet: Cat | Dog
        known: Annotated[Cat | Dog, Field(discriminator="kind")]
        many: tuple[dict[str, int], ...] = ()

    assert [x.rpartition(".")[2] for x in editors(Bad.model_json_schema())] == [
        "shares: a mapping", "pet: any of several", "known: one of several", "many: a mapping",
    ]  # fmt: skip


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for file in SOURCES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_few_dictionaries_of_anything() -> None:
    """A structure that is known has a type of its own, so that a misspelt key is an error of the type checker."""
    lines = [line for file in SOURCES for line in file.read_text().splitlines()]
    assert sum("dict[str, Any]" in line for line in lines) < 60
