"""The platform of a host: ``paced up``, ``down``, ``status``."""

import argparse
import os
import sys
from typing import Any

from paced_deployments import database, environment


def add_commands(commands: Any) -> None:
    """The commands and their options; ``commands`` are argparse's subparsers."""
    up = commands.add_parser("up", help="start the platform: Prefect server, MLflow server, worker, deployments")
    up.add_argument("--host", default=None, help="address to listen on (default 127.0.0.1)")
    up.add_argument("--prefect-port", type=int, default=None, help="default 4200")
    up.add_argument("--mlflow-port", type=int, default=None, help="default 5000")
    up.add_argument(
        "--allowed-hosts", metavar="NAME", nargs="+", default=None,
        help="more names by which browsers may call this host; requests to or from any other are refused",
    )  # fmt: skip
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


def up_command(arguments: argparse.Namespace) -> int:
    from paced_deployments import platform

    home = environment.home()
    environment.make_folders(home)
    given = {k: v for k in platform.Settings.model_fields if (v := getattr(arguments, k)) is not None}
    settings = platform.Settings.model_validate((platform.known(home) or platform.Settings()).model_dump() | given)
    platform.up(home, settings)
    if not settings.private:
        print(
            f"warning: whoever reaches {settings.host} can start runs and programs here, no password is asked: "
            "deployments/compose/ has passwords",
            file=sys.stderr,
        )
    if warning := environment.open_to_others(home):
        print(f"warning: {warning}", file=sys.stderr)
    print("'paced status' says how it is, 'paced down' stops it")
    return 0


def down_command(_arguments: argparse.Namespace) -> int:
    from paced_deployments import platform

    print("stopped" if platform.down(environment.home()) else f"nothing runs in {environment.home()}")
    return 0


def status_command(_arguments: argparse.Namespace) -> int:
    from paced_deployments import platform

    rows = platform.status(environment.home())
    if not rows:
        print(f"no platform runs in {environment.home()}; 'paced up' starts one")
        return 1
    for row in rows:
        print(
            f"{row['name']:<10} {row['state']:<10} {row['address']:<28} {'healthy' if row['healthy'] else 'no answer'}"
        )
    return 0 if all(row["healthy"] for row in rows) else 1
