"""The wheel as a guest: run from the folder of a project that has tasks, flows and deployments of its own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest
from harness import BIN, ROOT, SMALL, TINY, environment, free_port, gone

import paced
from paced.config.reading import load_recipe

OWN = {
    "tasks.py": "NAME = 'my tasks'\n",
    "flows/__init__.py": "NAME = 'my flows'\n",
    "deployments.py": "NAME = 'my deployments'\n",
}


class Guest:
    """A project's folder and environment with the wheel in it, and a home below."""

    def __init__(self, folder: Path):
        self.project, self.home, self.bin = folder / "project", folder / "home", folder / "env" / "bin"
        for name, text in OWN.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        source = folder / "source"  # a build leaves files behind, which the next one would pack
        tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
        for name in filter(None, tracked):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name, follow_symlinks=False)
        wheel = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "--quiet"]
        subprocess.run([*wheel, "--wheel-dir", str(folder)], check=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
        # What the wheel depends on is lent by this environment; its own links to the repository are not followed.
        (site,) = (folder / "env").glob("lib/python*/site-packages")
        (site / "lent.pth").write_text(f"{Path(pandas.__file__).parents[1]}\n")
        (found,) = folder.glob("paced-*.whl")
        install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(site), str(found)]
        subprocess.run(install, check=True)
        for script in (*BIN.iterdir(), site / "bin" / "paced"):  # the last is the wheel's own
            if script.is_file() and script.read_bytes().startswith(f"#!{sys.executable}".encode()):
                (self.bin / script.name).write_text(script.read_text().replace(sys.executable, f"{self.bin}/python"))
                (self.bin / script.name).chmod(0o755)

    def run(self, *command: str, within: float = 300, **extra: str) -> str:
        """A program of the environment, run in the project's folder to a good end; returns what it printed."""
        env = {k: v for k, v in environment(self.home, extra).items() if k != "PYTHONPATH"}
        env["PATH"] = f"{self.bin}:{env['PATH']}"
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]], cwd=self.project, env=env, capture_output=True, text=True,
            timeout=within,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    guest = Guest(tmp_path_factory.mktemp("guest"))
    yield guest
    gone(guest.home)


def test_nothing_of_the_projects_own_is_shadowed(guest: Guest) -> None:
    script = (
        "import tasks, flows, deployments, paced, paced_tasks, paced_flows.distill, paced_deployments;"
        "print(tasks.NAME, flows.NAME, deployments.NAME);"
        "print({m.__file__.rpartition('site-packages')[0] for m in (paced, paced_tasks, paced_deployments)})"
    )
    names, places = guest.run("python", "-c", script).splitlines()
    assert names == "my tasks my flows my deployments"
    assert str(guest.bin.parent) in places and str(ROOT) not in places


def test_a_run_by_the_command(guest: Guest) -> None:
    out = guest.run("paced", "demo", *(word for a in SMALL for word in ("--set", a)))
    assert "paced - base" in out and str(guest.home) in out


def test_a_run_of_a_deployment(guest: Guest) -> None:
    ports = ("--prefect-port", str(port := free_port()), "--mlflow-port", str(free_port()))
    here = str(Path(paced.__file__).resolve().parent)
    there = guest.run("python", "-c", "import paced, pathlib; print(pathlib.Path(paced.__file__).parent)").strip()
    recipe = load_recipe(TINY, SMALL).model_dump(mode="json")
    text = json.dumps({"recipe": recipe}).replace(here, there)
    try:
        guest.run("paced", "up", *ports)
        out = guest.run(
            "python", "-m", "prefect", "deployment", "run", "distill/distill-advanced", "--params", text, "--watch",
            PREFECT_API_URL=f"http://127.0.0.1:{port}/api",
        )  # fmt: skip
    finally:
        guest.run("paced", "down")
    assert "Completed" in out
