"""Build the compose image without Docker: run the steps of its Dockerfile as they stand, from the package index alone.

    python tests/image.py           # as root, on Linux; or `make image`

Each instruction is run in a copy of this machine's file system that a mount namespace holds (overlayfs; the machine's
own files are never written) and that is deleted afterwards. The base image is stood in for by an empty environment of
the Python that it names. An instruction that this script does not know is an error. Then the programs that the services
of compose.yaml start are asked for their versions, as the user that the image names.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "deployments" / "compose" / "Dockerfile"
PROGRAMS = ("paced --help", "prefect --version", "mlflow --version")
BASE = "/opt/base"  # the environment that stands for the base image's Python
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "https_proxy", "HTTPS_PROXY")  # how the index is reached


def instructions(text: str) -> list[tuple[str, str]]:
    """(name, arguments) of each, continued lines joined, comments left out."""
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


class Build:
    """The state of a build: variables, working directory and user, and the root that commands see."""

    def __init__(self, root: Path, context: Path):
        self.root, self.context = root, context
        path = f"{BASE}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.variables = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}
        self.variables |= {"PIP_CONFIG_FILE": "/dev/null"} | {k: os.environ[k] for k in CERTIFICATES if k in os.environ}
        self.directory, self.user = "/", "root"

    def run(self, command: str) -> None:
        script = f"cd {shlex.quote(self.directory)} && {command}"
        chroot = [shutil.which("chroot") or "chroot", f"--userspec={self.user}", str(self.root)]
        subprocess.run([*chroot, "/bin/sh", "-ec", script], check=True, env=self.variables)

    def copy(self, sources: list[str], target: str) -> None:
        """From what is committed; what Dockerfile.dockerignore leaves out beyond that is never committed."""
        inside = self.root / self.directory.lstrip("/") / target
        inside.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if source == ".":
                shutil.copytree(self.context, inside, dirs_exist_ok=True, symlinks=True)
            else:
                shutil.copy(self.context / source, inside)

    def do(self, name: str, arguments: str) -> None:
        for variable, value in self.variables.items():
            if name != "RUN":
                arguments = arguments.replace(f"${variable}", value)
        match name:
            case "FROM":
                version = re.match(r"python:(\d+\.\d+)", arguments)
                assert version, f"FROM {arguments}: not an image of Python"
                python = shutil.which(f"python{version[1]}")
                assert python, f"FROM {arguments}: this machine has no python{version[1]}"
                real = subprocess.check_output([python, "-c", "import sys; print(sys.executable)"], text=True).strip()
                for folder in Path(real).parents:  # an interpreter below /root is the image's user's, too
                    inside = self.root / str(folder).lstrip("/")
                    inside.chmod(inside.stat().st_mode | 0o055)
                self.run(f"{shlex.quote(real)} -m venv {BASE}")
            case "ARG" | "ENV":
                self.variables |= dict(word.split("=", 1) for word in shlex.split(arguments))
            case "WORKDIR":
                self.directory = arguments
                (self.root / arguments.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                *sources, target = arguments.split()
                self.copy(sources, target)
            case "USER":
                self.user = arguments
            case "RUN":
                self.run(arguments)
            case _:
                raise ValueError(f"{DOCKERFILE}: {name}: this script does not know it")


def main() -> int:
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        print("needs root on Linux, to mount a copy of the file system that is thrown away", file=sys.stderr)
        return 2
    if os.environ.get("PACED_IMAGE_NAMESPACE") != "1":  # mounts below are this process's alone, and end with it
        return subprocess.run(
            ["unshare", "--mount", sys.executable, __file__], env=os.environ | {"PACED_IMAGE_NAMESPACE": "1"}
        ).returncode
    with tempfile.TemporaryDirectory(prefix="paced-image-") as folder:
        places = {name: Path(folder, name) for name in ("upper", "work", "root", "context")}
        for place in places.values():
            place.mkdir()
        archive = subprocess.check_output(["git", "archive", "HEAD"], cwd=ROOT)
        subprocess.run(["tar", "x", "-C", str(places["context"])], input=archive, check=True)
        options = f"lowerdir=/,upperdir={places['upper']},workdir={places['work']}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(places["root"])], check=True)
        subprocess.run(["mount", "-t", "proc", "proc", str(places["root"] / "proc")], check=True)
        subprocess.run(["mount", "--rbind", "/dev", str(places["root"] / "dev")], check=True)
        try:
            build = Build(places["root"], places["context"])
            for name, arguments in [*instructions(DOCKERFILE.read_text()), *(("RUN", p) for p in PROGRAMS)]:
                print(f"== {name} {arguments}", flush=True)
                began = time.monotonic()
                build.do(name, arguments)
                print(f"== {time.monotonic() - began:.0f} s", flush=True)
        finally:
            subprocess.run(["umount", "--recursive", "--lazy", str(places["root"])], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
