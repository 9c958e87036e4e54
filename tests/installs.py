"""Whether what this repository tells people to install can be installed where README says that it runs.

    python tests/installs.py        # or `make installs`; --root DIR checks another checkout

Reads each ``pip install`` that the documents, the Makefile, the Dockerfile and the error messages name, and has uv
resolve it for each system and Python that README promises: metadata alone, wheels alone, from the package index alone,
whatever pip or uv is configured to do on this machine. Prints one table; exits with 1 if a line does not resolve. Where
the index cannot be reached it says that nothing was checked, and exits with 1 only in CI.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS = {  # README's names, and uv's
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux aarch64": "aarch64-manylinux_2_28",
    "macOS 14 arm64": "aarch64-apple-darwin",
}
VLLM_SYSTEMS = {  # what docs/engines.md promises of the lists in VLLM, whose packages want a later glibc
    "x86-64, glibc 2.31": "x86_64-manylinux_2_31",
    "aarch64, glibc 2.34": "aarch64-manylinux_2_34",
}
VLLM = "deployments/vllm/"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
TARGETS = ("setup", "smollm2", "vllm", "vllm-cpu")  # of the Makefile
SOURCES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "recipes/*.py", "paced/**/*.py", "deployments/**/*.py")
ENDS = re.compile(r"[`#)\"|]|, or |\\n")  # of a command in a sentence, a table or a message
LIMIT = 120  # seconds for one resolution
WITH_VALUE = ("--constraint", "-c", "--requirement", "-r", "--index-url")


class Install(NamedTuple):
    """What one ``pip install`` asks for; the files are relative to the repository."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    with_dependencies: bool = True
    pythons: tuple[str, ...] = PYTHONS
    systems: tuple[str, ...] = tuple(SYSTEMS)

    def __str__(self) -> str:
        words = [*self.requirements, *(f"-r {f}" for f in self.files), *(f"-c {c}" for c in self.constraints)]
        return " ".join(words if self.with_dependencies else ["--no-deps", *words])


def parsed(command: str) -> Install | None:
    """What stands behind ``pip install``, up to the first word that is none of pip's; None if that is nothing."""
    try:
        words = shlex.split(command)
    except ValueError:  # an apostrophe of the sentence around it
        words = command.split()
    requirements, constraints, files, with_dependencies = list[str](), list[str](), list[str](), True
    rest = iter(words)
    for word in rest:
        if word in WITH_VALUE:
            value = next(rest, "")
            kept = {"-c": constraints, "--constraint": constraints, "-r": files, "--requirement": files}.get(word)
            if kept is not None:
                kept.append(value)
        elif word.startswith("-"):
            with_dependencies = with_dependencies and word != "--no-deps"
        elif re.fullmatch(r"\.(\[[\w,-]+\])?|dist/\*\.whl", word):
            requirements.append(word)
        else:
            try:
                requirement = Requirement(word)
            except InvalidRequirement:
                break
            if not on_another_index(requirement):
                requirements.append(word)
    if not requirements and not files:
        return None
    install = Install(tuple(requirements), tuple(constraints), tuple(files), with_dependencies)
    if any(file.startswith(VLLM) for file in files):
        # pip does not look at dependencies there. The CUDA list meets them all, and the CPU list leaves four out.
        return install._replace(systems=tuple(VLLM_SYSTEMS), with_dependencies=f"{VLLM}cuda.txt" in files)
    return install


def on_another_index(requirement: Requirement) -> bool:
    """Whether it asks for a build with a local label, such as torch's +cpu, which no package index may hold."""
    return any("+" in specifier.version for specifier in requirement.specifier)


def listed(path: Path) -> Iterator[str]:
    """The lines of a list of requirements that are to be found on the package index."""
    for line in path.read_text().splitlines():
        if line and not line.startswith("#") and not on_another_index(Requirement(line)):
            yield line


def in_makefile(root: Path) -> Iterator[Install]:
    """The commands that the Makefile's targets run, its variables filled in by make."""
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", *TARGETS]
    text = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    for line in text.replace("\\\n", " ").splitlines():
        _, found, arguments = line.partition("pip install ")
        install = parsed(arguments) if found else None
        if install:
            yield install


def in_dockerfile(path: Path) -> Iterator[Install]:
    """The image's, for its own Python on Linux, build arguments at their defaults."""
    text = path.read_text()
    base = re.search(r"^FROM python:(\d+\.\d+)", text, re.MULTILINE)
    assert base, f"{path}: no line FROM python:X.Y"
    for name, value in re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE):
        text = text.replace(f"${name}", value)
    for arguments in re.findall(r"pip install (.+)$", text, re.MULTILINE):
        if install := parsed(arguments):
            yield install._replace(systems=("Linux x86-64", "Linux aarch64"), pythons=(base[1],))


def in_documents(root: Path) -> Iterator[Install]:
    """What documents, comments and error messages tell people to type."""
    for pattern in SOURCES:
        for path in sorted(root.glob(pattern)):
            for arguments in re.findall(r"pip install (.+)$", path.read_text(), re.MULTILINE):
                if install := parsed(ENDS.split(arguments)[0].rstrip(" .,;:")):
                    yield install


def environment() -> dict[str, str]:
    """The machine's, without what configures pip or uv; macOS 14 is the oldest that torch has wheels for."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
    return kept | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}


def resolve(root: Path, install: Install, system: str, python: str) -> str | None:
    """Have uv resolve it; returns the reason why it does not, or None."""
    own = [r for r in install.requirements if r.startswith((".", "dist/"))]
    lines = [line for file in install.files for line in listed(root / file)]
    others = "".join(f"{r}\n" for r in (*install.requirements, *lines) if r not in own)
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate"]
    command += ["--python", sys.executable]  # or uv would look for one of each version
    platform = (SYSTEMS | VLLM_SYSTEMS)[system]
    command += ["--only-binary", ":all:", "--python-platform", platform, "--python-version", python]
    command += [] if install.with_dependencies else ["--no-deps"]
    for file in install.constraints:
        command += ["--constraint", file]
    for requirement in own:
        command += ["pyproject.toml"]
        if extras := re.fullmatch(r"\.\[(.+)\]", requirement):
            command += [word for extra in extras[1].split(",") for word in ("--extra", extra)]
    command += ["-"] if others else []
    try:
        done = subprocess.run(
            command, cwd=root, input=others, capture_output=True, text=True, env=environment(), timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return f"uv came to no end within {LIMIT} s"
    return None if done.returncode == 0 else " ".join(done.stderr.split()) or f"uv ended with {done.returncode}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose documents are read")
    root = parser.parse_args().root.resolve()
    if reason := resolve(root, Install(("packaging",)), "Linux x86-64", "3.11"):
        print(f"not checked: the package index cannot be reached ({reason[:200]})", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    documents = (*in_makefile(root), *in_dockerfile(root / "deployments/compose/Dockerfile"), *in_documents(root))
    tries = [(i, s, p) for i in dict.fromkeys(documents) for s in i.systems for p in i.pythons]
    with ThreadPoolExecutor(8) as threads:
        reasons = dict(zip(tries, threads.map(lambda one: resolve(root, *one), tries), strict=True))
    print(f"{'system':20}{'Pythons':24}{'':14}pip install ...")
    for install in dict.fromkeys(i for i, _, _ in tries):
        for system in install.systems:
            outcomes = {p: reasons[install, system, p] for p in install.pythons}
            for good in (True, False):
                if pythons := [p for p, reason in outcomes.items() if (reason is None) == good]:
                    print(f"{system:20}{', '.join(pythons):24}{'resolves' if good else 'NO SOLUTION':14}{install}")
    for (install, system, python), reason in reasons.items():
        if reason:
            print(f"\n{system}, Python {python}: pip install {install}\n    {reason[:1000]}", file=sys.stderr)
    return 1 if any(reasons.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
