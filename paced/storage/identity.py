"""Digests: what makes two inputs, two stages or two models the same."""

import contextlib
import datetime
import functools
import hashlib
import json
import mmap
import subprocess
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from paced.errors import ConfigError, DataError

# What decides a model's output. A README or an optimizer state beside the weights does not.
MODEL_FILES = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json",
    "*.model", "*.tiktoken", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "chat_template.jinja", "additional_chat_templates/*.jinja", "*.py",
)  # fmt: skip

# What decides the prompts that a folder's tokenizer writes.
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja",
    "*.py",
)  # fmt: skip


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """``sha256:...`` of a JSON-able value."""
    return text_digest(canonical(value))


def text_digest(text: str) -> str:
    """``sha256:...`` of a text, which in a damaged file may hold half a surrogate pair."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def short(digest: str, length: int = 24) -> str:
    """The first hexadecimal digits of a digest, as files and folders are named by it."""
    return digest.removeprefix("sha256:")[:length]


# By the prefix of a digest. The identity of anything is a sha256; xxh3, which no one could rely on against a forger,
# tells damage some ten times as fast.
CHUNK = 16 * 2**20  # bytes between which other threads run
ALGORITHMS: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "xxh3": xxhash.xxh3_128}


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """``sha256:...`` of a file's bytes, or the digest of another of ``ALGORITHMS``."""
    with path.open("rb") as file:
        if algorithm == "sha256" or not path.stat().st_size:
            return f"{algorithm}:{hashlib.file_digest(file, ALGORITHMS[algorithm]).hexdigest()}"
        # Weights are mapped, for a copy would take longer than xxh3; safetensors maps them as well. No other file is:
        # one that somebody cuts short meanwhile would end the process by a signal.
        found = ALGORITHMS[algorithm]()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            for start in range(0, len(view), CHUNK):
                with view[start : start + CHUNK] as chunk:
                    found.update(chunk)
        return f"{algorithm}:{found.hexdigest()}"


Stamp = tuple[int, int, int]  # of a file: bytes, time of change, inode


def stamp(path: Path) -> Stamp:
    """Changes when a file is written or replaced."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def known_digest(path: Path, algorithm: str = "sha256") -> str:
    """``file_digest``, read once a process as long as the file is not written."""
    return _file_digest(path, stamp(path), algorithm)


@functools.cache
def _file_digest(path: Path, _stamp: Stamp, algorithm: str) -> str:
    return file_digest(path, algorithm)


def model_identity(folder: Path, algorithm: str = "sha256") -> str:
    """Digest over the weight, configuration and tokenizer files of a Hugging Face folder, each by ``algorithm``.

    A name alone is not an identity: two folders with the same files have the same identity wherever they lie. Bytes are
    read again only if a file was written since, for workers live longer than the files they name.

    Raises:
        DataError: the folder, its ``config.json`` or its safetensors weights are missing.
    """
    files = model_files(folder)
    names = [str(f.relative_to(folder)) for f in files]
    if "config.json" not in names:
        raise DataError(f"model folder {folder} has no config.json: it is not a Hugging Face model folder")
    if not any(name.endswith(".safetensors") for name in names):
        raise DataError(
            f"model folder {folder} has no *.safetensors weights: pickled weights are never loaded; convert them with "
            "save_pretrained"
        )
    return digest({name: known_digest(f, algorithm) for name, f in zip(names, files, strict=True)})


def model_files(folder: Path) -> list[Path]:
    """The files that decide a model's output, sorted.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"model folder {folder} does not exist: give the path of a Hugging Face model folder")
    return sorted({f for pattern in MODEL_FILES for f in folder.glob(pattern)})


def is_model_file(name: str) -> bool:
    """Whether a path relative to a model's folder is one of ``model_files``."""
    return any(fnmatch(name, p) and name.count("/") == p.count("/") for p in MODEL_FILES)


def commit_of(folder: Path) -> str:
    """The commit of the repository that a folder lies in, ``-dirty`` if files differ from it; '' outside of one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


class Commit(NamedTuple):
    """A commit, and when it was made."""

    name: str
    time: datetime.datetime


def committed(path: Path) -> Commit:
    """The last commit that changed a file.

    Raises:
        ConfigError: the file lies in no repository, or not as it was committed.
    """
    git = ["git", "-C", str(path.absolute().parent)]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        changed, found = (
            subprocess.run([*git, *command, "--", path.name], capture_output=True, text=True, check=True).stdout.strip()
            for command in (["status", "--porcelain"], ["log", "-1", "--format=%H %cI"])
        )
        if found and not changed:
            name, time = found.split()
            return Commit(name, datetime.datetime.fromisoformat(time))
    raise ConfigError(f"{path} is not committed as it stands, so nobody could tell what was written before its results")
