"""The command ``paced``. Parses and checks first; Prefect, MLflow and torch are imported only when they are needed."""

import argparse
import sys

import paced
from paced.errors import PacedError, Stopped
from paced_deployments.commands import before, cache, retraining, runs, services


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
        prog="paced", description="Pass-rate-weighted distillation of language models (arXiv 2603.11178)."
    )
    top.add_argument("--version", action="version", version=f"paced {paced.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (runs, before, services, cache, retraining):
        module.add_commands(commands)
    return top


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
