"""The commands ``paced retrain``, ``paced rollback`` and ``paced champion`` (docs/retraining.md)."""

import argparse
import contextlib
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Any

from paced.errors import ConfigError
from paced_deployments import environment
from paced_deployments.commands.named import check_paths

LIMITS = ("forgetting_limit", "total_forgetting_limit", "false_promotions", "drift_limit")  # options that may be "none"


def add_commands(commands: Any) -> None:
    """The commands and their options; ``commands`` are argparse's subparsers."""
    retrain = commands.add_parser(
        "retrain", help="train a challenger of the registered champion on new files; promote it if it is better"
    )
    retrain.add_argument("recipe", type=Path, help="YAML file; the model is registered under its name")
    retrain.add_argument("--watch", required=True, metavar="PLACE", help="folder or prefix such as s3://bucket/prefix")
    retrain.add_argument("--files", metavar="PATTERN", help="which files below it (default *.jsonl)")
    retrain.add_argument("--settle", metavar="SECONDS", help="in which a new file must not change (default 10)")
    retrain.add_argument(
        "--drift-limit", metavar="DISTANCE", help="of new problems from earlier ones past which these wait"
    )
    retrain.add_argument("--least-problems", metavar="N", help="new problems below which files wait (default 1)")
    retrain.add_argument(
        "--least-kept", metavar="N", help="problems of positive weight below which files wait (default 1)"
    )
    retrain.add_argument(
        "--pool-days", metavar="DAYS",
        help="in which files without a promotion are trained on again with the next ones (default 28)",
    )  # fmt: skip
    retrain.add_argument(
        "--forgetting-limit", metavar="POINTS", help="of retention, or none; for the whole interval (default 2)"
    )
    retrain.add_argument(
        "--total-forgetting-limit", metavar="POINTS",
        help="of retention since the first student, or none (default twice --forgetting-limit)",
    )  # fmt: skip
    retrain.add_argument("--first", metavar="VERSION", help="what counts as the first student (default the recipe's)")
    retrain.add_argument(
        "--false-promotions", metavar="SHARE",
        help="chance that any challenger of one champion replaces it without being better, or none: each is judged by "
        "itself at 95%% (default 0.05)",
    )  # fmt: skip
    retrain.add_argument(
        "--approval", action="store_true", default=None, help="a challenger that passes waits for 'paced promote'"
    )
    retrain.add_argument("--overlap", choices=("refuse", "queue"), help="while another one runs (default refuse)")
    retrain.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change one recipe setting")
    add_notify(retrain)
    retrain.set_defaults(do=retrain_command)

    rollback = commands.add_parser("rollback", help="make the version before the champion champion again")
    rollback.add_argument("model", help="name of the registered model")
    rollback.add_argument(
        "--to", type=target, metavar="VERSION", help="this version instead; 'recipe': none, its student is to be beaten"
    )
    add_notify(rollback)
    rollback.set_defaults(do=rollback_command)

    promote = commands.add_parser("promote", help="make a challenger champion that passed and waits for approval")
    promote.add_argument("model", help="name of the registered model")
    promote.add_argument("version", type=int)
    add_notify(promote)
    promote.set_defaults(do=promote_command)

    champion = commands.add_parser("champion", help="who is champion of a registered model, and who was before")
    champion.add_argument("model", help="name of the registered model")
    champion.set_defaults(do=champion_command)


def target(word: str) -> int | str:
    """Where a rollback goes: a version's number, or ``recipe``."""
    return word if word == "recipe" else int(word)


def add_notify(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--notify", default="", metavar="COMMAND", help="program that gets what happened as JSON on standard input"
    )
    command.add_argument("--webhook", metavar="BLOCK", help="Webhook block of Prefect that is sent it")
    command.add_argument("--webhook-secret", metavar="BLOCK", help="Secret block of Prefect that signs it")


def notified(arguments: argparse.Namespace) -> dict[str, list[str] | str | None]:
    """Who is to be told, as plain values.

    Raises:
        ConfigError: the command's quotes do not close.
    """
    try:
        command = shlex.split(arguments.notify)
    except ValueError as error:
        raise ConfigError(f"--notify {arguments.notify}: {error}") from None
    return {"command": command, "webhook": arguments.webhook, "webhook_secret": arguments.webhook_secret}


def settings(arguments: argparse.Namespace) -> Any:
    """The options as settings of a retraining, checked."""
    from paced.config import Retraining
    from paced.config.reading import checked

    given = {name: value for name in Retraining.model_fields if (value := getattr(arguments, name, None)) is not None}
    given |= {name: None for name in LIMITS if given.get(name) == "none"}
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


@contextlib.contextmanager
def telling(arguments: argparse.Namespace) -> Generator[tuple[Path, Any]]:
    """The home, whose servers are joined, and who is to be told."""
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
        yield home, told


def promote_command(arguments: argparse.Namespace) -> int:
    with telling(arguments) as (home, told):
        from paced.data.watched import Ledger
        from paced.stage import exclusive
        from paced_tasks.notify import Event, notify
        from paced_tasks.registry import Registry

        registry = Registry(home, arguments.model)
        try:
            with exclusive(registry.folder / "retrain.lock", wait=False):
                version = registry.approve(arguments.version)
                Ledger(registry.folder / "ledger.json").promoted(version.tags.get("files", ""))
        except BlockingIOError:
            raise ConfigError(
                f"a retraining of {arguments.model} is running, which compares with the present champion: promote when "
                "it has ended"
            ) from None
        message = f"{arguments.model}: version {version.number} is champion now, by approval"
        print(message)
        notify(told, Event(event="promoted", model=arguments.model, message=message, champion=version.number))
    return 0


def rollback_command(arguments: argparse.Namespace) -> int:
    with telling(arguments) as (home, told):
        from paced_tasks.notify import Event, notify
        from paced_tasks.registry import Registry

        move = Registry(home, arguments.model).rollback(arguments.to)
        message = f"{arguments.model}: {move}"
        print(message)
        event = {"event": move.event, "model": arguments.model, "message": message, "champion": move.after}
        notify(told, Event.model_validate(event))
    return 0


def champion_command(arguments: argparse.Namespace) -> int:
    from paced_deployments import platform

    home = environment.home()
    platform.join(home)
    environment.apply(home)
    from paced_tasks.registry import Registry, named

    registry = Registry(home, arguments.model)
    for move in registry.history():
        print(f"{move.time}  {move.event:<11}  {move}")
    champion = registry.champion()
    looks = registry.looks(champion) if registry.versions() else []
    print(f"champion of {arguments.model}: {named(champion and champion.number)}")
    print(f"compared with it: {len(looks)} challengers" + (f", versions {', '.join(map(str, looks))}" if looks else ""))
    return 0
