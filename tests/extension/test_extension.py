"""A package of somebody's own adds a loss, a weighting, a verifier and a data source, and nothing here is changed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import pytest
from harness import SMALL, Finished, Outcome, environment, finished, gone, paced, run_arguments, told

from paced.tiny.world import tasks

PACKAGE = Path(__file__).parent / "package"
RECORD = "from paced.config.catalog import LossRecord\nOTHER = LossRecord('other_example:nothing', 'other')\n"
CHANGES = (
    "training.steps=4",
    "training.warmup=1",
    "consolidation={steps: 2, rounds: 1}",
    "evaluation.benchmarks.0.data.problems=24",
    "evaluation.benchmarks.0.data.verifier=last_line",
    "weights.options={width: 0.3}",
    "arms=[{name: peak, scheme: peak, loss: total_variation}, {name: plain, schedule: forward}]",
)


def install(target: Path, source: Path) -> None:
    """Install a package into a folder by pip, without a network; its source is copied, because pip builds in it."""
    copy = target.with_name(f"{target.name}-source-{source.name}")
    shutil.copytree(source, copy)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(copy)], check=True, env=os.environ | {"PIP_CONFIG_FILE": ""})


def seen(*folders: Path) -> dict[str, str]:
    """An environment in which packages in these folders are installed."""
    return {"PYTHONPATH": os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])}


def installed(folder: Path, name: str, points: str, module: str) -> Path:
    """A folder with what pip would have left of a package with one module ``other_example``."""
    about = folder / f"{name}-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(points)
    (folder / "other_example.py").write_text(module)
    return folder


def commands(env: dict[str, str], home: Path, *lines: list[str]) -> list[Outcome]:
    """Commands that start no flow, one after the other in one new process: most of the time is its start."""
    program = (
        "import json, pathlib, sys; sys.path.insert(0, sys.argv[1]); from harness import told;"
        "print(json.dumps([told(pathlib.Path(sys.argv[2]), *line) for line in json.loads(sys.argv[3])]))"
    )
    words = [str(Path(__file__).parents[1]), str(home), json.dumps(lines)]
    done = subprocess.run([sys.executable, "-c", program, *words], env=environment(home, env), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return [Outcome(*outcome) for outcome in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example is installed in."""
    target = tmp_path_factory.mktemp("site") / "packages"
    install(target, PACKAGE)
    return target


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "prompts.txt"
    file.write_text("\n".join(task.prompt for task in islice(tasks(5, {1: 1, 2: 2, 3: 3}), 60)))
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("extension") / "home"
    yield home
    gone(home)


@pytest.fixture(scope="module")
def small(data: Path) -> tuple[str, ...]:
    kept = [a for a in SMALL if not a.startswith(("data.", "arms", "training.steps", "training.warmup", "consol"))]
    return (*kept, f"data={{source: prompts, path: {data}, problems: 48}}", *CHANGES)


@pytest.fixture(scope="module")
def run(home: Path, site: Path, small: tuple[str, ...], prefect: Mapping[str, str]) -> Finished:
    return finished(home, paced(home, *run_arguments(small=small), env=seen(site) | prefect))


def settings(run: Finished, label: str) -> dict[str, object]:
    return json.loads((Path(run.stages[label]["path"]) / "manifest.json").read_text())["config"]


def test_a_run_uses_all_four(run: Finished) -> None:
    """The distribution and its version are in the identity of each stage that uses something of it, and of no other."""
    used = {label: settings(run, label).get("extensions") for label in run.stages}
    mine = "paced-example 1.2.0"
    assert used["0/prepare"] == {"data source/prompts": mine, "verifier/last_line": mine}
    assert used["benchmark/arithmetic"] == {"verifier/last_line": mine}
    assert used["peak/0/weights"] == used["peak/0/reweight"] == {"weighting/peak": mine}
    assert used["peak/0/train_forward"] == used["peak/0/train_reverse_0"] == {"loss/total_variation": mine}
    others = ("benchmark/sorting", "0/rollouts", "plain/0/weights", "plain/0/train_forward", "base/evaluate", "compare")
    assert [used[label] for label in others] == [None] * len(others)
    assert settings(run, "peak/0/weights")["weights"] == {
        "normalise": "kept", "options": [{"name": "width", "value": 0.3}]
    }  # fmt: skip


def test_the_package_decides_weights_and_verdicts(run: Finished) -> None:
    import numpy as np
    import pandas as pd

    table = pd.read_parquet(Path(run.stages["peak/0/weights"]["path"]) / "pass_rates.parquet")
    rate = table["pass_rate"].to_numpy(float)
    bell = np.where(rate > 0, np.exp(-((rate - 0.5) ** 2) / (2 * 0.3**2)), 0)
    np.testing.assert_allclose(table["raw_weight"], bell)
    graded = pd.read_parquet(Path(run.stages["0/rollouts"]["path"]) / "rollouts.parquet")
    assert set(graded["verdict"]) == {"correct", "wrong"}
    assert 0 < (graded["verdict"] == "correct").mean() < 1


def test_the_report_shows_them(run: Finished, site: Path) -> None:
    page = run.folder / "report.html"
    page.unlink()
    (outcome,) = commands(seen(site), run.home, ["report", run.folder.name])
    assert outcome.status == 0, outcome.err
    assert "peak" in page.read_text()
    assert run.summary["arms"]["peak"]["scheme"] == "peak"


def test_a_report_without_the_package_says_what_is_missing(run: Finished) -> None:
    outcome = told(run.home, "report", run.folder.name)
    assert outcome.status == 1
    assert "arms.0.scheme: " in outcome.err and "there is no weighting 'peak'" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_plan_counts_its_problems(run: Finished, site: Path, small: tuple[str, ...]) -> None:
    (outcome,) = commands(seen(site), run.home, ["plan", *run_arguments(small=small)[1:]])
    assert outcome.status == 0, outcome.err
    assert "train reverse KL (two_stage)" in outcome.out


def test_an_ablation_has_them_on_its_axes(
    run: Finished, site: Path, small: tuple[str, ...], prefect: Mapping[str, str]
) -> None:
    axes = ["--schemes", "peak", "--losses", "total_variation,akl"]
    changes = [word for a in small if not a.startswith("seeds") for word in ("--set", a)]
    recipe = run_arguments(small=())[1]
    ablated = finished(run.home, paced(run.home, "ablate", recipe, *axes, *changes, env=seen(site) | prefect))
    assert [arm["name"] for arm in ablated.record["arms"]] == ["peak_total_variation_forward", "peak_akl_forward"]
    assert ablated.stages["0/rollouts"]["cached"]


def test_they_are_listed(home: Path, site: Path) -> None:
    (outcome,) = commands(seen(site), home, ["extensions"])
    assert outcome.status == 0, outcome.err
    rows = [line.split() for line in outcome.out.splitlines()[1:]]
    assert sorted((r[0], "paced-example" in r, "1.2.0" in r, str(site) in r[-1]) for r in rows) == [
        (name, True, True, True) for name in ("last_line", "peak", "prompts", "total_variation")
    ]
    assert "no installed package" in told(home, "extensions").out


NO_EFFECT = {
    "weights.options={heigth: 1}": "weights.options: heigth has no effect: no arm uses a scheme with this option",
    "arms=[{name: plain}]": "weights.options: width has no effect",
    "weights.alpha=2": "weights.alpha has no effect: no arm uses scheme 'beta'",
    "arms.0.loss=other_example:OTHER": "arms.0.loss: there is no loss 'other_example:OTHER'; there are:",
    "data.source=/tmp/mine.py": "data.source: there is no data source '/tmp/mine.py'",
    "data.verifier=nobody": "data.verifier: there is no verifier 'nobody'; there are: mathematics",
}


def test_what_has_no_effect_is_refused(home: Path, site: Path, small: tuple[str, ...]) -> None:
    def line(change: str) -> list[str]:
        alone = ("arms=[{name: peak, scheme: peak}]",) if change.startswith("weights.alpha") else ()
        return run_arguments(change, small=(*small, *alone))

    for outcome, says in zip(commands(seen(site), home, *map(line, NO_EFFECT)), NO_EFFECT.values(), strict=True):
        assert outcome.status == 1 and says in outcome.err, outcome.err
        assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "points", "module", "says"),
    [
        ("taken", "[paced.losses]\nakl = other_example:OTHER", RECORD,
         "the loss 'akl' of package taken 0.1 has the name of a built-in loss: rename or uninstall it"),
        ("twice", "[paced.losses]\ntotal_variation = other_example:OTHER", RECORD,
         "the loss 'total_variation' of package paced-example 1.2.0 has the name of one of package twice"),
        ("spelt", "[paced.losses]\nMine = other_example:OTHER", RECORD,
         "the loss 'Mine' of package spelt 0.1: a name has only small letters, digits and _"),
        ("broken", "[paced.losses]\nmine = other_example:OTHER", "import nowhere",
         "the loss 'mine' of package broken 0.1: other_example:OTHER cannot be imported (ModuleNotFoundError: No"),
        ("hollow", "[paced.losses]\nmine = other_example:OTHER", RECORD,
         "other_example:nothing cannot be imported (AttributeError: "),
        ("other", "[paced.weightings]\nmine = other_example:OTHER", RECORD,
         "the weighting 'mine' of package other 0.1: other_example:OTHER is no WeightingRecord"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, site: Path, small: tuple[str, ...], prefect: Mapping[str, str],
    name: str, points: str, module: str, says: str,
) -> None:  # fmt: skip
    """Listed with the others, and refused before anything is paid for."""
    kind = "scheme" if "weightings" in points else "loss"
    mine = f"arms=[{{name: mine, {kind}: mine}}]" if "mine" in points else "name=small"
    options = () if "mine" not in points else ("weights.options=[]",)
    env = seen(site, installed(tmp_path / "packages", name, points, module))
    run = run_arguments(mine, *options, small=small)
    if name == "hollow":  # its record can be read: the run's preflight finds out
        outcomes = commands(env, tmp_path / "home", ["extensions"])
        outcomes.append(paced(tmp_path / "home", *run, env=env | prefect))
    else:
        outcomes = commands(env, tmp_path / "home", ["extensions"], run)
    for outcome in outcomes:
        assert outcome.status == 1 and says in outcome.err, outcome.err
    assert not (tmp_path / "home" / "store").exists()


def test_a_verifier_that_does_not_end_decides_nothing(site: Path) -> None:
    script = (
        "from paced.verify import Sample, Verifier; v = Verifier(1);"
        "found = v.grade([Sample('prompts', r, '1', '', 'stop') for r in ('loop', '1')]); v.__exit__();"
        "print([(x.outcome, x.reason) for x in found])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ | seen(site)
    )
    assert done.stdout.strip() == str(
        [("unknown", "took longer than 1.2 s of processor time"), ("correct", "verifier 'last_line'")]
    )
