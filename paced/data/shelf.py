"""The problems of a data file on disk while they are sorted out, so that memory does not grow with them.

SQLite groups and sorts with a few megabytes, whatever there is to sort. The database is scratch: it is made anew by
every run, and nothing else reads it. Imports no torch.
"""

import hashlib
import json
import re
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Self

from paced.data.decontamination import normal
from paced.data.layouts import Problem
from paced.storage.files import told_if_full

SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE problems (
    place INTEGER PRIMARY KEY, key BLOB, question BLOB, same TEXT, gold TEXT, stands TEXT, fields TEXT
);
CREATE TABLE used (draw TEXT, place INTEGER, key TEXT, PRIMARY KEY (draw, place)) WITHOUT ROWID;
CREATE TABLE rejected (place INTEGER PRIMARY KEY, kind TEXT, reason TEXT);
"""
# What a problem's place in the whole file says about it: by its key, and by its question.
STANDING = """
CREATE TABLE keys (place INTEGER PRIMARY KEY, number INTEGER, first INTEGER);
INSERT INTO keys SELECT place, ROW_NUMBER() OVER same - 1, MIN(place) OVER same FROM problems
    WINDOW same AS (PARTITION BY key ORDER BY place) ORDER BY place;
CREATE TABLE questions (question BLOB PRIMARY KEY, first INTEGER, golds TEXT) WITHOUT ROWID;
INSERT INTO questions
    SELECT question, MIN(place), CASE WHEN COUNT(DISTINCT same) > 1 THEN json_group_array(DISTINCT gold) END
    FROM problems WHERE question IS NOT NULL GROUP BY question;
"""
PROBLEMS = """
SELECT p.place, p.fields, k.number, named.stands, asked.stands, q.golds FROM problems p
    JOIN keys k ON k.place = p.place JOIN problems named ON named.place = k.first
    LEFT JOIN questions q ON q.question = p.question LEFT JOIN problems asked ON asked.place = q.first
    ORDER BY p.place
"""
DIFFERENT = "SELECT question, golds FROM questions WHERE golds IS NOT NULL ORDER BY first"
CONFLICTS = """
SELECT json_group_array(json_array(p.place, p.gold, p.stands)) FROM problems p
    JOIN questions q ON q.question = p.question WHERE q.golds IS NOT NULL GROUP BY q.first ORDER BY q.first
"""


class Standing(NamedTuple):
    """A problem, and what the rest of the file says about it.

    ``number`` counts the problems before it with the same key, of which the first stands at ``named``; ``asked`` is
    where its question is asked first, and ``golds`` are those of that question if they conflict.
    """

    place: int
    problem: Problem
    number: int
    named: str
    asked: str | None  # None of a problem with a fault, like no golds
    golds: list[str]


class Shelf:
    """Problems in the order of their file; those that are to be used, by their draw; those that are not, and why."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._path, self._database = path, sqlite3.connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)

    def fill(self, problems: Iterable[Problem]) -> None:
        """Put the problems of a file on the empty shelf, all at once."""
        with told_if_full(self._path):
            self._database.executescript(SCHEMA)
            put = "INSERT INTO problems VALUES (NULL, ?, ?, ?, ?, ?, ?)"
            self._database.executemany(put, map(_columns, problems))
            self._database.executescript(STANDING)

    def agree(self, equal: Callable[[str, str], bool]) -> None:
        """Take the golds of a question for one where they only differ in how they are written: 1/2 and 0.5."""
        for question, golds in self._database.execute(DIFFERENT).fetchall():
            first, *others = json.loads(golds)
            if all(equal(first, other) for other in others):
                self._database.execute("UPDATE questions SET golds = NULL WHERE question = ?", (question,))

    def __len__(self) -> int:
        return self._count("problems")

    def __iter__(self) -> Iterator[Standing]:
        for place, fields, number, named, asked, golds in self._database.execute(PROBLEMS):
            yield Standing(place, _problem(fields), number, named, asked, sorted(json.loads(golds or "[]")))

    @property
    def distinct(self) -> int:
        """How many different questions there are."""
        return self._count("questions")

    def conflicts(self) -> Iterator[dict[str, Any]]:
        """The questions with conflicting golds: ``golds``, and ``where`` they stand."""
        for (members,) in self._database.execute(CONFLICTS):
            group = sorted(json.loads(members))
            yield {"golds": sorted({gold for _, gold, _ in group}), "where": [where for _, _, where in group]}

    def use(self, draw: str, place: int, key: str) -> None:
        """Use a problem, under this key, at the place that ``draw`` has among the draws of all."""
        with told_if_full(self._path):
            self._database.execute("INSERT INTO used VALUES (?, ?, ?)", (draw, place, key))

    def reject(self, place: int, kind: str, reason: str) -> None:
        with told_if_full(self._path):
            self._database.execute("INSERT INTO rejected VALUES (?, ?, ?)", (place, kind, reason))

    @property
    def usable(self) -> int:
        return self._count("used")

    def used(self, limit: int | None) -> Iterator[Problem]:
        """The first ``limit`` problems to be used, by their draw."""
        wanted = "SELECT fields, used.key FROM used CROSS JOIN problems USING (place) ORDER BY draw, used.place LIMIT ?"
        rows = self._database.execute(wanted, (-1 if limit is None else limit,))
        return (_problem(fields)._replace(key=key) for fields, key in rows)

    def rejected(self) -> Iterator[dict[str, str]]:
        """``where``, ``kind`` and ``reason`` of each problem that is left out, in the order of the file."""
        wanted = "SELECT stands, kind, reason FROM rejected JOIN problems USING (place) ORDER BY place"
        return (dict(zip(("where", "kind", "reason"), row, strict=True)) for row in self._database.execute(wanted))

    def _count(self, table: str) -> int:
        return int(self._database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


def same_gold(gold: str) -> str:
    """Golds with the same text here are one: spaces and ``$`` dropped, numbers by value, accents in one form."""
    plain = unicodedata.normalize("NFC", re.sub(r"[\s$]", "", gold))
    try:
        return str(Decimal(plain.replace(",", "")).normalize())
    except ArithmeticError:  # no number, or one beyond all bounds
        return plain


def _columns(problem: Problem) -> tuple[bytes, bytes | None, str, str, str, str]:
    question = None if problem.fault else _hash(normal(problem.question) + "\n".join(problem.choices))
    fields = json.dumps(problem)
    return _hash(problem.key), question, same_gold(problem.gold), problem.gold, problem.where, fields


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _problem(fields: str) -> Problem:
    problem = Problem(*json.loads(fields))
    return problem._replace(choices=tuple(problem.choices))
