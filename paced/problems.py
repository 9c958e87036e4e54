"""Stage 'prepare': one data set, checked problem by problem, as a table.

Every gold answer must pass its own verifier before its problem is used; those that do not are skipped, counted and
listed. Problems that also stand in an excluded set (the benchmarks) are dropped. The first n problems of a data set
do not depend on n, so a set that grows keeps what it had.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from paced.artifacts import Ref, open_file
from paced.config import Data
from paced.errors import DataError
from paced.identity import digest
from paced.stage import Job
from paced.tables import PROBLEMS
from paced.tiny.world import tasks
from paced.verify import Sample, Verifier


class Problem(NamedTuple):
    """One problem as read; ``where`` names its line for messages."""

    where: str
    question: str
    gold: str
    solution: str | None
    level: int | None
    key: str  # what tells problems apart: an id of the data set's own, else the question


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise DataError(f"{where}: not valid JSON ({error}): correct or remove the line") from None
                if not isinstance(row, dict):
                    raise DataError(f"{where}: not a JSON object: each line must hold one problem's fields")
                yield where, row
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: convert it to JSONL in UTF-8") from None
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from None


def _field(row: dict[str, Any], name: str, where: str) -> str:
    if name not in row:
        raise DataError(f"{where}: field '{name}' is missing (it has: {', '.join(row)})")
    text = str(row[name]).strip() if row[name] is not None else ""
    if not text:
        raise DataError(f"{where}: field '{name}' is empty: fill it in or remove the line")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: field '{name}' holds half a surrogate pair, which is no character") from None
    return text


def gsm8k(path: Path) -> Iterator[Problem]:
    """The original layout: ``question``, and ``answer`` whose last line is ``#### gold``."""
    for where, row in _lines(path):
        question, answer = _field(row, "question", where), _field(row, "answer", where)
        solution, mark, gold = answer.rpartition("####")
        if not mark or not gold.strip():
            raise DataError(f"{where}: answer holds no '#### number' line: is this the original GSM8K layout?")
        yield Problem(where, question, gold.strip().replace(",", ""), solution.strip(), None, question)


def jsonl(path: Path) -> Iterator[Problem]:
    """Fields ``question`` and ``answer``; optional ``id``, ``level`` (a whole number) and ``solution``."""
    for where, row in _lines(path):
        level = row.get("level")
        if level is not None and not isinstance(level, int):
            raise DataError(f"{where}: level must be a whole number, got {level!r}")
        question = _field(row, "question", where)
        solution = str(row["solution"]) if row.get("solution") else None
        key = f"id:{row['id']}" if row.get("id") is not None else question
        yield Problem(where, question, _field(row, "answer", where), solution, level, key)


READERS = {"gsm8k": gsm8k, "jsonl": jsonl}


def _normal(question: str) -> str:
    return " ".join(question.lower().split())


def _read(data: Data, path: Path, rejected: list[dict[str, str]]) -> list[Problem]:
    """All usable problems of a file, in an order that depends on the seed and each problem alone."""
    places: dict[str, str] = {}
    read: list[Problem] = []
    kept: list[Problem] = []
    for problem in READERS[data.source](path):
        if problem.key in places:
            if problem.key.startswith("id:"):
                name, first = problem.key[3:], places[problem.key]
                raise DataError(f"{problem.where}: duplicate id {name!r}, first used at {first}")
            rejected.append({"where": problem.where, "reason": f"repeats {places[problem.key]}"})
            continue
        places[problem.key] = problem.where
        read.append(problem)
    with Verifier() as verifier:
        verdicts = verifier.grade_golds([Sample(data.source, "", p.gold, p.question) for p in read])
    for problem, verdict in zip(read, verdicts, strict=True):
        if verdict.outcome == "correct":
            kept.append(problem)
        else:
            rejected.append({"where": problem.where, "reason": f"verifier rejects gold {problem.gold!r}"})
    if not places:
        raise DataError(f"data file {path} holds no problem")
    if not kept:
        first = rejected[0]["reason"]
        raise DataError(f"data file {path}: no gold answer passes the verifier (first: {first}): is the layout right?")
    return sorted(kept, key=lambda p: digest([data.seed, p.key]))


def _row(data: Data, split: str, problem: Problem) -> dict[str, Any]:
    content = problem.question + (f"\n{data.instruction}" if data.instruction else "")
    return {
        "problem_id": digest([data.source, problem.key]).removeprefix("sha256:")[:24],
        "source": data.source,
        "question": problem.question,
        "prompt": json.dumps([{"role": "user", "content": content}], ensure_ascii=False),
        "gold": problem.gold,
        "solution": problem.solution,
        "level": problem.level,
        "split": split,
    }


def prepare(job: Job) -> None:
    """Inputs: ``file`` (unless the set is generated), any ``exclude/NAME``. Files: problems.parquet, rejected.json."""
    data = Data.model_validate(job.spec.config["data"])
    split: str = job.spec.config["split"]
    excluded: set[str] = set()
    for name in job.spec.inputs:
        if name.startswith("exclude/"):
            excluded |= {_normal(q) for q in job.table(name, "problems.parquet", ["question"])["question"]}
    rejected: list[dict[str, str]] = []
    if data.source == "tiny":
        assert data.mix
        assert data.seed is not None
        assert data.problems
        stream = tasks(data.seed, data.mix, frozenset(excluded))
        try:
            drawn = list(itertools.islice(stream, data.problems))
        except ValueError as error:
            raise DataError(f"data.problems: {data.problems} were asked for, but {error}") from None
        problems = [Problem(f"task {i}", t.prompt, t.answer, None, t.level, t.prompt) for i, t in enumerate(drawn)]
    else:
        everything = _read(data, job.input("file").folder, rejected)
        problems = [p for p in everything if _normal(p.question) not in excluded]
        rejected += [
            {"where": p.where, "reason": "stands in a benchmark"} for p in everything if _normal(p.question) in excluded
        ]
        if not problems:
            raise DataError(f"{job.input('file').path}: every problem also stands in a benchmark; nothing is left")
        if data.problems and len(problems) < data.problems:
            job.log(f"{data.problems} problems asked for, {len(problems)} usable ones in {job.input('file').path}")
        problems = problems[: data.problems]
    job.write("problems.parquet", [_row(data, split, p) for p in problems], PROBLEMS)
    job.write_json("rejected.json", rejected)
    job.counts |= {"problems": len(problems), "rejected": len(rejected)}
    if rejected:
        first = rejected[0]
        job.log(f"{len(rejected)} problems skipped, first: {first['where']}: {first['reason']}; all in rejected.json")


def problems_of(ref: Ref) -> list[dict[str, Any]]:
    """The rows of a problems artifact, in order."""
    import pyarrow.parquet as pq

    return pq.read_table(open_file(ref, "problems.parquet")).to_pylist()
