"""PostgreSQL for the platform's servers: its URLs are checked before anything is started, and never shown.

A URL may hold a password, so it is kept in ``platform/`` of the home, which nobody else may read, handed on in the
environment, and no message, log or command line has more of it than host, port and name.
"""

from pathlib import Path

from paced.errors import ConfigError, EngineError

FORM = "postgresql://USER@HOST:PORT/NAME"
DRIVERS = {"prefect": "postgresql+asyncpg", "mlflow": "postgresql+psycopg2"}
VARIABLES = {"prefect": "PREFECT_API_DATABASE_CONNECTION_URL", "mlflow": "MLFLOW_BACKEND_STORE_URI"}
EMBEDDED = {"prefect": "sqlite+aiosqlite", "mlflow": "sqlite"}
PARAMETERS = {"host", "sslmode"}  # of those of libpq, what both drivers understand
PATIENCE = 5  # seconds to connect
RIGHTS = """
    select current_user, has_database_privilege(current_database(), 'create')
        and coalesce(has_schema_privilege(current_schema(), 'create'), false)
"""


def server_url(server: str, url: str, home: Path) -> str:
    """The URL of a server's database as that server wants it; without one its SQLite file in the home."""
    if not url:
        return f"{EMBEDDED[server]}:///{home / server / server}.db"
    rest = url.partition("://")[2]
    return f"{DRIVERS[server]}://" + (rest.replace("sslmode=", "ssl=") if server == "prefect" else rest)


def place(server: str, url: str) -> str:
    """Where a database is: host, port and name, without user and password.

    Raises:
        ConfigError: it is no URL of PostgreSQL, or has parameters that one of the drivers does not understand.
    """
    try:
        from psycopg2 import ProgrammingError
        from psycopg2.extensions import parse_dsn
    except ImportError:
        raise ConfigError("PostgreSQL needs a driver that is not installed: pip install psycopg2-binary") from None
    option = f"--{server}-database"
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError(f"{option}: must be {FORM}, or '' for SQLite in the home")
    try:
        parts: dict[str, str] = parse_dsn(url)
    except ProgrammingError:  # its text may quote the password
        raise ConfigError(f"{option}: is no valid URL: write {FORM}, special characters as %XX") from None
    if more := parts.keys() - PARAMETERS - {"user", "password", "port", "dbname"}:
        raise ConfigError(f"{option}: does not take {', '.join(sorted(more))}; only {', '.join(sorted(PARAMETERS))}")
    if "dbname" not in parts:
        raise ConfigError(f"{option}: names no database: write {FORM}")
    return f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}/{parts['dbname']}"


def check(server: str, url: str) -> None:
    """Connect once, as the server will.

    Raises:
        ConfigError: the URL is wrong, or the user may create no tables there.
        EngineError: nothing answers there, or it refuses.
    """
    where = place(server, url)
    import psycopg2

    try:
        with psycopg2.connect(url, connect_timeout=PATIENCE) as connection, connection.cursor() as cursor:
            cursor.execute(RIGHTS)
            user, allowed = cursor.fetchone() or ("", False)
        connection.close()
    except psycopg2.Error as error:
        why = " ".join(str(error).split())
        raise EngineError(f"{server}'s database {where} cannot be used: {why}") from None
    if not allowed:
        raise ConfigError(f"{server}'s database {where}: {user} may not create tables: make it the database's owner")


def check_all(urls: dict[str, str]) -> None:
    """Check the databases of all servers that have one by URL; each needs one of its own.

    Raises:
        ConfigError, EngineError: as ``check``; or two share a database.
    """
    for server, url in urls.items():
        check(server, url)
    if len({place(server, url) for server, url in urls.items()}) < len(urls):
        raise ConfigError("Prefect and MLflow need a database each: both URLs name the same one")


def answers(server: str, url: str) -> bool:
    """Whether a database can be used now."""
    try:
        check(server, url)
    except (ConfigError, EngineError):
        return False
    return True
