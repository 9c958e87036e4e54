"""vLLM's process ends with the stage that started it, however that ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Chain, environment, eventually, gone, processes_of, vllm_python

from paced.config import Engine
from paced.sampling.engines.vllm import PROGRAM


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_engine_ends_with_its_stage(number: signal.Signals, chain: Chain, tmp_path: Path) -> None:
    """Already while it starts, when it answers nobody yet."""
    vllm_python()
    home = tmp_path / "home"
    spec = chain.specs["rollouts"].model_copy(update={"home": str(home), "engine": Engine(kind="vllm")})
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    program = [sys.executable, "-m", "paced", "rollouts", "--spec", str(tmp_path / "spec.json")]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, env=environment(home)) as process:
        eventually(lambda: any(PROGRAM.name in line for line in processes_of(home).values()), 120, "it starts vLLM")
        process.send_signal(number)
        assert process.wait(30) == (-number if number == signal.SIGKILL else 130)
    gone(home)
