"""nginx before Prefect's server, as docs/operations.md has it: its block and its command are read from there."""

import base64
import re
import shlex
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from typing import NamedTuple

from harness import ROOT, eventually, free_port, need

NGINX = Path("/usr/sbin/nginx")
NAME = "paced.example.org"  # of the document; browser.py has it lead to this host
USER, PASSWORD = "alice", "wonderland"
PLACES = "client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;"


class Documented(NamedTuple):
    """What a reader of the document types."""

    block: str  # of nginx's configuration
    environment: dict[str, str]  # of ``paced up``
    options: list[str]


def documented() -> Documented:
    section = (ROOT / "docs" / "operations.md").read_text().partition("**Users of their own.**")[2]
    blocks: list[str] = re.findall(r"(?:^ {4}.*\n)+", section, re.MULTILINE)
    block, command = (next(b for b in blocks if word in b) for word in ("auth_basic_user_file", "paced up"))
    words = shlex.split(command)
    given = words[: words.index("paced")]
    return Documented(block, dict(word.split("=", 1) for word in given), words[words.index("up") + 1 :])


class Proxy(NamedTuple):
    port: int  # of 127.0.0.1
    certificate: Path

    @property
    def pages(self) -> str:
        """As a browser calls it."""
        return f"https://{NAME}:{self.port}"

    @property
    def api(self) -> str:
        """As clients do that no name leads to this host."""
        return f"https://127.0.0.1:{self.port}/api"


def basic(login: str) -> str:
    """The value of the header, as the document says for compose; nothing is handed on without a login."""
    return f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""


@contextmanager
def nginx(folder: Path, upstream: str, login: str = "") -> Generator[Proxy]:
    """The proxy before the server ``upstream``, which may have a ``login`` of its own, NAME:PASSWORD."""
    need(NGINX.exists(), f"{NGINX} is missing: apt-get install nginx-light")
    proxy, block = Proxy(free_port(), folder / "paced.pem"), documented().block
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{proxy.port} ssl"),
        ("/etc/nginx/", f"{folder}/"),
        ("http://127.0.0.1:4200", upstream),
        ('Authorization ""', f'Authorization "{basic(login)}"'),
    ):
        assert old in block
        block = block.replace(old, new)
    kept = f"error_log stderr; pid {folder}/pid; daemon off; user {getuser()}; events {{}}\n"
    (folder / "nginx.conf").write_text(f"{kept} http {{ access_log {folder}/access.log; {PLACES}\n{block} }}\n")
    names = f"subjectAltName=DNS:{NAME},IP:127.0.0.1"
    key = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} -addext {names}"
    subprocess.run(
        [*key.split(), "-keyout", "paced.key", "-out", "paced.pem"], cwd=folder, check=True, capture_output=True
    )
    hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True)
    (folder / "paced.users").write_text(f"{USER}:{hashed.stdout}")  # as htpasswd writes it
    with (folder / "nginx.log").open("w") as log:
        command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def started() -> bool:
        assert process.poll() is None, (folder / "nginx.log").read_text()
        return (folder / "pid").exists()  # it listens before it writes this

    try:
        eventually(started, 20, "nginx listens")
        yield proxy
    finally:
        process.terminate()
        process.wait(20)
