"""Rows of a data file, whatever it is kept in: JSONL, Parquet, CSV files in a folder or zip, the Hugging Face hub.

Every row is a plain dict with ``where`` it stands, for messages. Files are read in batches, so memory does not grow
with them. Imports no torch.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from paced.errors import DataError
from paced.storage.files import replacing
from paced.storage.identity import digest, file_digest

HUB = "hub:"
BATCH = 1024
AUXILIARY = "auxiliary_train"  # MMLU's folder of other sets' questions, which are none of its own
Row = tuple[str, dict[str, Any]]


def rows(path: Path) -> Iterator[Row]:
    """The rows of a data file, by its suffix; anything that is not Parquet, zip or a folder is read as JSONL.

    Raises:
        DataError: the file cannot be read; a line of JSON is broken, with its number.
    """
    try:
        if path.is_dir():
            for file in members(path):
                if file.suffix == ".csv":
                    with file.open(encoding="utf-8", newline="") as text:
                        yield from _csv(text, str(file), file.name)
                else:
                    yield from rows(file)
        elif path.suffix == ".parquet":
            yield from _parquet(path)
        elif path.suffix == ".zip":
            yield from _zip(path)
        else:
            yield from _jsonl(path)
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: convert it to JSONL in UTF-8") from None
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror or error}") from None


def members(folder: Path) -> list[Path]:
    """The data files of a folder: its CSV files (MMLU), else its JSONL and Parquet files, in an order of their own.

    Raises:
        DataError: there are none.
    """
    for suffixes in ((".csv",), (".jsonl", ".parquet")):
        found = sorted(f for f in folder.rglob("*") if f.suffix in suffixes)
        if found := [f for f in found if AUXILIARY not in f.relative_to(folder).parts]:
            return found
    raise DataError(f"{folder} cannot be read: Is a directory without *.jsonl, *.parquet or *.csv files")


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            yield where, json_object(line, where, "one problem's fields")


def json_object(line: str, where: str, holds: str) -> dict[str, Any]:
    """The fields of one line of JSONL.

    Raises:
        DataError: it is no JSON object; names ``where`` and what a line ``holds``.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error}): correct or remove the line") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object: each line must hold {holds}")
    return row


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    yield f"{path}:row {number}", row
                    number += 1
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a readable Parquet file: {' '.join(str(error).split())[:200]}") from None


def _zip(path: Path) -> Iterator[Row]:
    try:
        with zipfile.ZipFile(path) as archive:
            files = sorted(name for name in archive.namelist() if name.endswith(".csv"))
            members = [name for name in files if AUXILIARY not in name.split("/")]
            if not members:
                raise DataError(f"{path} holds no *.csv file")
            for name in members:
                with archive.open(name) as file:
                    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
                    yield from _csv(text, f"{path}/{name}", name.rpartition("/")[2])
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # damaged, encrypted, unknown method
        raise DataError(f"{path} is not a readable zip file: {error}") from None


def _csv(text: Iterable[str], where: str, name: str) -> Iterator[Row]:
    """The original MMLU layout: no header; question, the choices, the right one's letter; SUBJECT_SPLIT.csv."""
    named = re.fullmatch(r"(.+)_(dev|val|test)\.csv", name)
    subject, split = named.groups() if named else (name.removesuffix(".csv"), "test")
    reader = csv.reader(text, strict=True)
    try:
        for cells in reader:
            place = f"{where}:{reader.line_num}"
            if len(cells) < 4:
                raise DataError(
                    f"{place}: {len(cells)} cells; expected a question, its choices and the right one's letter"
                )
            question, *choices, answer = cells
            yield place, {
                "question": question, "choices": choices, "answer": answer, "subject": subject, "split": split,
            }  # fmt: skip
    except csv.Error as error:
        raise DataError(f"{where}:{reader.line_num}: not valid CSV ({error})") from None


def identity(path: Path) -> str:
    """Digest of a data file's bytes, or of all data files of a folder.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if path.is_dir():
            return digest({str(f.relative_to(path)): file_digest(f) for f in members(path)})
        return file_digest(path)
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from None


def place(path: str, home: Path) -> Path:
    """Where a data file lies or will lie: itself, or the Parquet copy of ``hub:OWNER/NAME[:CONFIG]:SPLIT``.

    Raises:
        DataError: it is no such name.
    """
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
