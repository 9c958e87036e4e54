"""Names that a shell, a path or a template would take for something else: refused in one line, and nothing happens.

Those of models and data files may be anything, and are part of the run in tests/integration/test_team.py.
"""

import sys
from pathlib import Path

import pytest
import yaml
from harness import TINY

from paced.config.reading import load_recipe
from paced.errors import ConfigError
from paced_deployments import cli
from paced_tasks.registry import Registry

NAMES = ("$(touch x)", "a; rm -rf x", "../../x", "a/../../x", "a'b", 'a"b', "a%s", "{a}", "", " a", "A", "a\nb")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["name", "arms.0.name", "evaluation.benchmarks.0.name"])
def test_names_in_recipes(field: str, name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_recipe(TINY, (f"{field}={yaml.safe_dump(name)}",))
    assert f"{field}: String should match pattern" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", ["report", "compare", "mlflow-replay", "rollback"])
def test_names_on_the_command_line(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "outer" / "inner" / "home"
    monkeypatch.setenv("PACED_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["paced", command, name])
    if command == "rollback":
        with pytest.raises(ConfigError, match="is no name of a model"):
            Registry(home, name)
    else:
        assert cli.main() == 1
        error = capsys.readouterr().err
        assert error.startswith("error: no run ") and error.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
