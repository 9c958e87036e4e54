"""The sample-keyed store: rows that cost a model's time, kept by what they are and not by the run that asked.

A collection holds the rows one model gives under one set of sampling parameters; a part is a Parquet file with a JSON
note beside it that is written last. A stage looks up which keys exist, computes the rest part by part, and records
which part holds each key. So a killed stage resumes at the last committed part, a data set that grew by a tenth costs
a tenth, and two runs that ask for the same rows at once lose none: a part's name is the digest of its bytes, so they
write the same file or two files.

Hosts that share a store (paced/storage/shared.py) put each part and then its note there, and take what others have put.
"""

import contextvars
import hashlib
import itertools
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paced.batching import batched
from paced.errors import CacheError
from paced.storage.artifacts import SCHEMA
from paced.storage.checks import WAY_OUT, check_file
from paced.storage.files import read_record, record_of, replacing, write_record
from paced.storage.identity import digest, short
from paced.storage.shared import AT_ONCE, SharedStore, shared
from paced.storage.tables import Row

T = TypeVar("T")

KEY = "sample_key"
ABOUT = "collection.json"  # what a collection is of
ROW_GROUP = 8192  # rows of a table that are written, and can be read, at once
WINDOW, TAKEN = 2048, 256  # rows in memory that are put in order, and of them as objects


def sample_key(**parts: Any) -> str:
    """128 bits, in hex, over everything that decides one row."""
    return short(digest(parts), 32)


# What planning reckons with: a sampled token (id and text, compressed), a position of the teacher's targets (about 10
# entries of 2.2 bytes, and what a row costs), and the same in the flat copy that training reads (10 entries of 6).
SAMPLE_BYTES, TARGET_BYTES, PACKED_BYTES = 6, 30, 70


class PartNote(BaseModel):
    """What is known of a part: the record beside it, written last."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")
    schema_version: int = Field(alias="schema")
    rows: int
    bytes: int
    sha256: str
    tokens: str  # digest of the tokenizer's token->id map


def read_note(path: Path) -> PartNote:
    """The note of a part.

    Raises:
        CacheError: it is missing, damaged or of another schema version.
    """
    try:
        return PartNote.model_validate(read_record(path, SCHEMA))
    except (FileNotFoundError, ValidationError):
        raise CacheError(f"{path} is missing or damaged: {WAY_OUT}") from None


def fetch_note(store: SharedStore, path: Path) -> None:
    """Have the note of a part that a shared store has; its part is fetched when it is opened."""
    if not path.exists() and (raw := store.read(path.parent, path.name)) is not None:
        record_of(raw, f"{store.url}/{store.name(path.parent, path.name)}", SCHEMA)
        with replacing(path) as temporary:
            temporary.write_bytes(raw)


def open_part(path: Path) -> tuple[pq.ParquetFile, str]:
    """A part, its bytes compared with its note, and the digest of the token->id map it was written with.

    Raises:
        CacheError: one of the two is missing or damaged, or they do not belong together.
    """
    store = shared()
    if store:
        fetch_note(store, path.with_suffix(".json"))
    note = read_note(path.with_suffix(".json"))
    if store:
        store.local(path, store.name(path.parent, path.name), note.bytes, note.sha256)
    check_file(path, note.sha256)
    try:
        part = pq.ParquetFile(path)
        tokens: str = part.schema_arrow.metadata[b"paced.tokens"].decode()
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise CacheError(f"{path} is no part of a store ({' '.join(str(error).split())[:200]}): {WAY_OUT}") from None
    if (tokens, part.metadata.num_rows) != (note.tokens, note.rows):  # the note is of a version that gave it no digest
        raise CacheError(f"{path.with_suffix('.json')} is damaged: {WAY_OUT}")
    return part, tokens


def give(store: SharedStore, folder: Path, *files: str) -> None:
    """Put files of a collection into a shared store, in this order."""
    for file in files:
        store.objects.put(store.name(folder, file), folder / file)


def give_parts(store: SharedStore, folder: Path, there: Container[str]) -> None:
    """Put what only this host has of a collection into a shared store.

    Args:
        there: names of the files that the store has.

    Raises:
        CacheError: one of them is damaged, which is not given to others.
    """
    here = set(os.listdir(folder)) if folder.exists() else set[str]()
    if ABOUT in here and ABOUT not in there:
        give(store, folder, ABOUT)
    for note in sorted(here):
        part = note.removesuffix(".json") + ".parquet"
        if note.endswith(".json") and note not in there and part in here:
            open_part(folder / part)[0].close()
            give(store, folder, part, note)


class Collection:
    """The rows of one model under one set of parameters.

    ``about`` decides the folder's name, and each part carries its digest; ``schema`` is the table's, with a
    ``sample_key`` column; ``tokens`` is the digest of the tokenizer's token->id map, carried by each part and compared
    on opening.
    """

    def __init__(self, root: Path, kind: str, about: Mapping[str, Any], schema: pa.Schema, tokens: str):
        self.folder = root / "store" / kind / short(digest(about))
        self.tokens = tokens
        notes = {"paced.tokens": tokens, "paced.schema": str(SCHEMA), "paced.about": digest(about)}
        self.schema = schema.with_metadata(notes)
        self._about = about
        self._index: dict[str, str] = {}
        self._seen = {ABOUT}  # files that need no second look
        self._added = 0  # parts written here since the folder was listed

    def refresh(self, anew: bool = False) -> dict[str, str]:
        """key -> part name, over all committed parts; only parts not seen before are read, and checked.

        Who writes a part and asks again does not list a large folder each time: only when the store has grown by a
        64th, so that listing costs what writing does. What another process added meanwhile is found that much later,
        unless the folder is to be listed ``anew``.
        """
        if not anew and 0 < self._added < len(self._seen) // 128:
            return self._index
        self._added = 0
        try:
            files = set(os.listdir(self.folder))
        except FileNotFoundError:
            files = set[str]()
        if store := shared():
            files |= self._exchanged(store)
        new = [file for file in files if file not in self._seen]
        for note in sorted(file for file in new if file.endswith(".json")):
            name = note.removesuffix(".json")
            for key in self._open(name).read([KEY]).column(KEY).to_pylist():
                self._index.setdefault(key, name)
            self._seen |= {note, f"{name}.parquet"}
        return self._index

    def _exchanged(self, store: SharedStore) -> Set[str]:
        """Give a shared store the parts that are only here, and take those that are only there; returns their notes."""
        there = store.names(self.folder)
        give_parts(store, self.folder, there)
        notes = {note for note in there.keys() - self._seen if note.endswith(".json")}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for part in pool.map(self._open, sorted(Path(note).stem for note in notes)):
                part.close()
        return notes

    def write(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Commit one part; returns its name."""
        keys = [row[KEY] for row in rows]
        buffer = pa.BufferOutputStream()
        write_table(buffer, pa.Table.from_pylist(list(rows), schema=self.schema))
        data = buffer.getvalue().to_pybytes()
        sha256 = "sha256:" + hashlib.sha256(data).hexdigest()
        # Named by its bytes, not its keys: two processes may sample the same keys with other last bits, and neither may
        # put its file under the other's note.
        name = short(sha256)
        path = self.folder / f"{name}.parquet"
        first = not (self.folder / ABOUT).exists()
        if first:
            write_record(self.folder / ABOUT, self._about)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
        note = PartNote(schema=SCHEMA, rows=len(rows), bytes=len(data), sha256=sha256, tokens=self.tokens)
        write_record(path.with_suffix(".json"), note.model_dump(by_alias=True))
        if store := shared():
            give(store, self.folder, *[ABOUT] * first, path.name, f"{name}.json")
        self._seen |= {f"{name}.json", path.name}
        self._added += 1
        for key in keys:
            self._index.setdefault(key, name)
        return name

    def ensure(
        self,
        wanted: Mapping[str, T],
        compute: Callable[[list[T]], Sequence[Mapping[str, Any]]],
        writer: "Writer | None" = None,
    ) -> int:
        """Compute the rows that are missing and commit them as one part; returns how many were computed.

        What another process has committed meanwhile is not computed again.

        Args:
            wanted: by key, what each row is computed from.
            compute: gives the rows of those whose keys are missing, in their order.
            writer: commits the part while the caller goes on; what it was given before is not missing either.
        """
        index, given = self.refresh(), writer.given if writer else ()
        missing = [item for key, item in wanted.items() if key not in index and key not in given]
        if missing:
            (writer or self).write(compute(missing))
        return len(missing)

    def part(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """One part's table.

        Raises:
            CacheError: the part is missing, damaged, of another schema version or made by another tokenizer.
        """
        return self._open(name).read(columns)

    def file(self, name: str) -> Path:
        """The file of a part, on this host and compared; raises what ``part`` does."""
        self._open(name).close()
        return self.folder / f"{name}.parquet"

    def rows(self, wanted: Iterable[tuple[str, str]], columns: list[str]) -> Iterator[Row]:
        """The rows of ``(key, part)`` pairs in their order, few of them as objects at a time.

        A part is read once for all of WINDOW pairs that are in it: on-policy samples are asked for in the order of
        draws, in which neighbours seldom share a part.
        """
        for pairs in batched(wanted, WINDOW):
            order = sorted(range(len(pairs)), key=lambda i: pairs[i][1])
            table = pa.concat_tables(self.tables([pairs[i] for i in order], columns))
            place = np.argsort(order)
            for start in range(0, len(pairs), TAKEN):
                yield from table.take(place[start : start + TAKEN]).to_pylist()

    def tables(self, wanted: Iterable[tuple[str, str]], columns: list[str]) -> Iterator[pa.Table]:
        """The rows of ``(key, part)`` pairs in their order, as tables of few rows.

        One part is in memory at a time; a part is read each time that the order comes to it.
        """
        for name, pairs in itertools.groupby(wanted, key=lambda pair: pair[1]):
            table = self.part(name, [KEY, *[c for c in columns if c != KEY]])
            position = {key: i for i, key in enumerate(table.column(KEY).to_pylist())}
            keys = [key for key, _ in pairs]
            for key in keys:
                if key not in position:
                    raise CacheError(
                        f"{self.folder / name}.parquet lacks sample {key}: run 'paced cache verify --delete'"
                    )
            for start in range(0, len(keys), TAKEN):
                yield table.take([position[key] for key in keys[start : start + TAKEN]])

    def _open(self, name: str) -> pq.ParquetFile:
        path = self.folder / f"{name}.parquet"
        part, tokens = open_part(path)
        if tokens != self.tokens:
            raise CacheError(
                f"{path} was written by another tokenizer (token map {tokens[:15]}, now {self.tokens[:15]}): "
                "use the tokenizer it was made with"
            )
        return part


class Writer:
    """Commits a collection's parts in a thread of its own, each while the rows of the next one are computed."""

    def __init__(self, collection: Collection):
        self._collection, self._thread = collection, ThreadPoolExecutor(1)
        self._pending: Future[str] | None = None
        self.given = set[str]()  # keys of all rows so far, committed or not

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take a part; returns when the one before is committed, or raises what went wrong with it."""
        self.wait()
        self.given |= {row[KEY] for row in rows}
        # In this context, whose comparisons have to be done before anything is committed.
        self._pending = self._thread.submit(contextvars.copy_context().run, self._collection.write, rows)

    def wait(self) -> None:
        """Returns when all parts are committed, or raises what went wrong."""
        if self._pending:
            self._pending.result()

    def close(self) -> None:
        self._thread.shutdown()


def write_table(path: Path | pa.NativeFile, table: pa.Table) -> None:
    """Write Parquet as the whole project does: zstd, readable by plain pandas, the same bytes for the same table."""
    with _writer(path, table.schema) as writer:
        writer.write_table(table)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> int:
    """The same of rows that come one by one, of which ROW_GROUP are in memory; returns how many came."""
    count = 0
    with _writer(path, schema) as writer:
        for group in batched(rows, ROW_GROUP):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _writer(path: Path | pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    # A dictionary's indices straddle bytes, so that zstd finds nothing in a list of ids.
    single: Any = [field.name for field in schema if not pa.types.is_list(field.type)]
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=9, use_dictionary=single)
