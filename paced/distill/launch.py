"""Several training processes on one host, started by accelerate (``runtime.accelerate`` names its configuration)."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from paced.errors import ERRORS, ConfigError, EngineError, Stopped, TransientError
from paced.events import ErrorEvent
from paced.stage import Job


def check_configuration(configuration: Path) -> None:
    """That an accelerate configuration can be read, and is of one host: a stage holds its lock for its own.

    Raises:
        ConfigError: with what to change.
    """
    try:
        machines = dict(yaml.safe_load(configuration.read_text())).get("num_machines", 1)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"runtime.accelerate: {configuration} is no accelerate configuration ({reason})") from None
    if machines != 1:
        raise ConfigError(
            f"runtime.accelerate: {configuration} has num_machines: {machines}; training takes the devices of one "
            "host: set it to 1, and num_processes to that host's devices"
        )


def launch(job: Job, configuration: Path) -> None:
    """Run the job's stage in the processes that an accelerate configuration describes; what they wrote is the job's.

    Raises:
        ConfigError: the configuration is none of one host.
        TransientError: a process ended without a word; otherwise the first error that one told of.
    """
    check_configuration(configuration)
    job.work.mkdir(parents=True, exist_ok=True)
    spec, done = job.work / "spec.json", job.work / "done.json"
    # Without the configuration, which would have a process that is alone launch once more.
    runtime = job.runtime.model_copy(update={"accelerate": None})
    spec.write_text(job.spec.model_copy(update={"runtime": runtime}).model_dump_json())
    done.unlink(missing_ok=True)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(configuration)]
    command += ["--module", "paced.distill.worker", str(spec)]
    first: ErrorEvent | None = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launched:
        assert launched.stdout
        try:
            for line in launched.stdout:
                try:
                    event = json.loads(line)
                    kind = event["event"]
                except (ValueError, TypeError, KeyError):  # what a library prints
                    print(line, end="", file=sys.stderr, flush=True)
                    continue
                if kind != "error":
                    job.tell(event)
                elif event["type"] != Stopped.__name__:  # as the others are when one has failed
                    first = first or event
        except BaseException:  # not when its output ends: it is about to say how it ended
            launched.terminate()
            raise
    if first:
        raise ERRORS.get(first["type"], EngineError)(first["message"])
    if launched.returncode or not done.exists():
        raise TransientError(  # every error of Python's is told: this one was killed, or could not start
            f"a training process started with {configuration} ended with status {launched.returncode}; "
            "its output is in the stage's log"
        )
    result = json.loads(done.read_text())
    job.counts |= result["counts"]
    for name in result["files"]:
        job.add(name)
