"""``import paced``: what it offers, what it imports, weights of pass counts, grading, and what it refuses."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paced
from paced.config import Weights
from paced.config.stages import WeightsConfig
from paced.errors import ConfigError, DataError, NothingToLearn
from paced.weighting import normalised, raw_weights, with_floor

ROOT = Path(__file__).parents[2]


def test_what_type_checkers_see_is_what_is_offered() -> None:
    """The names of ``__all__``, those imported for a type checker, and those that can be had."""
    tree = ast.parse((ROOT / "paced" / "__init__.pyi").read_text())
    seen = {a.asname: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert sorted(seen) == sorted(paced.__all__)
    for name, module in seen.items():
        assert name is not None
        assert getattr(paced, name) is getattr(sys.modules[str(module)], name)
        assert getattr(paced, name).__doc__
    assert set(paced.__all__) <= set(dir(paced))
    with pytest.raises(AttributeError, match="'paced' has no attribute 'weihgts'"):
        paced.weihgts  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import paced", "numpy pandas pydantic torch transformers prefect mlflow"),
        ("import paced; paced.weights([1], samples=2)", "torch transformers prefect mlflow"),
        ("import paced; paced.grade('1', '1')", "torch transformers prefect mlflow"),
        ("import paced; paced.run", "torch transformers prefect mlflow"),
        ("import paced; paced.PacedLoss", "transformers prefect mlflow"),
        ("import paced; paced.stored_targets", "transformers prefect mlflow"),
    ],
)
def test_a_name_costs_what_it_needs(program: str, absent: str) -> None:
    check = f"import sys\n{program}\nsys.exit(str(sorted(set({absent.split()!r}) & sys.modules.keys()) or '') or 0)"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_weights_by_hand() -> None:
    """p = 0, 1/4, 1/2, 1: p(1-p) = 0, 3/16, 1/4, 0, of mean 7/32 over the two that are kept."""
    found = paced.weights([0, 2, 4, 8], samples=8)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [0, 6 / 7, 8 / 7, 0], rtol=1e-15)
    np.testing.assert_array_equal(found, paced.weights([0, 2, 4, 8], wrong=[8, 6, 4, 0]))
    np.testing.assert_array_equal(found, paced.weights(np.array([0, 2, 4, 8]), samples=[8] * 4))


@pytest.mark.parametrize(
    ("scheme", "settings"),
    [
        ("beta", {"alpha": 2.0, "beta": 0.5}),
        ("beta", {"shrinkage": (0.5, 0.5), "normalise": "all"}),
        ("hard_filter", {"low": 0.1, "high": 0.6, "floor": 0.0}),
        ("hard_filter", {"floor": 0.1}),
        ("uniform", {}),
    ],
)
def test_weights_are_the_stage_s(scheme: Any, settings: dict[str, Any]) -> None:
    """Also of a problem that nobody could grade."""
    correct, wrong = np.array([0.0, 1, 3, 5, 0]), np.array([8.0, 7, 5, 2, 0])
    config = WeightsConfig(scheme=scheme, weights=Weights(**settings))
    raw = with_floor(raw_weights(correct, wrong, config), correct + wrong > 0, config.weights.floor)
    expected = normalised(raw, config.weights.normalise)
    found = paced.weights(correct, wrong=wrong, scheme=scheme, **settings)
    np.testing.assert_array_equal(found, expected)
    assert found[-1] == 0


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"correct": [1]}, DataError, "either wrong or samples"),
        ({"correct": [1], "wrong": [1], "samples": 2}, DataError, "either wrong or samples"),
        ({"correct": [1, 9], "samples": 8}, DataError, "problem 1 has more correct responses than samples"),
        ({"correct": [1.5], "samples": 8}, DataError, "correct: counts must be whole numbers"),
        ({"correct": [1], "wrong": [-1]}, DataError, "wrong: counts must be whole numbers"),
        ({"correct": ["x"], "samples": 8}, DataError, "correct: not an array of numbers"),
        ({"correct": [1, 2], "wrong": [1]}, DataError, "one number a problem"),
        ({"correct": [[1, 2]], "samples": 8}, DataError, "one number a problem"),
        ({"correct": [], "samples": 8}, DataError, "no problem has a known verdict"),
        ({"correct": [0, 0], "wrong": [0, 0]}, DataError, "no problem has a known verdict"),
        ({"correct": [0, 8], "samples": 8}, NothingToLearn, "every weight is zero"),
        ({"correct": [1], "samples": 8, "scheme": "best"}, ConfigError, "scheme"),
        ({"correct": [1], "samples": 8, "alpha": -1}, ConfigError, "alpha: Input should be greater"),
        ({"correct": [1], "samples": 8, "gamma": 1}, ConfigError, "gamma"),
        ({"correct": [1], "samples": 8, "scheme": "uniform", "floor": 0.1}, ConfigError, "floor has no effect"),
        ({"correct": [1], "samples": 8, "low": 0.1}, ConfigError, "low has no effect with scheme 'beta'"),
    ],
)
def test_counts_and_settings_that_are_refused(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        paced.weights(**given)
    assert type(raised.value) is error and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({"response": "So it is \\boxed{\\frac{1}{2}}.", "gold": "0.5"}, "correct"),
        ({"response": "So it is \\boxed{\\frac{1}{3}}.", "gold": "0.5"}, "wrong"),
        ({"response": "So it is \\boxed{0.5}", "gold": "0.5", "finish": "length"}, "wrong"),
        ({"response": "", "gold": "0.5", "finish": "error"}, "unknown"),
    ],
)
def test_grading(given: dict[str, Any], outcome: str) -> None:
    assert paced.grade(**given).outcome == outcome


def test_a_run_is_refused_before_it_is_started(tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / "tiny.yaml"
    with pytest.raises(ConfigError, match=r"weights\.alpha"):
        paced.run(recipe, {"weights.alpha": -1}, home=tmp_path / "home")
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        paced.run(tmp_path / "missing.yaml", home=tmp_path / "home")
    assert not (tmp_path / "home").exists()
