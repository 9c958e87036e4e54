"""Commands that run flows (``paced run``, ``demo``, ``ablate`` and others), ``paced fill``, and that look at runs."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from paced.config.catalog import LOSSES, SCHEDULES, WEIGHTINGS
from paced.errors import ConfigError, Stopped
from paced.storage.identity import commit_of
from paced.storage.runs import RunSummary
from paced_deployments import environment
from paced_deployments.commands.named import check_paths, join_platform, run_folder

ROOT = Path(__file__).parent.parent.parent


def add_commands(commands: Any) -> None:
    """The commands and their options; ``commands`` are argparse's subparsers."""
    run = commands.add_parser("run", help="run a recipe; the same command resumes an interrupted run")
    run.add_argument("recipe", type=Path, help="YAML file, see recipes/")
    run.add_argument(
        "--set", action="append", default=[], metavar="a.b=value", help="change one setting; may be repeated"
    )
    run.set_defaults(do=run_command)

    fill = commands.add_parser(
        "fill", help="do what a recipe needs before it is trained, together with other hosts (docs/scale.md)"
    )
    fill.add_argument("recipe", type=Path, help="YAML file, as 'paced run' takes it")
    fill.add_argument(
        "--set", action="append", default=[], metavar="a.b=value", help="change one setting; may be repeated"
    )
    fill.set_defaults(do=fill_command)

    demo = commands.add_parser("demo", help="the whole method on the tiny world, in minutes on two CPU cores")
    demo.add_argument("--set", action="append", default=[], metavar="a.b=value")
    demo.set_defaults(do=run_command, recipe=ROOT / "paced_recipes" / "tiny.yaml")

    ablate = commands.add_parser("ablate", help="weightings x schedules x seeds from one recipe, as one run")
    ablate.add_argument("recipe", type=Path, help="YAML file; its arms and seeds are replaced by the grid")
    ablate.add_argument(
        "--schemes", default=",".join(WEIGHTINGS), metavar="A,B",
        help=f"weightings: of {', '.join(WEIGHTINGS)}, or a package's",
    )  # fmt: skip
    ablate.add_argument("--schedules", default="forward", metavar="A,B", help=f"of {', '.join(SCHEDULES)}")
    ablate.add_argument("--seeds", default="0", metavar="N,N")
    ablate.add_argument(
        "--exponents", default="", metavar="A:B,A:B", help="try scheme beta with each of these alpha:beta"
    )
    ablate.add_argument(
        "--losses",
        default="",
        metavar="A,B",
        help=f"of {', '.join(LOSSES)}, or a package's: each in all of an arm's stages",
    )
    ablate.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change one setting")
    ablate.set_defaults(do=ablate_command)

    evaluate = commands.add_parser("evaluate", help="judge a model beside the recipe's student, on its benchmarks")
    evaluate.add_argument("recipe", type=Path, help="YAML file; its student and its evaluation count")
    evaluate.add_argument(
        "--model", required=True, metavar="MODEL", help="folder, or a registered model: models:/NAME@champion, /NAME/3"
    )
    evaluate.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change one setting")
    evaluate.set_defaults(do=evaluate_command)

    diagnose = commands.add_parser(
        "diagnose", help="signal of the student's gradients by pass rate, and the kernel that fits it"
    )
    diagnose.add_argument("recipe", type=Path, help="YAML file; its first seed is used, and nothing is trained")
    diagnose.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change one setting")
    diagnose.set_defaults(do=diagnose_command)

    compare = commands.add_parser(
        "compare", help="arms of several runs on the same problems, paired, here and in MLflow"
    )
    compare.add_argument("runs", nargs="+", metavar="RUN", help="name of a run, or its folder")
    compare.set_defaults(do=compare_command)

    report = commands.add_parser("report", help="draw a run's report again, from its artifacts alone")
    report.add_argument("run", help="name of a run, or its folder")
    report.set_defaults(do=report_command)

    replay = commands.add_parser("mlflow-replay", help="send MLflow what it missed of a run while it was unreachable")
    replay.add_argument("run", help="name of a run, or its folder")
    replay.set_defaults(do=replay_command)


def run_command(arguments: argparse.Namespace) -> int:
    from paced.config.reading import load_recipe

    recipe = load_recipe(arguments.recipe, tuple(arguments.set))

    def start() -> RunSummary:
        from paced_flows.distill import distill

        return distill(recipe)

    return launch(recipe, arguments.recipe, start)


def fill_command(arguments: argparse.Namespace) -> int:
    from paced.config.reading import load_recipe

    recipe = load_recipe(arguments.recipe, tuple(arguments.set))
    check_paths(recipe)
    environment.apply(environment.home())
    from paced_deployments.session import at_terminal
    from paced_flows.fill import fill

    def stopped() -> NoReturn:
        raise Stopped

    with at_terminal(stopped):
        untrained = fill(recipe)
    left = f"training is left to do ({', '.join(map(str, untrained))})" if untrained else "nothing is left to do"
    print(f"{left}: paced run {arguments.recipe}")
    return 0


def ablate_command(arguments: argparse.Namespace) -> int:
    from paced.config.grid import grid
    from paced.config.reading import load_recipe

    recipe = load_recipe(arguments.recipe, tuple(arguments.set))
    schemes, schedules = (listed(text) for text in (arguments.schemes, arguments.schedules))
    seeds = [int(number(text, "--seeds", int)) for text in listed(arguments.seeds)]
    exponents: list[tuple[float, float]] = []
    for pair in listed(arguments.exponents):
        alpha, _, beta = pair.partition(":")
        exponents.append((number(alpha, "--exponents", float), number(beta, "--exponents", float)))
    axes: tuple[Any, ...] = (schemes, schedules, seeds, exponents, listed(arguments.losses))
    whole = grid(recipe, *axes)  # refused before anything is started

    def start() -> RunSummary:
        from paced_flows.ablate import ablate

        return ablate(recipe, *axes)

    return launch(whole, arguments.recipe, start)


def evaluate_command(arguments: argparse.Namespace) -> int:
    from paced.config import Teacher
    from paced.config.reading import load_recipe

    recipe, model = load_recipe(arguments.recipe, tuple(arguments.set)), arguments.model
    if not model.startswith("models:") and not Path(model).is_dir():
        raise ConfigError(f"--model: model folder {model} does not exist; a registered one is models:/NAME@champion")
    # An evaluation reads neither teacher nor training data, so they need not be there.
    read = recipe.model_copy(update={"teacher": Teacher(), "data": recipe.data.model_copy(update={"path": None})})

    def start() -> RunSummary:
        from paced_flows.evaluate import evaluate

        return evaluate(recipe, model)

    return launch(read, arguments.recipe, start)


def diagnose_command(arguments: argparse.Namespace) -> int:
    from paced.config.reading import load_recipe

    recipe = load_recipe(arguments.recipe, tuple(arguments.set))

    def start() -> RunSummary:
        from paced_flows.diagnose import diagnose

        return diagnose(recipe)

    return launch(recipe, arguments.recipe, start)


def listed(text: str) -> list[str]:
    """What stands between commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def number(text: str, option: str, kind: Callable[[str], float]) -> float:
    """A number of an option.

    Raises:
        ConfigError: it is none.
    """
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is no number") from None


def launch(recipe: Any, file: Path, start: Callable[[], RunSummary]) -> int:
    """Run the flow that ``start`` calls, on a recipe of this file, to be stopped by Ctrl-C, and print its results."""

    check_paths(recipe)
    home = environment.home()
    os.environ.setdefault("PACED_COMMIT", commit_of(file.absolute().parent))
    from paced_deployments.session import session

    with session(home) as own_prefect:
        from paced.report import table

        summary = start()
    folder = home / "runs" / summary["name"]
    print(table(summary))
    print(
        f"\nreport   {folder / 'report.html'}\nsummary  {folder / 'summary.json'}\npages    "
        + "\n         ".join(environment.pages(home, own_prefect))
    )
    return 0


def report_command(arguments: argparse.Namespace) -> int:
    from paced.report import build, table

    folder = run_folder(arguments.run)
    if not (folder / "run.json").exists():
        raise ConfigError(f"run {folder.name} has not ended yet: there is nothing to report")
    print(table(build(folder)[0]))
    print(f"\nreport   {folder / 'report.html'}")
    return 0


def compare_command(arguments: argparse.Namespace) -> int:
    folders = [run_folder(name) for name in arguments.runs]
    join_platform()
    from paced.report import table
    from paced_tasks.comparison import compare_runs

    summary, pages = compare_runs(folders, environment.home())
    print(table(summary))
    print("\n" + "\n".join(pages))
    return 0


def replay_command(arguments: argparse.Namespace) -> int:
    folder = run_folder(arguments.run)
    join_platform()
    from paced_tasks.addresses import tracking_uri
    from paced_tasks.ends import worked_on
    from paced_tasks.replay import replay

    complete, total = replay(folder, environment.home())
    print(f"{complete} of {total} tracked runs complete at {tracking_uri(environment.home())}")
    if worked_on(folder):
        print(f"run {folder.name} goes on: what it still logs is sent as it comes")
    return 0 if complete == total else 1
