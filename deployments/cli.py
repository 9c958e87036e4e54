"""The command ``paced``. Parses and checks first; Prefect, MLflow and torch are imported only when they are needed."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paced
from deployments import database, environment, retraining
from paced.errors import ConfigError, PacedError, Stopped
from paced.identity import commit_of


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
        prog="paced", description="Pass-rate-weighted distillation of language models (arXiv 2603.11178)."
    )
    top.add_argument("--version", action="version", version=f"paced {paced.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a recipe; the same command resumes an interrupted run")
    run.add_argument("recipe", type=Path, help="YAML file, see recipes/")
    run.add_argument(
        "--set", action="append", default=[], metavar="a.b=value", help="change one setting; may be repeated"
    )
    run.set_defaults(do=run_command)

    demo = commands.add_parser("demo", help="the whole method on the tiny world, in minutes on two CPU cores")
    demo.add_argument("--set", action="append", default=[], metavar="a.b=value")
    demo.set_defaults(do=run_command, recipe=Path(__file__).parent.parent / "recipes" / "tiny.yaml")

    ablate = commands.add_parser("ablate", help="weightings x schedules x seeds from one recipe, as one run")
    ablate.add_argument("recipe", type=Path, help="YAML file; its arms and seeds are replaced by the grid")
    ablate.add_argument("--schemes", default="beta,uniform,hard_filter", metavar="A,B", help="weightings")
    ablate.add_argument("--schedules", default="forward", metavar="A,B", help="of forward, reverse, two_stage")
    ablate.add_argument("--seeds", default="0", metavar="N,N")
    ablate.add_argument(
        "--exponents", default="", metavar="A:B,A:B", help="try scheme beta with each of these alpha:beta"
    )
    ablate.add_argument(
        "--losses",
        default="",
        metavar="A,B",
        help="of forward_kl, reverse_kl, jsd, akl: each in all of an arm's stages",
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

    data = commands.add_parser(
        "data", help="load and clean the data of a recipe, or one file, and say what was left out"
    )
    data.add_argument("what", metavar="RECIPE|FILE", help="a recipe, or with --source a data file")
    data.add_argument("--source", choices=("gsm8k", "math", "mmlu", "table"), help="how the file is laid out")
    data.add_argument(
        "--against", action="append", default=[], metavar="SOURCE:FILE",
        help="take the file as training data, to be kept apart from this benchmark; may be repeated",
    )  # fmt: skip
    data.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change one setting")
    data.set_defaults(do=data_command)

    plan = commands.add_parser(
        "plan", help="what a recipe will cost: tokens, bytes, FLOPs, memory, hours; loads no model"
    )
    plan.add_argument("recipe", type=Path)
    plan.add_argument("--set", action="append", default=[], metavar="a.b=value")
    plan.add_argument("--gpu", default="H100", help="A10G, RTX4090, L40S, A100-40, A100, H100 (default) or H200")
    plan.add_argument("--gpus", type=int, default=8, help="devices, for training and sampling alike (default 8)")
    plan.add_argument("--prompt", type=int, default=200, help="mean tokens of a prompt (default 200)")
    plan.add_argument("--longest", type=int, default=1000, help="tokens of the longest prompt (default 1000)")
    plan.add_argument(
        "--response", type=float, default=0.5, help="mean response, as a share of its limit (default 0.5)"
    )
    plan.add_argument("--kept", type=float, default=0.5, help="share of problems that weighting keeps (default 0.5)")
    plan.set_defaults(do=plan_command)

    report = commands.add_parser("report", help="draw a run's report again, from its artifacts alone")
    report.add_argument("run", help="name of a run, or its folder")
    report.set_defaults(do=report_command)

    grade = commands.add_parser("grade", help="grade responses against gold answers, see docs/verifier.md")
    grade.add_argument("pairs", type=Path, help="JSONL: response, gold; optional question, finish, label, category")
    grade.add_argument("--out", type=Path, required=True, help="JSONL of verdicts, one line a pair")
    grade.add_argument("--explain", action="store_true", help="say how each verdict came about")
    grade.set_defaults(do=grade_command)

    up = commands.add_parser("up", help="start the platform: Prefect server, MLflow server, worker, deployments")
    up.add_argument("--host", default=None, help="address to listen on (default 127.0.0.1)")
    up.add_argument("--prefect-port", type=int, default=None, help="default 4200")
    up.add_argument("--mlflow-port", type=int, default=None, help="default 5000")
    for server, variable in database.VARIABLES.items():
        up.add_argument(
            f"--{server}-database", metavar="URL", default=os.environ.get(variable),
            help=f"{database.FORM}; default {variable}, else SQLite in the home",
        )  # fmt: skip
    up.set_defaults(do=up_command)
    commands.add_parser("down", help="stop the platform; what runs have committed is kept").set_defaults(
        do=down_command
    )
    commands.add_parser("status", help="what of the platform runs, and where").set_defaults(do=status_command)

    cache = commands.add_parser("cache", help="what is stored: list, verify, collect garbage")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("ls", help="collections and artifacts with sizes").set_defaults(do=cache_ls)
    verify = actions.add_parser("verify", help="compare every file with its recorded sha256")
    verify.add_argument(
        "--delete", action="store_true", help="delete what is damaged, so that the next run computes it anew"
    )
    verify.set_defaults(do=cache_verify)
    fidelity = actions.add_parser("report", help="what a run's stored teacher targets lose, and what they cost")
    fidelity.add_argument("run", help="name of a run, or its folder")
    fidelity.add_argument("--tokens", type=int, default=4096, help="positions to compare, at least (default 4096)")
    fidelity.set_defaults(do=cache_report)
    gc = actions.add_parser("gc", help="list, or delete, what no run refers to")
    gc.add_argument("--delete", action="store_true", help="really delete; without it only tell")
    gc.set_defaults(do=cache_gc)

    replay = commands.add_parser("mlflow-replay", help="send MLflow what it missed of a run while it was unreachable")
    replay.add_argument("run", help="name of a run, or its folder")
    replay.set_defaults(do=replay_command)
    retraining.add_commands(commands)
    return top


def run_command(arguments: argparse.Namespace) -> int:
    from paced.config import load_recipe

    recipe = load_recipe(arguments.recipe, tuple(arguments.set))

    def start() -> dict[str, Any]:
        from flows.distill import distill

        return distill(recipe)

    return launch(recipe, arguments.recipe, start)


def ablate_command(arguments: argparse.Namespace) -> int:
    from paced.config import load_recipe
    from paced.grid import grid

    recipe = load_recipe(arguments.recipe, tuple(arguments.set))
    schemes, schedules = (listed(text) for text in (arguments.schemes, arguments.schedules))
    seeds = [int(number(text, "--seeds", int)) for text in listed(arguments.seeds)]
    exponents: list[tuple[float, float]] = []
    for pair in listed(arguments.exponents):
        alpha, _, beta = pair.partition(":")
        exponents.append((number(alpha, "--exponents", float), number(beta, "--exponents", float)))
    axes: tuple[Any, ...] = (schemes, schedules, seeds, exponents, listed(arguments.losses))
    whole = grid(recipe, *axes)  # refused before anything is started

    def start() -> dict[str, Any]:
        from flows.ablate import ablate

        return ablate(recipe, *axes)

    return launch(whole, arguments.recipe, start)


def evaluate_command(arguments: argparse.Namespace) -> int:
    from paced.config import Teacher, load_recipe

    recipe, model = load_recipe(arguments.recipe, tuple(arguments.set)), arguments.model
    if not model.startswith("models:") and not Path(model).is_dir():
        raise ConfigError(f"--model: model folder {model} does not exist; a registered one is models:/NAME@champion")
    # An evaluation reads neither teacher nor training data, so they need not be there.
    read = recipe.model_copy(update={"teacher": Teacher(), "data": recipe.data.model_copy(update={"path": None})})

    def start() -> dict[str, Any]:
        from flows.evaluate import evaluate

        return evaluate(recipe, model)

    return launch(read, arguments.recipe, start)


def diagnose_command(arguments: argparse.Namespace) -> int:
    from paced.config import load_recipe

    recipe = load_recipe(arguments.recipe, tuple(arguments.set))

    def start() -> dict[str, Any]:
        from flows.diagnose import diagnose

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


def launch(recipe: Any, file: Path, start: Callable[[], dict[str, Any]]) -> int:
    """Run the flow that ``start`` calls, on a recipe of this file, to be stopped by Ctrl-C, and print its results."""

    check_paths(recipe)
    home = environment.home()
    os.environ.setdefault("PACED_COMMIT", commit_of(file.absolute().parent))
    from deployments.session import session

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


def plan_command(arguments: argparse.Namespace) -> int:
    from paced.config import load_recipe

    recipe = load_recipe(arguments.recipe, tuple(arguments.set))
    for name, least, most in (
        ("gpus", 1, 1e6),
        ("prompt", 1, 1e7),
        ("longest", 1, 1e7),
        ("response", 1e-6, 1),
        ("kept", 0, 1),
    ):
        if not least <= getattr(arguments, name) <= most:
            raise ConfigError(f"--{name} {getattr(arguments, name)}: must lie between {least:g} and {most:g}")
    from paced.plan import Assumptions, plan, told

    assumptions = Assumptions(arguments.prompt, arguments.response, arguments.kept, arguments.longest)
    print(told(plan(recipe, arguments.gpu, arguments.gpus, assumptions)))
    return 0


def data_command(arguments: argparse.Namespace) -> int:
    from paced.config import Data, Decontamination, Runtime, load_data, load_recipe

    changes = tuple(arguments.set)
    benchmarks: dict[str, Data] = {}
    decontamination: Decontamination | None = Decontamination() if arguments.against else None
    if arguments.source is None:
        if arguments.against:
            raise ConfigError("--against goes with --source; a recipe names its benchmarks itself")
        if Path(arguments.what).suffix in (".jsonl", ".parquet", ".zip", ".csv") or Path(arguments.what).is_dir():
            raise ConfigError(f"{arguments.what} is no recipe: say how the file is laid out, with --source")
        recipe = load_recipe(Path(arguments.what), changes)
        check_data(recipe)
        training, decontamination = recipe.data, recipe.decontamination
        benchmarks = {b.name: b.data for b in recipe.evaluation.benchmarks}
        name, seed = "train", recipe.seeds[0]
    else:
        training, name, seed = load_data(arguments.source, arguments.what, changes), Path(arguments.what).stem, 0
        for against in arguments.against:
            source, _, file = against.partition(":")
            benchmarks[Path(file).stem] = load_data(source, file)
    home = environment.home()
    from paced.data.problems import prepare_spec
    from paced.report import datasheet
    from paced.stage import execute

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "log":
            print(event["message"], file=sys.stderr)

    refs = {
        n: execute(prepare_spec(str(home.absolute()), d, 0, n, {}, None, Runtime()), tell)
        for n, d in benchmarks.items()
    }
    spec = prepare_spec(
        str(home.absolute()), training, seed, "train" if decontamination else name, refs, decontamination, Runtime()
    )
    refs[name] = execute(spec, tell)
    print(datasheet.text({n: ref.folder for n, ref in refs.items()}))
    return 0


def check_paths(recipe: Any) -> None:
    """Say at once which model folder or file is not there.

    Raises:
        ConfigError: with the field path.
    """
    named = {"student.path": recipe.student.path, "teacher.path": recipe.teacher.path}
    for field, path in named.items():
        if path is not None and not Path(path).is_dir():
            raise ConfigError(f"{field}: model folder {path} does not exist")
    check_data(recipe)


def check_data(recipe: Any) -> None:
    """Say at once which file is not there.

    Raises:
        ConfigError: with the field path.
    """
    files = {"data.path": recipe.data.path}
    files |= {f"evaluation.benchmarks.{i}.data.path": b.data.path for i, b in enumerate(recipe.evaluation.benchmarks)}
    files["runtime.accelerate"] = recipe.runtime.accelerate
    for field, path in files.items():
        if path is not None and not path.startswith("hub:") and not Path(path).exists():
            raise ConfigError(f"{field}: file {path} does not exist")


def run_folder(name: str) -> Path:
    """The folder of a run given by name or path.

    Raises:
        ConfigError: there is none; says which there are.
    """
    home = environment.home()
    for folder in (Path(name), home / "runs" / name):
        if (folder / "recipe.yaml").exists():
            return folder.absolute()
    known = sorted(f.parent.name for f in (home / "runs").glob("*/recipe.yaml"))
    raise ConfigError(f"no run {name!r} in {home / 'runs'}; there are: {', '.join(known) or 'none'}")


def join_platform() -> None:
    """Use the servers of a platform that runs in the home, as ``paced run`` does, else the home's own database."""
    from deployments import platform

    platform.join(environment.home())
    environment.apply(environment.home())


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
    from tasks.comparison import compare_runs

    summary, pages = compare_runs(folders, environment.home())
    print(table(summary))
    print("\n" + "\n".join(pages))
    return 0


def grade_command(arguments: argparse.Namespace) -> int:
    from paced.verify.pairs import grade_file

    print(grade_file(arguments.pairs, arguments.out, sys.stdout if arguments.explain else None))
    return 0


def up_command(arguments: argparse.Namespace) -> int:
    from deployments import platform

    home = environment.home()
    environment.make_folders(home)
    given = {k: v for k in platform.Settings.model_fields if (v := getattr(arguments, k)) is not None}
    settings = (platform.known(home) or platform.Settings()).model_copy(update=given)
    platform.up(home, settings)
    if not settings.private:
        print(
            f"warning: whoever reaches {settings.host} can start runs and programs here, no password is asked: "
            "deployments/compose/ has passwords",
            file=sys.stderr,
        )
    print("'paced status' says how it is, 'paced down' stops it")
    return 0


def down_command(_arguments: argparse.Namespace) -> int:
    from deployments import platform

    print("stopped" if platform.down(environment.home()) else f"nothing runs in {environment.home()}")
    return 0


def status_command(_arguments: argparse.Namespace) -> int:
    from deployments import platform

    rows = platform.status(environment.home())
    if not rows:
        print(f"no platform runs in {environment.home()}; 'paced up' starts one")
        return 1
    for row in rows:
        print(
            f"{row['name']:<10} {row['state']:<10} {row['address']:<28} {'healthy' if row['healthy'] else 'no answer'}"
        )
    return 0 if all(row["healthy"] for row in rows) else 1


def replay_command(arguments: argparse.Namespace) -> int:
    folder = run_folder(arguments.run)
    join_platform()
    from tasks.tracking import replay, tracking_uri

    complete, total = replay(folder, environment.home())
    print(f"{complete} of {total} tracked runs complete at {tracking_uri(environment.home())}")
    return 0 if complete == total else 1


def cache_ls(_arguments: argparse.Namespace) -> int:
    from paced.housekeeping import listing

    print(listing(environment.home()))
    return 0


def cache_verify(arguments: argparse.Namespace) -> int:
    from paced.housekeeping import verify

    checked, damaged = verify(environment.home(), arguments.delete)
    for line in damaged:
        print(line)
    print(
        f"{checked} files checked, {len(damaged)} damaged"
        + (", deleted: run the same recipe again to compute them anew" if damaged and arguments.delete else "")
    )
    return 1 if damaged and not arguments.delete else 0


def cache_report(arguments: argparse.Namespace) -> int:
    from paced.fidelity import report, told

    print(told(report(run_folder(arguments.run), arguments.tokens)))
    return 0


def cache_gc(arguments: argparse.Namespace) -> int:
    join_platform()
    from paced.housekeeping import garbage
    from tasks.registry import registered

    home = environment.home()
    folders, size = garbage(home, arguments.delete, registered(home))
    for folder in folders:
        print(folder)
    word = "deleted" if arguments.delete else "would be deleted (add --delete)"
    print(f"{len(folders)} folders, {size / 1e6:.1f} MB {word}")
    return 0


def main() -> int:
    arguments = parser().parse_args()
    try:
        return arguments.do(arguments)
    except Stopped:
        print("stopped: the same command goes on from what is committed", file=sys.stderr)
        return 130
    except PacedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
