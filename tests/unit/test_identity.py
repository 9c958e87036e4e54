"""Identity laws: the same inputs give the same identity, what matters changes it, what does not matter does not."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from paced.config import Engine, Runtime
from paced.config.reading import load_recipe
from paced.errors import DataError
from paced.stage import STAGES, Spec
from paced.storage.artifacts import Ref
from paced.storage.identity import canonical, digest, model_identity
from tasks.run import run_name

CONFIG = {"seed": 1, "sampling": {"temperature": 1.0, "top_k": 0}, "mix": [1, 2], "first": None}
MODEL = Path(__file__).parents[2] / "paced" / "tiny" / "student"
INPUTS = {
    "model": Ref(kind="model", path="/a", identity="sha256:1"),
    "problems": Ref(kind="prepare", path="/b", identity="sha256:2"),
}
BASE: dict[str, Any] = {"stage": "rollouts", "home": "/home", "config": CONFIG, "inputs": INPUTS}


def identity(**changed: Any) -> str:
    return Spec.model_validate(BASE | changed).identity


def test_what_does_not_matter() -> None:
    base = identity()
    assert base == identity()
    assert base.startswith("sha256:")
    assert len(base) == 71
    assert base == identity(home="/elsewhere")
    assert base == identity(runtime=Runtime(device="cuda", threads=3, sample_rows=1))
    assert base == identity(engine=Engine())
    shared = identity(engine=Engine(kind="vllm"))
    assert shared == identity(engine=Engine(kind="vllm", tensor_parallel=8, data_parallel=2, memory_share=0.5))
    assert shared == identity(engine=Engine(kind="vllm", python="/elsewhere/bin/python"))
    assert base == identity(engines={"student": Engine(kind="vllm")})
    assert base == identity(config=dict(reversed(CONFIG.items())), inputs=dict(reversed(INPUTS.items())))
    moved = {
        name: Ref(kind="other", path="/moved", identity=ref.identity, digest="sha256:9") for name, ref in INPUTS.items()
    }
    assert base == identity(inputs=moved)
    spec = Spec.model_validate(BASE)
    assert Spec.model_validate_json(spec.model_dump_json()).identity == base  # as the stage's own process sees it
    assert spec.folder != Spec.model_validate(BASE | {"home": "/x"}).folder


def test_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = {"model": INPUTS["problems"], "problems": INPUTS["model"]}
    other = INPUTS | {"model": Ref(kind="model", path="/a", identity="sha256:3")}
    found = [
        identity(),
        identity(stage="teacher"),
        identity(config=CONFIG | {"seed": 2}),
        identity(config=CONFIG | {"sampling": {"temperature": 1.1, "top_k": 0}}),
        identity(config=CONFIG | {"mix": [2, 1]}),
        identity(config=CONFIG | {"first": 0}),
        identity(config=CONFIG | {"more": None}),
        identity(engine=Engine(kind="vllm")),
        identity(engine=Engine(kind="server", url="http://host/v1")),
        identity(inputs=swapped),
        identity(inputs=other),
        identity(inputs={"model": INPUTS["model"]}),
        identity(inputs=INPUTS | {"extra": INPUTS["model"]}),
    ]
    monkeypatch.setitem(STAGES, "rollouts", STAGES["rollouts"]._replace(algorithm=99))
    found.append(identity())
    assert len(set(found)) == len(found)


def test_the_interpreter_of_vllm_makes_no_other_run() -> None:
    path = Path(__file__).parents[2] / "recipes" / "qwen3_8b_to_1.7b.yaml"
    pythons = ("student.engine.python=/a/bin/python", "teacher.engine.python=/b/bin/python")
    recipe, moved = load_recipe(path), load_recipe(path, pythons)
    assert (recipe.student.engine, recipe.teacher.engine) != (moved.student.engine, moved.teacher.engine)
    assert recipe.settings() == moved.settings()
    assert run_name(recipe) == run_name(moved)


def test_canonical_is_one_text_a_value() -> None:
    assert canonical({"b": 1, "a": [True, None, "é"]}) == '{"a":[true,null,"é"],"b":1}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": "2"})
    with pytest.raises(ValueError, match="JSON compliant"):
        digest(float("nan"))


def test_model_identity_follows_contents(tmp_path: Path) -> None:
    base = model_identity(MODEL)
    copy = tmp_path / "elsewhere" / "named otherwise"
    shutil.copytree(MODEL, copy)
    for name in ("README.md", "optimizer.pt", "training_args.bin"):
        (copy / name).write_text("does not decide what the model answers")
    assert model_identity(copy) == base
    found = {base}
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"):
        path = copy / name
        before = path.read_bytes()
        path.write_bytes(before + b" ")  # a process that lives on must see it
        found.add(model_identity(copy))
        path.write_bytes(before)
        os.utime(path, ns=(1, 1))
    assert len(found) == 6
    assert model_identity(copy) == base
    (copy / "modeling_own.py").write_text("x = 1")  # code of the model's own decides too
    assert model_identity(copy) not in found
    (copy / "modeling_own.py").unlink()
    (copy / "chat_template.jinja").rename(copy / "moved.jinja")
    assert model_identity(copy) not in found


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        model_identity(tmp_path / "nothing")
    for name, rest, says in (
        ("config.json", "model.safetensors", "no config.json"),
        ("model.safetensors", "config.json", "pickled"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(MODEL / rest, folder)
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
        with pytest.raises(DataError, match=says) as error:
            model_identity(folder)
        assert str(folder) in str(error.value)
        assert "\n" not in str(error.value)


def test_refs_survive_json() -> None:
    ref = INPUTS["model"]
    assert Ref.model_validate(json.loads(ref.model_dump_json())) == ref
