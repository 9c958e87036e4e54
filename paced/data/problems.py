"""Stage 'prepare': one data set, cleaned problem by problem, as a table.

Every gold answer must pass its own verifier before its problem is used, and a training problem must not stand in a
benchmark; what is left out is counted and listed. The first n problems of a data set do not depend on n, so a set that
grows keeps what it had.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paced.config import Data, Decontamination
from paced.config.stages import PrepareConfig
from paced.data.cleaning import KINDS, clean
from paced.data.decontamination import Index
from paced.data.layouts import Problem, read
from paced.data.prompts import choice_prompt, continuations
from paced.data.rows import files, identity
from paced.data.shelf import Shelf
from paced.errors import DataError
from paced.stage import Job
from paced.storage.artifacts import Ref, open_file
from paced.storage.checks import check_source
from paced.storage.identity import digest, short
from paced.storage.tables import PROBLEMS, PROBLEMS_WITH_VERIFIER, QUESTIONS, ProblemRow
from paced.tiny.world import tasks


def prepare(job: Job) -> None:
    """Inputs: ``file`` (unless the set is generated), any ``exclude/NAME``.

    Files: problems.parquet; rejected.json, what was left out (where, kind, reason); cleaning.json, the counts; of a
    benchmark questions.parquet, every question of the file, for training problems to be kept apart from.
    """
    config = PrepareConfig.model_validate(job.spec.config)
    data, decontamination = config.data, config.decontamination
    excluded = {
        name: job.table(f"exclude/{name}", "questions.parquet")["question"].tolist() for name in job.inputs("exclude")
    }
    found = _generated(job, data, excluded) if data.generated else _cleaned(job, data, decontamination, excluded)
    schema = PROBLEMS_WITH_VERIFIER if data.verifier else PROBLEMS
    job.write("problems.parquet", (_row(data, config.split, p, found.examples) for p in found.problems), schema)
    written = job.files[-1].rows or 0
    if decontamination is None:
        job.write("questions.parquet", ({"question": q} for q in found.questions), QUESTIONS)
    job.write_list("rejected.json", found.rejected)
    off = decontamination is not None and not decontamination.enabled
    job.write_json("cleaning.json", found.report | {"problems": written} | ({"decontaminated": False} if off else {}))
    kinds: dict[str, int] = found.report.get("rejected", {})
    job.counts |= {"problems": written, "rejected": sum(kinds.values())}
    job.counts |= {f"rejected/{kind}": n for kind, n in kinds.items() if n}


class Found(NamedTuple):
    """Problems to be used, in the order of their draw; all questions; what is left out; counts; solved examples."""

    problems: Iterable[Problem]
    questions: Iterable[str]
    rejected: Iterable[dict[str, str]]
    report: dict[str, Any]
    examples: dict[str | None, list[Problem]]


def _generated(job: Job, data: Data, excluded: Mapping[str, Sequence[str]]) -> Found:
    assert data.mix
    assert data.seed is not None
    assert data.problems
    try:
        mix = {row.level: row.share for row in data.mix}
        unseen = tasks(data.seed, mix, frozenset(itertools.chain(*excluded.values())))
        drawn = list(itertools.islice(unseen, data.problems))
    except ValueError as error:
        raise DataError(f"data.problems: {data.problems} were asked for, but {error}") from None
    problems = [Problem(f"task {i}", t.prompt, t.answer, None, t.level, t.prompt) for i, t in enumerate(drawn)]
    report = {"source": "tiny", "rows": len(problems), "usable": len(problems)}
    return Found(problems, [p.question for p in problems], [], report, {})


def _cleaned(
    job: Job, data: Data, decontamination: Decontamination | None, excluded: Mapping[str, Sequence[str]]
) -> Found:
    """What the input file holds; its problems stay on disk."""
    file = job.input("file")
    path, source = file.path, file.folder
    check_source(source, files(source), lambda: identity(source), file.identity)
    examples: dict[str | None, list[Problem]] = {}
    subjects: set[str | None] = set()

    def problems() -> Iterator[Problem]:
        for problem in read(data, Path(path)):
            if problem.split in ("", "test"):
                subjects.add(problem.subject)
                yield problem
            elif problem.split == "dev" and not problem.fault:
                examples.setdefault(problem.subject, []).append(problem)

    shelf = job.resources.enter_context(Shelf(job.work / "problems.sqlite"))
    shelf.fill(problems())
    if not len(shelf):
        what = f" of subjects {', '.join(data.subjects)}" if data.subjects else ""
        raise DataError(f"data file {path} holds no problem{what}")
    for subject in subjects if data.shots else ():
        if len(examples.get(subject, ())) < data.shots:
            raise DataError(
                f"{path}: data.shots asks for {data.shots} examples of the dev split, there are "
                f"{len(examples.get(subject, ()))} of subject {subject}: use the original CSV files, or shots 0"
            )
    training = decontamination is not None
    index = Index(dict(excluded), decontamination.words, decontamination.share) if training and excluded else None
    if training and not decontamination.enabled:
        job.warn(
            "decontamination is off: training problems may stand in the benchmarks, and scores mean little"
        )
    report = clean(shelf, data, index, training)
    _tell(job, data, path, report, next(shelf.rejected(), {}))
    questions = (s.problem.question for s in shelf if s.problem.question)
    return Found(shelf.used(data.problems), questions, shelf.rejected(), report, examples)


def _tell(job: Job, data: Data, path: str, report: Mapping[str, Any], first: Mapping[str, str]) -> None:
    """Say how many problems can be used, and what became of the ``first`` that cannot.

    Raises:
        DataError: none can.
    """
    kinds: dict[str, int] = {kind: n for kind, n in report["rejected"].items() if n}
    if not report["usable"]:
        if list(kinds) == ["benchmark"]:
            raise DataError(f"{path}: every problem also stands in a benchmark; nothing is left")
        what = "no gold answer passes the verifier" if list(kinds) == ["gold"] else "no problem can be used"
        raise DataError(f"data file {path}: {what} (first: {first['where']}: {first['reason']}): is the layout right?")
    if kinds:
        left_out = ", ".join(f"{n:,} {WORDS[kind]}" for kind, n in kinds.items())
        job.warn(
            f"{report['usable']:,} of {report['rows']:,} problems usable; left out: {left_out} (rejected.json; first: "
            f"{first['where']}: {first['reason']})"
        )
    if data.problems and report["usable"] < data.problems:
        job.warn(f"{data.problems} problems asked for, {report['usable']} usable ones in {path}")


WORDS: dict[str, str] = dict(
    zip(
        KINDS,
        (
            "empty",
            "in a benchmark",
            "in another script",
            "too long",
            "with conflicting golds",
            "repeated",
            "unverifiable",
        ),
        strict=True,
    )
)


def problem_id(data: Data, problem: Problem) -> str:
    """What tells a problem from others, wherever it stands."""
    return short(digest([data.source, problem.key]))


def _row(data: Data, split: str, problem: Problem, examples: Mapping[str | None, Sequence[Problem]]) -> ProblemRow:
    if problem.choices:
        prompt = choice_prompt(problem, examples.get(problem.subject, [])[: data.shots], data.score, data.chat)
    else:
        content = problem.question + (f"\n{data.instruction}" if data.instruction else "")
        prompt = [{"role": "user", "content": content}]
    row: ProblemRow = {
        "problem_id": problem_id(data, problem),
        "source": data.source,
        "question": problem.question,
        "prompt": json.dumps(prompt, ensure_ascii=False),
        "gold": problem.gold,
        "solution": problem.solution,
        "level": problem.level,
        "subject": problem.subject,
        "choices": continuations(problem, data.score, data.chat) if problem.choices else None,
        "split": split,
    }
    if data.verifier:
        row["verifier"] = data.verifier
    return row


def problems_of(ref: Ref) -> list[ProblemRow]:
    """The rows of a problems artifact, in order."""
    import pyarrow.parquet as pq

    return pq.read_table(open_file(ref, "problems.parquet")).to_pylist()
