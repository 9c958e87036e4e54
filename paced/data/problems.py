"""Stage 'prepare': one data set, cleaned problem by problem, as a table.

Every gold answer must pass its own verifier before its problem is used, and a training problem must not stand in a
benchmark; what is left out is counted and listed. The first n problems of a data set do not depend on n, so a set that
grows keeps what it had.
"""

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paced.artifacts import Ref, open_file
from paced.config import Data, Decontamination, Runtime
from paced.data.cleaning import KINDS, Cleaned, clean
from paced.data.decontamination import Index
from paced.data.layouts import Problem, read
from paced.data.rows import identity, local
from paced.errors import DataError
from paced.identity import digest, short
from paced.prompts import choice_prompt, continuations
from paced.stage import Job, Spec
from paced.tables import PROBLEMS, QUESTIONS
from paced.tiny.world import tasks


def prepare_spec(
    home: str,
    data: Data,
    seed: int,
    split: str,
    exclude: Mapping[str, Ref],
    decontamination: Decontamination | None,
    runtime: Runtime,
) -> Spec:
    """The spec of stage 'prepare'; ``seed`` draws the problems unless the data set has its own.

    Args:
        exclude: the benchmarks that problems must not stand in, unless ``decontamination`` says otherwise.
        decontamination: None for a benchmark, which is taken as it is, repeats and all.

    Raises:
        DataError: the data file cannot be read or fetched.
    """
    inputs: dict[str, Ref] = {}
    if decontamination and decontamination.enabled:
        inputs |= {f"exclude/{name}": ref for name, ref in exclude.items()}
    if data.path is not None:
        path = local(data.path, Path(home))
        inputs["file"] = Ref(kind="file", path=str(path), identity=identity(path))
    settings = data.model_copy(
        update={"path": "file" if data.path else None, "seed": seed if data.seed is None else data.seed}
    )
    config = {
        "data": settings.model_dump(mode="json"),
        "split": split,
        "decontamination": decontamination and decontamination.model_dump(),
    }
    return Spec(stage="prepare", home=home, config=config, inputs=inputs, runtime=runtime)


def prepare(job: Job) -> None:
    """Inputs: ``file`` (unless the set is generated), any ``exclude/NAME``.

    Files: problems.parquet; rejected.json, what was left out (where, kind, reason); cleaning.json, the counts; of a
    benchmark questions.parquet, every question of the file, for training problems to be kept apart from.
    """
    data = Data.model_validate(job.spec.config["data"])
    split: str = job.spec.config["split"]
    wish: Any = job.spec.config["decontamination"]  # None for a benchmark
    decontamination = Decontamination.model_validate(wish) if wish is not None else None
    excluded = {
        name.partition("/")[2]: job.table(name, "questions.parquet")["question"].tolist()
        for name in job.spec.inputs
        if name.startswith("exclude/")
    }
    if data.generated:
        problems, examples = _generated(data, frozenset(itertools.chain(*excluded.values()))), {}
        questions = [p.question for p in problems]
        done = Cleaned(problems, [], {"source": "tiny", "rows": len(problems), "usable": len(problems)})
    else:
        done, examples, questions = _cleaned(job, data, decontamination, excluded)
        problems = sorted(done.kept, key=lambda p: digest([data.seed, p.key]))[: data.problems]
        if data.problems and len(problems) < data.problems:
            job.log(f"{data.problems} problems asked for, {len(problems)} usable ones in {job.input('file').path}")
    job.write("problems.parquet", [_row(data, split, p, examples) for p in problems], PROBLEMS)
    if decontamination is None:
        job.write("questions.parquet", [{"question": q} for q in questions], QUESTIONS)
    job.write_json("rejected.json", done.rejected)
    off = decontamination is not None and not decontamination.enabled
    job.write_json(
        "cleaning.json", done.report | {"problems": len(problems)} | ({"decontaminated": False} if off else {})
    )
    job.counts |= {"problems": len(problems), "rejected": len(done.rejected)}
    job.counts |= {f"rejected/{kind}": n for kind, n in done.report.get("rejected", {}).items() if n}


def _generated(data: Data, excluded: frozenset[str]) -> list[Problem]:
    assert data.mix
    assert data.seed is not None
    assert data.problems
    try:
        mix = {row.level: row.share for row in data.mix}
        drawn = list(itertools.islice(tasks(data.seed, mix, excluded), data.problems))
    except ValueError as error:
        raise DataError(f"data.problems: {data.problems} were asked for, but {error}") from None
    return [Problem(f"task {i}", t.prompt, t.answer, None, t.level, t.prompt) for i, t in enumerate(drawn)]


def _cleaned(
    job: Job, data: Data, decontamination: Decontamination | None, excluded: Mapping[str, Sequence[str]]
) -> tuple[Cleaned, dict[str | None, list[Problem]], list[str]]:
    """The problems of the input file that can be used, the solved examples of each subject, all questions."""
    path = job.input("file").path
    found = list(read(data, Path(path)))
    examples: dict[str | None, list[Problem]] = {}
    for problem in found:
        if problem.split == "dev" and not problem.fault:
            examples.setdefault(problem.subject, []).append(problem)
    found = [p for p in found if p.split in ("", "test")]
    if not found:
        what = f" of subjects {', '.join(data.subjects)}" if data.subjects else ""
        raise DataError(f"data file {path} holds no problem{what}")
    for subject in {p.subject for p in found} if data.shots else ():
        if len(examples.get(subject, ())) < data.shots:
            raise DataError(
                f"{path}: data.shots asks for {data.shots} examples of the dev split, there are "
                f"{len(examples.get(subject, ()))} of subject {subject}: use the original CSV files, or shots 0"
            )
    training = decontamination is not None
    index = Index(dict(excluded), decontamination.words, decontamination.share) if training and excluded else None
    if training and not decontamination.enabled:
        job.log(
            "WARNING: decontamination is off: training problems may stand in the benchmarks, and scores mean little"
        )
    done = clean(_distinct_keys(found, training), data, index, unique=training)
    if not done.kept:
        kinds: dict[str, int] = {kind: n for kind, n in done.report["rejected"].items() if n}
        if list(kinds) == ["benchmark"]:
            raise DataError(f"{path}: every problem also stands in a benchmark; nothing is left")
        first = done.rejected[0]
        what = "no gold answer passes the verifier" if list(kinds) == ["gold"] else "no problem can be used"
        raise DataError(f"data file {path}: {what} (first: {first['where']}: {first['reason']}): is the layout right?")
    if done.rejected:
        left_out = ", ".join(f"{n:,} {WORDS[kind]}" for kind, n in done.report["rejected"].items() if n)
        first = done.rejected[0]
        job.log(
            f"{len(done.kept):,} of {len(found):,} problems usable; left out: {left_out} (rejected.json; first: "
            f"{first['where']}: {first['reason']})"
        )
    return done, examples, [p.question for p in found if p.question]


WORDS = dict(
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


def _distinct_keys(problems: Sequence[Problem], training: bool) -> list[Problem]:
    """Problems with keys that tell them apart: an id twice is an error; a benchmark's repeats are numbered."""
    places: dict[str, str] = {}
    times: Counter[str] = Counter()
    result: list[Problem] = []
    for problem in problems:
        if problem.key in places and problem.key.startswith("id:"):
            name, first = problem.key[3:], places[problem.key]
            raise DataError(f"{problem.where}: duplicate id {name!r}, first used at {first}")
        places.setdefault(problem.key, problem.where)
        number = times[problem.key]
        times[problem.key] += 1
        result.append(problem._replace(key=f"{problem.key}\n#{number}") if number and not training else problem)
    return result


def _row(data: Data, split: str, problem: Problem, examples: Mapping[str | None, Sequence[Problem]]) -> dict[str, Any]:
    if problem.choices:
        prompt = choice_prompt(problem, examples.get(problem.subject, [])[: data.shots], data.score, data.chat)
    else:
        content = problem.question + (f"\n{data.instruction}" if data.instruction else "")
        prompt = [{"role": "user", "content": content}]
    return {
        "problem_id": short(digest([data.source, problem.key])),
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


def problems_of(ref: Ref) -> list[dict[str, Any]]:
    """The rows of a problems artifact, in order."""
    import pyarrow.parquet as pq

    return pq.read_table(open_file(ref, "problems.parquet")).to_pylist()
