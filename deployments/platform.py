"""The platform of one host: a Prefect server, an MLflow server and a worker, kept running by supervisord.

All of its state lies in ``platform/`` of the home, the servers' databases where ``paced run`` has them, or in
PostgreSQL (deployments/database.py).
"""

import configparser
import contextlib
import hashlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
import xmlrpc.client
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from supervisor.xmlrpc import SupervisorTransport

from paced.config.allowed import begin
from paced.errors import ConfigError, EngineError
from paced.stage import exclusive
from paced.storage.files import write_json
from paced_deployments import database, environment, hosts
from paced_tasks.lease import own_folder

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
POOL = "paced"
EVERYWHERE = "0.0.0.0"  # as an address to listen on: every one of this host's
MARK = "PACED_PLATFORM"  # in the environment of every process of a platform: its home
PATIENCE = 300.0  # seconds for a first start on a busy machine
BEAT, LOST = 30, 90  # seconds between heartbeats of a flow run, and without one until it counts as crashed
SILENT = f"no heartbeat for {LOST} s: its process is gone; run it again to resume"
RUNS = {  # what flow runs and their worker keep to, on whichever host
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(BEAT),
    # Onto the run's page, and by the handler 'debug', which writes to standard error, into the worker's log.
    "PREFECT_LOGGING_LOGGERS_PREFECT_EXTRA_HANDLERS": "api,debug",
    "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
    "PREFECT_WORKER_CANCELLATION_POLL_SECONDS": "1",
    "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    # Minutes in which a server or its database may be away: 2 + 4 + ... + 128 seconds between attempts. Without the
    # code a run ends at the first answer of a server that has lost its database.
    "PREFECT_CLIENT_MAX_RETRIES": "7",
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
}

SERVER = {  # of Prefect's server; set in the environment of 'paced up', another value counts
    "PREFECT_UI_API_URL": "/api",  # of the server that a page comes from, by whatever name a browser calls it
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # whose pages have the browser ask another company's server
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # of flow runs, so many seconds after their end:
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(180 * 24 * 3600),
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P14D",
}


class Settings(BaseModel):
    """Where the servers listen and keep their data; ``platform.json`` keeps it for the other commands."""

    model_config = ConfigDict(frozen=True)
    host: str = "127.0.0.1"
    prefect_port: int = 4200
    mlflow_port: int = 5000
    allowed_hosts: tuple[str, ...] = ()  # more names by which browsers may call this host
    prefect_database: str = Field(default="", repr=False)  # URL; SQLite in the home if empty
    mlflow_database: str = Field(default="", repr=False)

    @property
    def databases(self) -> dict[str, str]:
        """The databases that are not files of the home: server -> URL."""
        return {k: v for k, v in (("prefect", self.prefect_database), ("mlflow", self.mlflow_database)) if v}

    @property
    def name(self) -> str:
        """What clients and browsers call this host."""
        return socket.gethostname() if self.host == EVERYWHERE else self.host

    @property
    def names(self) -> list[str]:
        """What a browser may call this host; anything else is another site that had its name point here."""
        own = {a.address for each in psutil.net_if_addrs().values() for a in each if a.family == socket.AF_INET}
        more = {socket.getfqdn(), *own} if self.host == EVERYWHERE else set[str]()
        return sorted({"localhost", "127.0.0.1", self.name, *more, *self.allowed_hosts})

    @property
    def private(self) -> bool:
        """Whether only this host can reach the servers."""
        return self.host == "localhost" or self.host.startswith("127.")

    @property
    def prefect(self) -> str:
        return f"http://{self.name}:{self.prefect_port}"

    @property
    def mlflow(self) -> str:
        return f"http://{self.name}:{self.mlflow_port}"

    def environment(self) -> dict[str, str]:
        """What a client of this platform has to be told."""
        return {"PREFECT_API_URL": f"{self.prefect}/api", "MLFLOW_TRACKING_URI": self.mlflow}


class Service(NamedTuple):
    """A program that supervisord keeps running; ``health`` is asked whether it works."""

    name: str
    command: list[str]
    address: str
    health: str


def services(home: Path, settings: Settings) -> list[Service]:
    """What runs, in the order it is started in."""
    files = (home / "mlflow" / "artifacts").as_uri()
    host, prefect, mlflow = settings.host, str(settings.prefect_port), str(settings.mlflow_port)
    server = [sys.executable, "-m", "paced_deployments.server"]
    # Flow runs talk to the servers, not to their databases.
    without = [word for variable in database.VARIABLES.values() for word in ("-u", variable)]
    return [
        Service(
            "prefect",
            [
                *server, prefect, sys.executable, "-m", "paced_deployments.prefect_server", "server", "start",
                "--host", host, "--port", prefect,
            ],
            settings.prefect, f"{settings.prefect}/api/ready",
        ),
        Service(
            "mlflow",
            [
                *server, mlflow, str(BIN / "mlflow"), "server", "--host", host, "--port", mlflow, "--workers", "1",
                "--artifacts-destination", files,
                "--allowed-hosts", ",".join(f"{name},{name}:*" for name in settings.names),
                "--cors-allowed-origins", origins(settings, settings.mlflow_port),
            ],
            settings.mlflow, f"{settings.mlflow}/health",
        ),
        Service("worker", ["env", *without, sys.executable, "-m", "paced_deployments.worker"], f"work pool {POOL}", ""),
    ]  # fmt: skip


def origins(settings: Settings, port: int) -> str:
    """Whose pages may send a server requests from a browser: its own, also behind a proxy with TLS; no other site's."""
    proxied = (f"https://{name}{at}" for name in settings.allowed_hosts for at in ("", ":*"))
    return ",".join([*(f"http://{name}:{port}" for name in settings.names), *proxied])


def folder(home: Path) -> Path:
    return home / "platform"


def known(home: Path) -> Settings | None:
    """The settings of the platform that was last started here, running or not."""
    try:
        return Settings.model_validate_json((folder(home) / "platform.json").read_text())
    except (OSError, ValidationError):
        return None


def remember(home: Path, settings: Settings) -> None:
    """Keep the settings where only this user can read them: a database's URL may hold its password."""
    folder(home).chmod(0o700)
    path = folder(home) / "platform.json"
    write_json(path, settings.model_dump())
    path.chmod(0o600)


def answers(url: str, patience: float = 5.0) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=patience) as answer:
            return answer.status == 200
    except OSError:
        return False


def join(home: Path) -> None:
    """Where a platform is running in this home, and the user named no server, use its servers."""
    settings = known(home)
    if settings is None or "PREFECT_API_URL" in os.environ:
        return
    # What answers at a port of this host may be another home's: ports are remembered when the platform is down.
    here = settings.private or settings.host == EVERYWHERE
    if (not here or connect(home) is not None) and answers(f"{settings.prefect}/api/health"):
        for name, value in settings.environment().items():
            os.environ.setdefault(name, value)


def up(home: Path, settings: Settings, say: Any = print) -> None:
    """Start what is not running, and register the deployments.

    Raises:
        ConfigError: a port is none, or taken by another program; a database is named wrongly.
        EngineError: a server did not answer in time; its log is named. A database does not answer.
    """
    check_ports(settings)
    database.check_all(settings.databases)
    reachable(settings)
    own = environment.settings(home) | RUNS
    own |= {name: os.environ.get(name, value) for name, value in SERVER.items()}
    own |= {
        MARK: str(home),
        "PREFECT_API_URL": settings.environment()["PREFECT_API_URL"],
        "MLFLOW_TRACKING_URI": settings.mlflow,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins(settings, settings.prefect_port),
        hosts.VARIABLE: ",".join(settings.names),
        # Without it a page of any site, open in a browser on this host, could send the API a run to start.
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }
    own |= {
        variable: database.server_url(server, settings.databases.get(server, ""), home)
        for server, variable in database.VARIABLES.items()
    }
    with exclusive(folder(home) / ".lock"):
        supervisor = connect(home)
        if supervisor is None:
            reap(home)
            begin(home, Path.cwd())
            for service in services(home, settings)[:2]:
                free(service, settings.host)
            remember(home, settings)
            if not settings.mlflow_database:
                from paced_tasks.tracking import make_ready  # and MLflow's libraries, which only this needs

                with exclusive(home / "locks" / ".mlflow.lock"):
                    make_ready(home)
            supervisor = supervise(home, settings, own)
        elif settings != known(home):
            raise ConfigError(f"a platform runs at {known(home)}: 'paced down' first, then up at the new address")
        *servers, worker = services(home, settings)
        for service in servers:  # together: each takes long to import and to make its database
            start(supervisor, service.name)
        for service in servers:
            await_health(service, home, say)
        for line in register(home, own):
            say(line)
        start(supervisor, worker.name, wait=True)
        await_health(worker, home, say)


def supervise(home: Path, settings: Settings, own: dict[str, str]) -> Any:
    """Start supervisord, in a session of its own, with every service stopped; returns the connection to it."""
    conf = configparser.RawConfigParser()
    place = folder(home)
    conf["supervisord"] = {
        "logfile": literal(place / "supervisord.log"), "pidfile": literal(place / "supervisord.pid"),
        "childlogdir": literal(place), "directory": literal(ROOT),
    }  # fmt: skip
    conf["unix_http_server"] = {"file": str(control(home)), "chmod": "0700"}
    conf["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for service in services(home, settings):
        conf[f"program:{service.name}"] = {
            "command": " ".join(quoted(word) for word in service.command),
            "stdout_logfile": literal(place / f"{service.name}.log"), "redirect_stderr": "true",
            "autostart": "false", "autorestart": "true", "startsecs": "2", "startretries": "20",
            "stopasgroup": "true", "killasgroup": "true", "stopwaitsecs": "15",
        }  # fmt: skip
    path = place / "supervisord.conf"
    with path.open("w") as file:
        conf.write(file)
    subprocess.run([str(BIN / "supervisord"), "-c", str(path)], env=os.environ | own, check=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if supervisor := connect(home):
            return supervisor
        time.sleep(0.1)
    raise EngineError(f"supervisord did not start, see {place / 'supervisord.log'}")


def literal(value: object) -> str:
    """A value in supervisord's configuration, where % begins a substitution.

    Raises:
        ConfigError: it cannot be written there, where a semicolon or a # after a space begins a comment.
    """
    if re.search(r"\s[;#]|[\r\n]", str(value)):
        raise ConfigError(
            f"{str(value)!r} cannot be the path of a platform: choose a folder without ' ;', ' #', line ends"
        )
    return str(value).replace("%", "%%")


def quoted(word: str) -> str:
    """A word of a command in supervisord's configuration."""
    return '"' + literal(word).replace("\\", "\\\\").replace('"', '\\"') + '"'


def control(home: Path) -> Path:
    """The socket supervisord listens on: its path has to be short, and nobody else may use it."""
    return own_folder() / (hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16] + ".sock")


def connect(home: Path) -> Any:
    """The running supervisord of a home, or nothing."""
    proxy: Any = xmlrpc.client.ServerProxy("http://localhost", SupervisorTransport("", "", f"unix://{control(home)}"))
    try:
        proxy.supervisor.getState()
    except (OSError, xmlrpc.client.Error):
        return None
    return proxy.supervisor


def start(supervisor: Any, name: str, wait: bool = False) -> None:
    """Start a service that is not running; ``wait`` until it has not died at once."""
    with contextlib.suppress(xmlrpc.client.Fault):  # already started
        supervisor.startProcess(name, wait)


def await_health(service: Service, home: Path, say: Any) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE
    while service.health and not answers(service.health):
        if time.monotonic() > deadline:
            raise EngineError(
                f"{service.name} does not answer at {service.address}: see {folder(home) / service.name}.log"
            )
        time.sleep(0.3)
    say(f"{service.name:<10} {service.address}")


def check_ports(settings: Settings) -> None:
    """Refuse what cannot be two ports.

    Raises:
        ConfigError: with the option to change.
    """
    for server, port in (("prefect", settings.prefect_port), ("mlflow", settings.mlflow_port)):
        if not 0 < port < 65536:
            raise ConfigError(f"--{server}-port {port}: a port is a number from 1 to 65535")
    if settings.prefect_port == settings.mlflow_port:
        raise ConfigError(f"--mlflow-port {settings.mlflow_port}: Prefect's port too: give each server one of its own")


def free(service: Service, host: str) -> None:
    """Refuse a port that another program has taken.

    Raises:
        ConfigError: with the option to change.
    """
    port = int(service.address.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"{service.name} cannot listen on {host}:{port} ({error.strerror}): choose another with "
                f"--{service.name}-port"
            ) from None


def reachable(settings: Settings) -> None:
    """Refuse to listen under a name that clients on this very host cannot use.

    Raises:
        ConfigError: it does not resolve.
    """
    try:
        socket.getaddrinfo(settings.name, None)
    except OSError as error:
        raise ConfigError(
            f"--host {settings.host}: {settings.name!r} does not resolve here ({error.strerror}): give the address by "
            "which others reach this host"
        ) from None


def register(home: Path, own: dict[str, str]) -> list[str]:
    """Create work pool and deployments, in a process that has the platform's settings from the start.

    Returns:
        which schedules and deployments the user has to mend.
    """
    done = subprocess.run(
        [sys.executable, "-m", "paced_deployments.definitions"],
        env=os.environ | own,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise EngineError(f"deployments were not registered: {(done.stderr.strip() or done.stdout).splitlines()[-1]}")
    return done.stdout.splitlines()


def members(home: Path) -> list[psutil.Process]:
    """Every process that a platform of this home has started, its flow runs and their stages included."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(home):
                found.append(process)
    return found


def reap(home: Path) -> None:
    """End what an earlier platform of this home has left behind."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        processes = members(home)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                end(process)
        psutil.wait_procs(processes, timeout=10)


def down(home: Path) -> bool:
    """Stop everything; what flow runs have committed is kept. Returns whether anything was running."""
    supervisor = connect(home)
    if supervisor is not None:
        with contextlib.suppress(OSError, xmlrpc.client.Error):
            supervisor.shutdown()
        deadline = time.monotonic() + 60
        while connect(home) is not None and time.monotonic() < deadline:
            time.sleep(0.2)
    left = bool(members(home))
    reap(home)
    return supervisor is not None or left


def status(home: Path) -> list[dict[str, Any]]:
    """One row a service: name, state, address, whether it answers."""
    settings, supervisor = known(home), connect(home)
    if settings is None or supervisor is None:
        return []
    states = {p["name"]: p for p in supervisor.getAllProcessInfo()}
    rows = [
        {
            "name": s.name,
            "state": states[s.name]["statename"].lower(),
            "pid": states[s.name]["pid"],
            "address": s.address,
            "healthy": answers(s.health) if s.health else states[s.name]["statename"] == "RUNNING",
        }
        for s in services(home, settings)
    ]
    return rows + [
        {
            "name": f"{server}-db",
            "state": "by URL",
            "pid": None,
            "address": database.place(server, url),
            "healthy": database.answers(server, url),
        }
        for server, url in settings.databases.items()
    ]
