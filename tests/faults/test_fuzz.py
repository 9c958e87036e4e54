"""Whatever stands in a recipe, a data file, a manifest or a model folder: one line within ten seconds, no traceback.

A sample of the cases runs with all tests; ``make fuzz`` runs the whole number. The seed is PACED_FUZZ_SEED, SEED if it
is not set, and is printed with what fails; the same seed makes the same cases.
"""

import contextlib
import csv
import gzip
import importlib
import io
import json
import os
import random
import shutil
import signal
import zipfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from harness import SMALL, TINY
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from paced import errors
from paced.__main__ import run
from paced.config import Recipe, Runtime
from paced.config.reading import load_recipe
from paced.config.stages import PreflightConfig
from paced.errors import PacedError
from paced.stage import Spec, execute, spec_of
from paced.storage.artifacts import Ref, describe, open_file, read_manifest, reference
from paced.storage.identity import model_identity
from paced_deployments.commands.named import check_paths

SEED = 20261130
LONGEST = 10  # seconds
WHOLE = "PACED_FUZZ" in os.environ  # else a sample


class Hanging(BaseException):
    """No error that a stage could take for its own."""


@contextlib.contextmanager
def in_time(seconds: float = LONGEST) -> Generator[None]:
    def late(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise Hanging(f"longer than {seconds} s")

    before = {n: signal.getsignal(n) for n in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def cases(whole: int, sample: int) -> Any:
    """As many cases as are wanted, the same for the same seed."""

    def decorate(test: Any) -> Any:
        limits = settings(
            max_examples=whole if WHOLE else sample, deadline=None, database=None, print_blob=True,
            phases=(Phase.generate, Phase.shrink) if WHOLE else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        return seed(int(os.environ.get("PACED_FUZZ_SEED", SEED)))(limits(test))

    return decorate


def told(message: str) -> None:
    """An error is one line that can be printed, and says something."""
    assert message.strip() and message.isprintable()
    assert len(message) < 10_000


def stage(spec: Spec) -> None:
    """A stage ends well, or in one line of an error of its own."""
    events: list[dict[str, Any]] = []
    with in_time():
        status = run(spec.model_dump_json, events.append)
    last = events[-1]
    assert (status, last["event"]) in ((0, "done"), (1, "error")), last
    if status:
        assert issubclass(getattr(errors, last["type"]), PacedError), last
        told(last["message"])


# Values of every kind, the troublesome ones often.
ODD = (
    None, True, -1, 0, 0.5, 1 << 63, -(1 << 70), 10**400, float("nan"), float("inf"), "", " ", "\0", "\ud83d",
    "e\u0301", "a" * 300, "../..", "/", "~", "nowhere.jsonl", "null", "1e999", "-0", "0x10", "${package}", "\\boxed{",
    "9" * 5000,
    "((((" * 50, "\\frac" * 30, "10^10^10^10", "1;2", "<think>", "hub:a/b:c", "hub:", "*", "[", [], {}, [[]], [None],
    {"": 1}, {"a": {"b": []}}, [{"role": "user"}], [{"role": "user", "content": [{"type": "image"}]}], [{"from": 1}],
)  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=20), st.booleans(), st.none(),
    st.text("0123456789.,-+/$\\{}()[]^_ xyabπ√%°'\"", max_size=30),
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=8), v, max_size=4))


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


@st.composite
def changed(draw: st.DrawFn, text: str) -> Any:
    """A tree of JSON with some of its values replaced, left out or added."""
    tree = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(tree))
        if not known:
            break
        path = draw(st.sampled_from(known))
        match draw(st.sampled_from(("put", "put", "drop", "add"))):
            case "put":
                put(tree, path, draw(VALUES))
            case "drop":
                parent = tree
                for key in path[:-1]:
                    parent = parent[key]
                del parent[path[-1]]
            case _:
                put(tree, (*path[:-1], draw(st.text(max_size=8))) if isinstance(path[-1], str) else path, draw(VALUES))
    return tree


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes with a piece cut out, overwritten, repeated or put in."""
    for _ in range(draw(st.integers(1, 3))):
        a, b = sorted(draw(st.lists(st.integers(0, len(whole)), min_size=2, max_size=2)))
        b = min(b, a + draw(st.sampled_from((1, 8, 100, len(whole) + 1))))
        new = draw(st.one_of(st.just(b""), st.binary(max_size=12), st.sampled_from(BITS), st.just(whole[a:b] * 2)))
        whole = whole[:a] + new + whole[b:]
    return whole


BITS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"&a [", b"*a", b"<<: *a", b"!!python/object:os.system ls",
    b"!!binary =", b"!!set {a, b}", b"!!timestamp 9999-99-99", b"- \t- ", b"{", b"]", b'"', b"'", b"\n", b"\r", b"#",
    b"1:59:59", b"0x" + b"f" * 6000, b"[" * 2000, b"? ", b"|\n ", b"2001-01-01", b"\\ud800", b"NaN", b"1e999", b",",
    b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"ARROW1",
)  # fmt: skip

# Recipes.

BASE = load_recipe(TINY, SMALL).model_dump(mode="json", exclude_defaults=True)
BASE["student"]["path"] = BASE["teacher"]["path"] = "${package}/tiny/student"
ASSIGNMENTS = st.lists(
    st.one_of(
        st.builds(
            "{}={}".format, st.sampled_from([".".join(map(str, p)) for p in places(BASE)]),
            st.one_of(st.text(max_size=30), SCALARS.map(repr), st.sampled_from([b.decode("latin-1") for b in BITS])),
        ),
        st.text(max_size=20),
    ),
    max_size=2,
)  # fmt: skip
RECIPES = st.one_of(
    changed(json.dumps(BASE)).map(lambda tree: yaml.dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")),
    changed(json.dumps(BASE)).map(lambda tree: json.dumps(tree).encode()),
    damaged(TINY.read_bytes()),
    damaged(yaml.dump(BASE).encode()),
    st.binary(max_size=60),
)


def refused(path: Path, assignments: tuple[str, ...] = ()) -> str:
    """What is said of a recipe, '' if it can be used."""
    with in_time():
        try:
            check_paths(load_recipe(path, assignments))
        except PacedError as error:
            told(str(error))
            return str(error)
    return ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@cases(2000, 120)
@given(RECIPES, ASSIGNMENTS)
def test_recipes(folder: Path, content: bytes, assignments: list[str]) -> None:
    (folder / "recipe.yaml").write_bytes(content)
    refused(folder / "recipe.yaml", tuple(assignments))


def bomb(first: str, repeated: Callable[[str], str], between: str = "\n") -> str:
    """Ten anchors, each of which stands for several of the one before."""
    return between.join([f"a0: &a0 {first}", *(f"a{i}: &a{i} {repeated(f'*a{i - 1}')}" for i in range(1, 11))])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # Each line stands for nine of the one before: 9^10 values of ten lines.
        (bomb("[x]", lambda alias: f"[{', '.join([alias] * 9)}]"), "aliases"),
        (bomb("{x: 1}", lambda alias: f"{{{', '.join(f'k{i}: {alias}' for i in range(9))}}}"), "aliases"),
        (bomb("{x: 1}", lambda alias: f"{{<<: [{', '.join([alias] * 9)}]}}"), "merge"),
        ("seeds: &a [*a]\n", "refers to itself"),
        ("[" * 100_000, "nested too deeply"),
        ("seeds: [0x" + "f" * 6000 + "]\n", "a number of more than"),
        ("seeds: [1" + ":59" * 20_000 + "]\n", "a number of more than"),
        ("name: \"\\ud83d\"\n", "half a surrogate pair"),
        ("x: 1\n" * 300_000, "more than 1048576 characters"),
        ("[" + "1," * 500_000 + "]", "more than 20000 values"),
    ],
    ids=lambda value: str(value)[:24],
)  # fmt: skip
def test_bombs(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with in_time(5):
        assert says in refused(tmp_path / "recipe.yaml")


def test_a_bomb_in_an_assignment() -> None:
    lists = bomb("[x]", lambda alias: f"[{', '.join([alias] * 9)}]", ", ")
    assert "aliases" in refused(TINY, (f"data={{{lists}}}",))
    assert "half a surrogate pair" in refused(TINY, ('name="\\ud83d"',))


def test_aliases_may_be_used(tmp_path: Path) -> None:
    text = TINY.read_text().replace("answers:\n  samples: 1\n  sampling: {", "answers:\n  samples: 1\n  sampling: &s {")
    text = text.replace("evaluation:\n  samples: 4\n  sampling: {", "evaluation:\n  samples: 4\n  sampling: {<<: *s, ")
    (tmp_path / "recipe.yaml").write_text(text)
    assert "<<: *s" in text
    assert load_recipe(tmp_path / "recipe.yaml").answers.sampling.temperature == 0.7


# Data.

FIELDS = (
    "question", "answer", "problem", "solution", "level", "id", "prompt", "reward_model", "choices", "subject",
    "options", "final_answer", "conversations", "messages", "metadata", "verification_info", "answerKey", "unit",
    "context", "type",
)  # fmt: skip
GOOD = {
    "table": {"question": "1+1?", "answer": "2", "solution": "It is 2.", "level": 1, "id": None},
    "math": {"problem": "1+1?", "answer": "2", "solution": "It is \\boxed{2}.", "level": "Level 1", "subject": "s"},
    "gsm8k": {"question": "1+1?", "answer": "It is 2.\n#### 2"},
    "mmlu": {"question": "1+1?", "choices": ["1", "2", "3"], "answer": "B", "subject": "s"},
    "tiny": {"question": "12+34=", "level": 1},
}
SUFFIXES = st.sampled_from((
    ".jsonl", ".jsonl", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".parquet", ".arrow", ".jsonl.gz", ".json.zst",
    ".csv.gz", ".zip", "",
))  # fmt: skip


@st.composite
def rows_for(draw: st.DrawFn, source: str) -> list[dict[str, Any]]:
    """A few rows, most of them good but for a field."""
    good = GOOD[source]
    found: list[dict[str, Any]] = [dict(good)] if draw(st.booleans()) else []
    for number in range(draw(st.integers(0, 4))):
        row = good | ({"question": f"{number}?"} if source == "table" else {})
        match draw(st.sampled_from(("scalar", "scalar", "value", "drop", "other"))):
            case "scalar":
                row[draw(st.sampled_from([*good]))] = draw(SCALARS)
            case "value":
                row[draw(st.sampled_from([*good, *FIELDS]))] = draw(VALUES)
            case "drop":
                del row[draw(st.sampled_from([*good]))]
            case _:
                row = draw(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5))
        found.append(row)
    return found


def kept_in(suffix: str, rows: list[dict[str, Any]]) -> bytes:
    """Rows in the container that a file with this suffix is; as JSON lines where it can hold no such rows."""
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    buffer = io.BytesIO()
    try:
        if suffix == ".json":
            return json.dumps(rows).encode()
        if suffix in (".csv", ".tsv", ".csv.gz", ".zip"):
            text, names = io.StringIO(), sorted({name for row in rows for name in row})
            writer = csv.DictWriter(text, names, delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
            lines = text.getvalue().encode()
        elif suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), buffer)
            return buffer.getvalue()
        elif suffix == ".arrow":
            table = pa.Table.from_pylist(rows)
            with pa.ipc.new_stream(buffer, table.schema) as stream:
                stream.write_table(table)
            return buffer.getvalue()
    except (pa.ArrowException, UnicodeEncodeError, ValueError, OverflowError, TypeError):
        return lines
    if suffix == ".zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("x_test.csv", lines)
        return buffer.getvalue()
    return gzip.compress(lines, mtime=0) if suffix.endswith(".gz") else lines


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """A source, a suffix and what a file holds: rows of the source, two in three times whole."""
    source, suffix = draw(st.sampled_from([*GOOD])), draw(SUFFIXES)
    content = kept_in(suffix, draw(rows_for(source)))
    if draw(st.integers(0, 2)) == 0:
        content = draw(st.one_of(damaged(content), st.binary(max_size=80)))
    return source, suffix, content


@cases(2000, 80)
@given(files())
def test_data(folder: Path, file: tuple[str, str, bytes]) -> None:
    source, suffix, content = file
    path = folder / f"data{suffix}"
    path.write_bytes(content)
    config = {"data": {"source": source, "path": "file", "seed": 0}, "split": "train", "decontamination": None}
    ref = Ref(kind="file", path=str(path), identity=f"sha256:{random.Random(content).getrandbits(256):064x}")
    home = folder / "home"
    stage(Spec(stage="prepare", home=str(home), config=config, inputs={"file": ref}))
    shutil.rmtree(home, ignore_errors=True)


# Manifests.


@pytest.fixture(scope="module")
def artifact(folder: Path) -> Path:
    (folder / "made.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    ref = Ref(kind="file", path=str(folder / "made.jsonl"), identity=describe(folder / "made.jsonl").sha256)
    config = {"data": {"source": "table", "path": "file", "seed": 0}, "split": "train", "decontamination": None}
    return execute(Spec(stage="prepare", home=str(folder / "made"), config=config, inputs={"file": ref})).folder


@cases(500, 60)
@given(st.data())
def test_manifests(artifact: Path, data: st.DataObject) -> None:
    whole = (artifact / "manifest.json").read_bytes()
    new = data.draw(st.one_of(damaged(whole), changed(whole.decode()).map(lambda tree: json.dumps(tree).encode())))
    (artifact / "manifest.json").write_bytes(new)
    try:
        for reader in (
            read_manifest,
            reference,
            lambda a: open_file(Ref(kind="k", path=str(a), identity="i"), "problems.parquet"),
        ):
            with in_time():
                try:
                    reader(artifact)
                except PacedError as error:
                    told(str(error))
    finally:
        (artifact / "manifest.json").write_bytes(whole)


# Model folders.

STUDENT = Path(load_recipe(TINY).student.path)
JSON_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def preflight(folder: Path) -> tuple[Recipe, dict[str, Ref]]:
    """The small recipe, and its problems and benchmark as the stage reads them."""
    importlib.import_module("paced.planning.preflight")  # imports torch, which is no part of the time
    home, recipe = folder / "preflight", load_recipe(TINY, SMALL)
    inputs: dict[str, Ref] = {}
    for name, split in (
        ("problems/0", "train"),
        *((f"benchmark/{b.name}", b.name) for b in recipe.evaluation.benchmarks),
    ):
        data = (
            recipe.data if split == "train" else next(b.data for b in recipe.evaluation.benchmarks if b.name == split)
        )
        config = {
            "data": data.model_copy(update={"problems": 20, "seed": 0}).model_dump(mode="json"), "split": split,
            "decontamination": None,
        }  # fmt: skip
        inputs[name] = execute(Spec(stage="prepare", home=str(home), config=config, inputs={}))
    return recipe, inputs


@st.composite
def models(draw: st.DrawFn) -> tuple[str, bytes | None]:
    """One file of a model folder, and what it holds instead; None if it is not there."""
    name = draw(
        st.sampled_from(
            (*JSON_FILES, *JSON_FILES, "chat_template.jinja", "model.safetensors", "model.safetensors.index.json")
        )
    )
    whole = (
        (STUDENT / name).read_bytes() if (STUDENT / name).exists() else b'{"weight_map": {"a": "model.safetensors"}}'
    )
    if name == "model.safetensors":
        header = 8 + int.from_bytes(whole[:8], "little")
        return name, draw(st.one_of(damaged(whole[:header]).map(lambda new: new + whole[header:]), st.just(whole[:-9])))
    kinds = [damaged(whole), st.none()]
    if name.endswith(".json"):
        kinds += [changed(whole.decode()).map(lambda tree: json.dumps(tree).encode())] * 4
    return name, draw(st.one_of(*kinds))


@cases(500, 20)
@given(models(), st.booleans())
def test_model_folders(
    folder: Path, preflight: tuple[Recipe, dict[str, Ref]], model: tuple[str, bytes | None], both: bool
) -> None:
    name, content = model
    target = folder / "model"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(STUDENT, target)
    (target / name).unlink(missing_ok=True)
    if content is not None:
        (target / name).write_bytes(content)
    recipe, inputs = preflight
    try:
        ref = Ref(kind="model", path=str(target), identity=model_identity(target))
    except PacedError as error:
        told(str(error))
        return
    other = Ref(kind="model", path=str(STUDENT), identity=model_identity(STUDENT))
    roles = {"student": ref, "teacher": ref if both else other}
    spec = spec_of(
        PreflightConfig(recipe=recipe), home=str(folder / "checked"), inputs=inputs | roles, runtime=Runtime()
    )
    stage(spec)
    shutil.rmtree(folder / "checked", ignore_errors=True)
