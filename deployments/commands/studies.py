"""The command ``paced study``: the claims of a protocol decided."""

import argparse
import os
from pathlib import Path
from typing import Any

from paced.errors import ConfigError
from paced.storage.identity import commit_of, committed
from paced_deployments import environment
from paced_deployments.commands.named import check_paths

STUDIES = Path("benchmarks/studies")


def add_commands(commands: Any) -> None:
    """The command and its options; ``commands`` are argparse's subparsers."""
    study = commands.add_parser("study", help="decide the claims of a protocol, with intervals, all of them together")
    study.add_argument("protocol", help=f"a file, or the name of one in {STUDIES}/; it has to be committed")
    study.add_argument("--draft", action="store_true", help="also of a protocol that is not committed: a trial")
    study.set_defaults(do=study_command)


def study_command(arguments: argparse.Namespace) -> int:
    from paced.config.study import groups, load_protocol

    file = protocol_file(arguments.protocol)
    protocol = load_protocol(file)
    commit = None
    if not arguments.draft:
        commit, _ = committed(file), committed(Path(protocol.recipe))
    for group in groups(protocol.arms, {}, {}):
        check_paths(protocol.recipe_of(group, protocol.holdout, protocol.seeds))
    home = environment.home()
    os.environ.setdefault("PACED_COMMIT", commit_of(file.absolute().parent))
    from paced_deployments.session import session

    with session(home):
        from paced_flows.study import study

        trained = study(protocol)
    from paced.report import study as report

    found = report.study(protocol, trained, home)
    folder = report.write(protocol, found, trained, home)
    print(f"{report.text(found)}\n\nstudy    {folder}")
    (folder / "entry.md").write_text(report.entry(protocol, file, found, commit))
    print(f"entry    {folder / 'entry.md'}, for a log; its picture and numbers lie beside it")
    return 0


def protocol_file(name: str) -> Path:
    """The file of a protocol that is given by path or by name.

    Raises:
        ConfigError: there is none; says which there are.
    """
    for path in (Path(name), STUDIES / f"{name}.yaml"):
        if path.is_file():
            return path
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    raise ConfigError(f"no protocol {name!r}; in {STUDIES}/ there are: {', '.join(known) or 'none'}")
