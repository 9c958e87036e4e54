"""Commands to use before a run: ``paced data``, ``plan``, ``grade``, ``extensions``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from paced.config.catalog import SOURCES
from paced.errors import ConfigError
from paced_deployments import environment
from paced_deployments.commands.named import check_data


def add_commands(commands: Any) -> None:
    """The commands and their options; ``commands`` are argparse's subparsers."""
    data = commands.add_parser(
        "data", help="load and clean the data of a recipe, or one file, and say what was left out"
    )
    data.add_argument("what", metavar="RECIPE|FILE", help="a recipe, or with --source a data file")
    sources = ", ".join(f"{name} ({record.label})" for name, record in SOURCES.items())
    data.add_argument("--source", metavar="NAME", help=f"how the file is laid out: {sources}, or a package's")
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

    grade = commands.add_parser("grade", help="grade responses against gold answers, see docs/verifier.md")
    grade.add_argument("pairs", type=Path, help="JSONL: response, gold; optional question, finish, label, category")
    grade.add_argument("--out", type=Path, required=True, help="JSONL of verdicts, one line a pair")
    grade.add_argument("--explain", action="store_true", help="say how each verdict came about")
    grade.set_defaults(do=grade_command)

    listed = commands.add_parser(
        "extensions", help="losses, weightings, verifiers and data sources that installed packages add"
    )
    listed.set_defaults(do=extensions_command)


def data_command(arguments: argparse.Namespace) -> int:
    from paced.config import Data, Decontamination, Runtime
    from paced.config.reading import load_data, load_recipe

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
    from paced.data.spec import prepare_spec
    from paced.events import StageEvent
    from paced.report import datasheet
    from paced.stage import execute

    def tell(event: StageEvent) -> None:
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


def plan_command(arguments: argparse.Namespace) -> int:
    from paced.config.reading import load_recipe

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
    from paced.planning.plan import Assumptions, plan, plan_table

    assumptions = Assumptions(arguments.prompt, arguments.response, arguments.kept, arguments.longest)
    print(plan_table(plan(recipe, arguments.gpu, arguments.gpus, assumptions)))
    return 0


def grade_command(arguments: argparse.Namespace) -> int:
    from paced.data.grade import grade_file

    print(grade_file(arguments.pairs, arguments.out, sys.stdout if arguments.explain else None))
    return 0


def extensions_command(_: argparse.Namespace) -> int:
    from paced.config import extensions
    from paced.report.tables import aligned

    found = extensions.installed()
    if not found:
        print("no installed package adds a loss, a weighting, a verifier or a data source (docs/extensions.md)")
        return 0
    rows = [["name", "kind", "package", "version", "from"]]
    print(aligned(rows + [[e.name, e.kind, e.distribution, e.version, f"{e.target} in {e.folder}"] for e in found]))
    faults = list(filter(None, map(extensions.problem, found)))
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0
