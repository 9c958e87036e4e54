"""A server as supervisord starts it: first it ends what an earlier start has left on its port.

MLflow's server has a child that listens. When the parent alone is killed, the child goes on, supervisord starts another
parent, and its child finds the port taken, again and again.
"""

import contextlib
import os
import sys

import psutil

from paced.config import home
from paced_deployments.platform import members


def listens(process: psutil.Process, port: int) -> bool:
    """Whether a process holds a port."""
    with contextlib.suppress(psutil.Error):
        return any(c.laddr.port == port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
    return False


def main(port: str, *command: str) -> None:
    left = [process for process in members(home()) if listens(process, int(port))]
    for process in left:
        print(f"ends process {process.pid}, which an earlier start has left on port {port}", flush=True)
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
