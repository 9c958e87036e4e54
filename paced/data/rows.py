"""Rows of a data file, whatever it is kept in: a file, a folder, several by a pattern, the Hugging Face hub.

Every row is a plain dict with ``where`` it stands, for messages. Files are read by parts, so memory does not grow with
them. Imports no torch.
"""

import glob
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from paced.config.base import is_address
from paced.data.containers import (
    AUXILIARY,
    Parser,
    Row,
    arrow,
    comma_separated,
    headless,
    json_lines,
    json_values,
    parquet,
    tab_separated,
    zipped,
)
from paced.errors import DataError
from paced.storage.files import replacing
from paced.storage.identity import digest, file_digest

HUB = "hub:"
PARSERS: dict[str, Parser] = {
    ".jsonl": json_lines, ".json": json_values, ".csv": comma_separated, ".tsv": tab_separated, ".parquet": parquet,
    ".arrow": arrow, ".zip": zipped,
}  # fmt: skip
COMPRESSIONS = (".gz", ".zst")
# What files begin with, whatever they are called.
MAGIC: tuple[tuple[bytes, Parser], ...] = ((b"PAR1", parquet), (b"ARROW1", arrow), (b"PK\x03\x04", zipped))
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# In a folder the first of these kinds that is there counts: JSON is often what describes the others.
KINDS = ((".csv", ".tsv"), (".jsonl", ".parquet", ".arrow"), (".json",))
# How publishers name the splits of a set, as a word of a file's name or a folder (the datasets library's words).
_TRAIN, _TEST, _VALIDATION = "train(?:ing)?", "test(?:ing)?|eval(?:uation)?", "valid(?:ation)?|val|dev"
_SPLIT = re.compile(rf"(?<![^\W_])(?:({_TRAIN})|({_TEST})|({_VALIDATION}))(?![^\W\d_])", re.IGNORECASE)


def rows(path: Path) -> Iterator[Row]:
    """The rows of a data file, a folder of such or those that a pattern names, by what they hold and are called.

    Raises:
        DataError: a file cannot be read; what is broken in it, with its line.
    """
    try:
        for file in files(path):
            yield from _rows(file)
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror or error}") from None


def _rows(path: Path) -> Iterator[Row]:
    suffix = _suffix(path)
    with path.open("rb") as raw:
        magic = raw.read(8)
        raw.seek(0)
        compressed = magic.startswith((_GZIP, _ZSTD))
        parse = next((parser for begin, parser in MAGIC if magic.startswith(begin)), PARSERS.get(suffix, json_lines))
        if compressed and parse in (parquet, arrow, zipped):
            raise DataError(f"{path} is compressed as a whole, so no part of it can be read alone: unpack it")
        try:
            with _unpacked(raw, magic) as file:
                yield from parse(file, str(path))
        except UnicodeDecodeError:
            raise DataError(f"{path} is not UTF-8 text: convert it to JSONL in UTF-8") from None
        except (EOFError, zlib.error, OSError) as error:
            if not compressed:
                raise
            raise DataError(f"{path} is damaged where it is compressed ({error}): get it again") from None


def _suffix(path: Path) -> str:
    """A file's suffix without that of its compression."""
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def _unpacked(raw: IO[bytes], magic: bytes) -> IO[bytes]:
    if magic.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)  # pyright: ignore[reportReturnType]
    if magic.startswith(_ZSTD):
        import pyarrow as pa

        return pa.CompressedInputStream(raw, "zstd")
    return raw


def files(path: Path) -> list[Path]:
    """The data files that a path means: itself, those of a folder, or those that a pattern such as ``d/train-*`` names.

    Raises:
        DataError: there are none, or a folder has several splits, of which the path must say one.
    """
    if path.is_dir():
        found = members(path)
        _one_split(path, found)
        return found
    if not path.exists() and glob.has_magic(str(path)):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        if found := [file for file in found if file.is_file()]:
            return found
        raise DataError(f"data files {path} cannot be read: No such file")
    return [path]


def members(folder: Path) -> list[Path]:
    """The data files of a folder and its subfolders, of the first of KINDS that is there, in an order of their own.

    Raises:
        DataError: there are none.
    """
    below = [f for f in sorted(folder.rglob("*")) if f.is_file()]
    below = [f for f in below if not any(p.startswith(".") or p == AUXILIARY for p in f.relative_to(folder).parts)]
    for suffixes in KINDS:
        if found := [f for f in below if _suffix(f) in suffixes]:
            return found
    kinds = ", ".join(f"*{suffix}" for suffixes in KINDS for suffix in suffixes)
    raise DataError(f"{folder} cannot be read: Is a directory without data files ({kinds})")


def _one_split(folder: Path, found: list[Path]) -> None:
    """Refuse training and test files in one folder, except MMLU's, whose names say what each is for."""
    splits: dict[str, Path] = {}
    for file in found:
        for part in reversed(file.relative_to(folder).parts):
            if word := _SPLIT.search(part):
                splits.setdefault(("train", "test", "validation")[(word.lastindex or 1) - 1], file)
                break
    if len(splits) < 2 or all(f.suffix == ".csv" and headless(f) for f in found):
        return
    listed = ", ".join(f"{split}: {file.relative_to(folder)}" for split, file in splits.items())
    raise DataError(f"{folder} holds several splits ({listed}): name the files of one, with * if they are several")


def identity(path: Path) -> str:
    """Digest of a data file's bytes, or of all data files that a folder or a pattern means.

    Raises:
        DataError: it cannot be read.
    """
    try:
        found = files(path)
        if found == [path]:
            return file_digest(path)
        base = path if path.is_dir() else next(p for p in path.parents if not glob.has_magic(str(p)))
        return digest({str(f.relative_to(base)): file_digest(f) for f in found})
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from None


def place(path: str, home: Path) -> Path:
    """Where a data file lies or will lie: itself, or the Parquet copy of ``hub:OWNER/NAME[:CONFIG]:SPLIT``.

    Raises:
        DataError: it is no such name, or an address.
    """
    if is_address(path):
        raise DataError(f"data path {path!r} is an address, which is not read: download the file and give its path")
    if not path.startswith(HUB):
        return Path(path).absolute()
    parts = path.removeprefix(HUB).split(":")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise DataError(f"data path {path!r}: write hub:OWNER/NAME:SPLIT or hub:OWNER/NAME:CONFIG:SPLIT")
    return (home / "hub" / (re.sub(r"[^\w.-]+", "--", "/".join(parts)) + ".parquet")).absolute()


def local(path: str, home: Path) -> Path:
    """Where a data file lies; a data set of the hub is fetched first.

    It is fetched once; from then on the copy is the data, so a run can be repeated without a network.

    Raises:
        DataError: the hub cannot be reached, or does not have it.
    """
    target = place(path, home)
    if path.startswith(HUB) and not target.exists():
        name, *config, split = path.removeprefix(HUB).split(":")
        try:
            from datasets import load_dataset  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise DataError(
                f"{path}: reading from the hub needs the package datasets: "
                "pip install --editable '.[hub]' --constraint constraints.txt"
            ) from None
        try:
            found = load_dataset(name, *config, split=split)
            with replacing(target) as temporary:
                found.to_parquet(str(temporary))
        except Exception as error:  # every failure of that library, in its own way, becomes one line
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{path} cannot be fetched from the Hugging Face hub ({type(error).__name__}: {reason}): check the "
                "name and the network, or download the file and give its path"
            ) from None
    return target
