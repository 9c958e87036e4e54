"""The commands ``paced retrain`` and ``paced rollback`` (docs/retraining.md)."""

import argparse
import contextlib
import shlex
from pathlib import Path
from typing import Any

from paced.errors import ConfigError
from paced_deployments import environment
from paced_deployments.commands.named import check_paths


def add_commands(commands: Any) -> None:
    """Both commands and their options; ``commands`` are argparse's subparsers."""
    retrain = commands.add_parser(
        "retrain", help="train a challenger of the registered champion on new files; promote it if it is better"
    )
    retrain.add_argument("recipe", type=Path, help="YAML file; the model is registered under its name")
    retrain.add_argument("--watch", required=True, metavar="PLACE", help="folder or prefix such as s3://bucket/prefix")
    retrain.add_argument("--files", metavar="PATTERN", help="which files below it (default *.jsonl)")
    retrain.add_argument("--settle", metavar="SECONDS", help="in which a new file must not change (default 10)")
    retrain.add_argument(
        "--forgetting-limit", metavar="POINTS", help="of retention, or none; for the whole interval (default 2)"
    )
    retrain.add_argument("--overlap", choices=("refuse", "queue"), help="while another one runs (default refuse)")
    retrain.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change one recipe setting")
    add_notify(retrain)
    retrain.set_defaults(do=retrain_command)

    rollback = commands.add_parser("rollback", help="make the version before the champion champion again")
    rollback.add_argument("model", help="name of the registered model")
    rollback.add_argument("--to", type=int, metavar="VERSION", help="this version instead")
    add_notify(rollback)
    rollback.set_defaults(do=rollback_command)


def add_notify(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--notify", default="", metavar="COMMAND", help="program that gets what happened as JSON on standard input"
    )
    command.add_argument("--webhook", metavar="BLOCK", help="Webhook block of Prefect that is sent it")


def notified(arguments: argparse.Namespace) -> dict[str, list[str] | str | None]:
    """Who is to be told, as plain values.

    Raises:
        ConfigError: the command's quotes do not close.
    """
    try:
        return {"command": shlex.split(arguments.notify), "webhook": arguments.webhook}
    except ValueError as error:
        raise ConfigError(f"--notify {arguments.notify}: {error}") from None


def settings(arguments: argparse.Namespace) -> Any:
    """The options as settings of a retraining, checked."""
    from paced.config import Retraining
    from paced.config.reading import checked

    options = ("watch", "files", "settle", "forgetting_limit", "overlap")
    given = {name: value for name in options if (value := getattr(arguments, name, None)) is not None}
    if given.get("forgetting_limit") == "none":
        given["forgetting_limit"] = None
    return checked(Retraining, given | {"notify": notified(arguments)}, "paced retrain")


def retrain_command(arguments: argparse.Namespace) -> int:
    from paced.config.reading import load_recipe

    recipe, retraining = load_recipe(arguments.recipe, tuple(arguments.set)), settings(arguments)
    # Files of the watched place take the place of the recipe's own, which need not be there.
    check_paths(recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": None})}))
    home = environment.home()
    from paced_deployments.session import session

    with session(home):
        from paced_flows.retrain import retrain

        outcome = retrain(recipe, retraining)
    print(outcome["message"])
    return 0


def rollback_command(arguments: argparse.Namespace) -> int:
    from paced.config import Notify
    from paced_deployments import platform

    home, told = environment.home(), Notify.model_validate(notified(arguments))
    with contextlib.ExitStack() as stack:
        if told.webhook:  # blocks are kept by Prefect's API
            from paced_deployments.session import session

            stack.enter_context(session(home))
        else:
            platform.join(home)
            environment.apply(home)
        from paced_tasks.notify import Event, notify
        from paced_tasks.registry import Registry

        before, after = Registry(home, arguments.model).rollback(arguments.to)
        message = f"{arguments.model}: version {after.number} is champion again, version {before.number} no longer is"
        print(message)
        notify(told, Event(event="rolled_back", model=arguments.model, message=message, champion=after.number))
    return 0
