"""What is stored: ``paced cache ls``, ``verify``, ``report``, ``gc``."""

import argparse
from typing import Any

from paced_deployments import environment
from paced_deployments.commands.named import join_platform, run_folder


def add_commands(commands: Any) -> None:
    """The commands and their options; ``commands`` are argparse's subparsers."""
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


def cache_ls(_arguments: argparse.Namespace) -> int:
    from paced.storage.housekeeping import listing
    from paced.storage.inventory import shared_listing
    from paced.storage.shared import shared

    print(listing(environment.home()))
    if store := shared():
        print(shared_listing(store))
    return 0


def cache_verify(arguments: argparse.Namespace) -> int:
    from paced.storage.inventory import shared_verify
    from paced.storage.shared import shared
    from paced.storage.verification import verify

    checked, damaged = verify(environment.home(), arguments.delete)
    if store := shared():
        there, lines = shared_verify(store, arguments.delete)
        checked, damaged = checked + there, damaged + lines
    for line in damaged:
        print(line)
    print(
        f"{checked} files checked, {len(damaged)} damaged"
        + (", deleted: run the same recipe again to compute them anew" if damaged and arguments.delete else "")
    )
    return 1 if damaged and not arguments.delete else 0


def cache_report(arguments: argparse.Namespace) -> int:
    from paced.diagnosis.fidelity import fidelity_table, report

    print(fidelity_table(report(run_folder(arguments.run), arguments.tokens)))
    return 0


def cache_gc(arguments: argparse.Namespace) -> int:
    join_platform()
    from paced.storage.housekeeping import garbage
    from paced.storage.inventory import shared_garbage
    from paced.storage.shared import shared
    from paced_tasks.registry import registered

    home = environment.home()
    folders, size = garbage(home, arguments.delete, registered(home))
    left = [str(folder) for folder in folders]
    if store := shared():
        there = shared_garbage(store, arguments.delete)
        left += [f"{store.url}/{item.name}" for item in there]
        size += sum(item.bytes for item in there)
    for path in left:
        print(path)
    word = "deleted" if arguments.delete else "would be deleted (add --delete)"
    print(f"{len(left)} paths, {size / 1e6:.1f} MB {word}")
    return 0
