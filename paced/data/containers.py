"""What rows are kept in: JSON lines, JSON, CSV and TSV, Parquet, Arrow, zip; each read by parts.

A parser maps an open file and the name it goes by to rows, each with ``where`` it stands. Imports no torch.
"""

import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from paced.data.fields import Fields
from paced.errors import DataError

Row = tuple[str, Fields]
Parser = Callable[[IO[bytes], str], Iterator[Row]]

BATCH = 1024  # rows of a table that are in memory at once
AUXILIARY = "auxiliary_train"  # MMLU's folder of other sets' questions, which are none of its own
_CHUNK = 1 << 20  # characters of JSON that are read at once
_LONGEST = 1 << 26  # characters of one JSON value, and of one cell
_MMLU_NAME = re.compile(r"(.+)_(dev|val|test)\.csv")
_INK = re.compile(r"\S")
_DECODER = json.JSONDecoder()
_KIND_ADVICE = "; if the file is no JSON, give it its suffix (.csv, .tsv, .parquet, ...)"


def json_object(line: str, where: str, holds: str) -> Fields:
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


def json_lines(file: IO[bytes], name: str) -> Iterator[Row]:
    """One object a line; a file that begins with ``[`` is a list of objects."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig")
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        if number == 1 and line.strip() == "[":
            yield from _json_values(text, name, line)
            return
        try:
            yield where, json_object(line, where, "one problem's fields")
        except DataError as error:
            if number > 1 or line.lstrip().startswith("{"):
                raise
            raise DataError(f"{error}{_KIND_ADVICE}") from None


def json_values(file: IO[bytes], name: str) -> Iterator[Row]:
    """A list of objects, or one object after the other, over as many lines as they like."""
    return _json_values(io.TextIOWrapper(file, encoding="utf-8-sig"), name, "")


def _json_values(text: io.TextIOBase, name: str, begun: str) -> Iterator[Row]:
    reader = _JsonReader(text, name, begun)
    if not reader.takes("["):
        while reader.peek():
            yield reader.value()
        return
    while not reader.takes("]"):
        yield reader.value()
        if reader.takes(","):
            continue
        if reader.peek() != "]":
            raise DataError(f"{reader.where}: not valid JSON (no comma between two objects): correct it")
    if reader.peek():
        raise DataError(f"{reader.where}: something stands behind the end of the list: remove it")


class _JsonReader:
    """Decodes values as they arrive, so that no more than one of them and a chunk are in memory."""

    def __init__(self, text: io.TextIOBase, name: str, begun: str):
        self._text, self._name, self._buffer = text, name, begun
        self._at, self._line = 0, 1

    @property
    def where(self) -> str:
        return f"{self._name}:{self._line}"

    def peek(self) -> str:
        """The next character that is no white space, '' at the end."""
        while True:
            found = _INK.search(self._buffer, self._at)
            self._move(found.start() if found else len(self._buffer))
            if found:
                return found[0]
            if not self._read_on():
                return ""

    def takes(self, mark: str) -> bool:
        """Whether the next character is this one; it is passed over then."""
        found = self.peek() == mark
        self._at += found
        return found

    def value(self) -> Row:
        """The next value, which must be an object.

        Raises:
            DataError: it is no object, or broken.
        """
        self.peek()
        where = self.where
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
                break
            except (ValueError, RecursionError) as error:
                if not self._read_on():
                    raise DataError(f"{where}: not valid JSON ({error}): correct it{_KIND_ADVICE}") from None
        if not isinstance(value, dict):
            raise DataError(f"{where}: not a JSON object: the file must hold a list of objects, or one a line")
        self._move(end)
        return where, value

    def _move(self, to: int) -> None:
        self._line += self._buffer.count("\n", self._at, to)
        self._at = to

    def _read_on(self) -> bool:
        """Read as much again as waits in the buffer, so that a long value costs no more than twice its length."""
        waiting = self._buffer[self._at :]
        if len(waiting) > _LONGEST:
            return False
        more = self._text.read(max(_CHUNK, len(waiting)))
        self._buffer, self._at = waiting + more, 0
        return bool(more)


def parquet(file: IO[bytes], name: str) -> Iterator[Row]:
    """Rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            yield from _batches(table.iter_batches(BATCH), name)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a readable Parquet file: {' '.join(str(error).split())[:200]}") from None


def arrow(file: IO[bytes], name: str) -> Iterator[Row]:
    """Rows of an Arrow file, or of an Arrow stream as ``datasets`` stores it."""
    import pyarrow as pa

    try:
        magic = file.read(6)
        file.seek(0)
        if magic == b"ARROW1":
            table = pa.ipc.open_file(file)
            yield from _batches((table.get_batch(i) for i in range(table.num_record_batches)), name)
        else:
            yield from _batches(pa.ipc.open_stream(file), name)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a readable Arrow file: {' '.join(str(error).split())[:200]}") from None


def _batches(batches: Iterable[Any], name: str) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            for row in batch.slice(start, BATCH).to_pylist():
                yield f"{name}:row {number}", row
                number += 1


def comma_separated(file: IO[bytes], name: str) -> Iterator[Row]:
    """CSV below a header, or the original MMLU layout, which has none."""
    return _cells(file, name, ",")


def tab_separated(file: IO[bytes], name: str) -> Iterator[Row]:
    """TSV below a header."""
    return _cells(file, name, "\t")


def _cells(file: IO[bytes], name: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True, delimiter=delimiter)
    header: list[str] | None = None
    try:
        for cells in reader:
            where = f"{name}:{reader.line_num}"
            if not cells:
                continue
            if header is None:
                header = [] if _without_header(cells) else _checked_header(cells, where)
                if header:
                    continue
            yield where, _below_header(header, cells, where) if header else _of_mmlu(cells, where, name)
        if header and reader.line_num == 1:
            raise DataError(f"{name}:1: no row stands below the header ({', '.join(header)})")
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num}: not valid CSV ({error})") from None


def _without_header(first: list[str]) -> bool:
    """Whether a file's first row is one of MMLU's: a question, its choices and the right one's letter."""
    return len(first) >= 4 and re.fullmatch(r"\s*[A-J]\s*", first[-1]) is not None


def headless(path: Path) -> bool:
    """Whether a CSV file is laid out as MMLU's are.

    Raises:
        OSError: it cannot be read.
    """
    csv.field_size_limit(_LONGEST)
    with path.open(encoding="utf-8-sig", newline="") as text:
        try:
            return _without_header(next(csv.reader(text), []))
        except (csv.Error, UnicodeDecodeError):
            return False


def _checked_header(cells: list[str], where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{where}: the header names {', '.join(map(repr, twice))} twice: give each column its own name")
    return names


def _below_header(header: list[str], cells: list[str], where: str) -> Fields:
    if len(cells) != len(header):
        raise DataError(
            f"{where}: {len(cells)} cells below a header of {len(header)} ({', '.join(header)[:100]}): quote cells "
            "that hold a separator, and give each row as many"
        )
    return dict(zip(header, cells, strict=True))


def _of_mmlu(cells: list[str], where: str, name: str) -> Fields:
    """The original MMLU layout: no header; question, the choices, the right one's letter; SUBJECT_SPLIT.csv."""
    if len(cells) < 4:
        raise DataError(f"{where}: {len(cells)} cells; expected a question, its choices and the right one's letter")
    base = Path(name).name
    named = _MMLU_NAME.fullmatch(base)
    subject, split = named.groups() if named else (base.removesuffix(".csv"), "test")
    question, *choices, answer = cells
    return {"question": question, "choices": choices, "answer": answer, "subject": subject, "split": split}


def zipped(file: IO[bytes], name: str) -> Iterator[Row]:
    """The CSV files of a zip file."""
    try:  # damaged, encrypted, of an unknown method
        with zipfile.ZipFile(file) as archive:
            found = sorted(member for member in archive.namelist() if member.endswith(".csv"))
            members = [member for member in found if AUXILIARY not in member.split("/")]
            if not members:
                raise DataError(f"{name} holds no *.csv file: unpack it and name the folder")
            for member in members:
                with archive.open(member) as inner:
                    yield from comma_separated(inner, f"{name}/{member}")
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise DataError(f"{name} is not a readable zip file: {error}") from None
