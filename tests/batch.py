"""A Slurm cluster of two nodes on this host, from the programs of a distribution's packages."""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path

from harness import eventually, free_port, need

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
CONFIGURATION = """
ClusterName=paced
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs={cores}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs={cores}
PartitionName=main Nodes=n1,n2 Default=YES
"""


@contextlib.contextmanager
def cluster(folder: Path) -> Generator[dict[str, str]]:
    """Yields the environment by which its commands are reached; every daemon has ended afterwards."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
    need(all(shutil.which(program, path=path) for program in PROGRAMS), "apt-get install slurmctld slurmd munge")
    (folder / "state").mkdir(parents=True)
    (key := folder / "munge.key").write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    ports = {name: free_port() for name in ("controller", "first", "second")}
    about = {"host": socket.gethostname(), "user": getpass.getuser(), "folder": folder, "cores": os.cpu_count()}
    (configuration := folder / "slurm.conf").write_text(CONFIGURATION.format(**ports, **about))
    environment = {"SLURM_CONF": str(configuration), "PATH": path}
    names = ("socket", "pid-file", "log-file", "seed-file")
    munge = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in names]
    daemons: list[subprocess.Popen[bytes]] = []
    with (folder / "out").open("w") as out:
        for words in (
            ["munged", "--foreground", "--force", f"--key-file={key}", *munge],
            ["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"],
        ):  # fmt: skip
            program = str(shutil.which(words[0], path=path))
            daemons.append(
                subprocess.Popen([program, *words[1:]], stdout=out, stderr=out, env={**os.environ, **environment})
            )
    try:
        eventually(lambda: _idle(environment, daemons, folder), 60, "two nodes are idle")
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _idle(environment: dict[str, str], daemons: "list[subprocess.Popen[bytes]]", folder: Path) -> bool:
    ended = [daemon.args for daemon in daemons if daemon.poll() is not None]
    assert not ended, f"{ended}: {(folder / 'out').read_text()[-2000:]}"
    words = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    found = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    return len(set(found.stdout.split())) == 2
