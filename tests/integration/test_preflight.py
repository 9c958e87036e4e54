"""Preflight: each rule, with a model folder, a recipe or a disk that breaks it."""

import json
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from architectures import make
from harness import SMALL, TINY
from safetensors.torch import load_file, save_file

from paced.config import Recipe
from paced.config.reading import load_recipe
from paced.data.problems import problems_of
from paced.errors import ConfigError, DataError, EngineError, PacedError
from paced.models import Tokenizer
from paced.planning.plan import Assumptions, plan
from paced.sampling.sampler import Sampler
from paced.stage import Job, Spec, execute
from paced.storage.artifacts import Ref
from paced_tasks.preflight import preflight
from paced_tasks.prepare import prepare
from paced_tasks.run import Run, model_ref

Harm = Callable[[Path], object]


class Prepared(NamedTuple):
    home: Path
    problems: Ref
    benchmarks: dict[str, Ref]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    home, recipe = tmp_path_factory.mktemp("home"), load_recipe(TINY, SMALL)
    run = Run(name="preflight", home=str(home), recipe=recipe)

    def make(**arguments: Any) -> Ref:
        return execute(prepare.cache_policy.build(run, "prepare", **arguments), lambda event: None)  # type: ignore[union-attr]

    benchmarks = {b.name: make(data=b.data, seed=0, split=b.name, exclude={}) for b in recipe.evaluation.benchmarks}
    return Prepared(home, make(data=recipe.data, seed=0, split="train", exclude=benchmarks), benchmarks)


def check(prepared: Prepared, recipe: Recipe, events: list[dict[str, Any]] | None = None) -> Ref:
    run = Run(name="preflight", home=str(prepared.home), recipe=recipe)
    spec = preflight.cache_policy.build(  # type: ignore[union-attr]
        run, "preflight", student=model_ref(recipe.student), teacher=model_ref(recipe.teacher_model),
        problems={"0": prepared.problems}, benchmarks=prepared.benchmarks,
    )  # fmt: skip
    return execute(spec, lambda event: None if events is None else events.append(event))


def with_models(tmp_path: Path, harm_student: Harm | None, harm_teacher: Harm | None, *changes: str) -> Recipe:
    """The small recipe on copies of the tiny world's models, broken."""
    recipe = load_recipe(TINY, SMALL)
    folders = {}
    for role, source, harm in (
        ("student", recipe.student.path, harm_student), ("teacher", recipe.teacher_model.path, harm_teacher),
    ):  # fmt: skip
        folders[role] = shutil.copytree(source, tmp_path / role)
        if harm:
            harm(folders[role])
    paths = (f"{role}.path={folder}" for role, folder in folders.items())
    return load_recipe(TINY, (*SMALL, *paths, *changes))


def edit(name: str, **values: Any) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return harm


def index_of_a_lost_file(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def another_token(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tree = json.loads(path.read_text())
    vocabulary = tree["model"]["vocab"]
    vocabulary["7"], vocabulary["8"] = vocabulary["8"], vocabulary["7"]
    path.write_text(json.dumps(tree))


def another_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text("=" + path.read_text())


def a_thinking_mode(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + "{% if enable_thinking %}+{% endif %}")


def ending_in(token: str) -> Harm:
    """A template that writes this token behind what the assistant says."""

    def harm(folder: Path) -> None:
        path = folder / "chat_template.jinja"
        ending = "{% if message['role'] == 'assistant' %}" + token + "{% endif %}"
        path.write_text(path.read_text().replace("{% endfor %}", ending + "{% endfor %}"))

    return harm


def a_clock(folder: Path) -> None:
    """No two renderings are alike."""
    path = folder / "chat_template.jinja"
    path.write_text("{{ strftime_now('%f') }}" + path.read_text())


def in_parts(folder: Path) -> None:
    """A template that reads content as a list of parts."""
    said = "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}"
    (folder / "chat_template.jinja").write_text("{% for message in messages %}" + said + "{% endfor %}")


def mute(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("1+1=")


def both(*harms: Harm) -> Harm:
    return lambda folder: [harm(folder) for harm in harms]


def another_end(folder: Path) -> None:
    edit("tokenizer_config.json", eos_token="=")(folder)
    edit("generation_config.json", eos_token_id=4)(folder)


def special(folder: Path) -> None:
    """One more special token, for which the model has a row."""
    path = folder / "tokenizer.json"
    core = json.loads(path.read_text())
    core["added_tokens"].append(core["added_tokens"][0] | {"id": 27, "content": "<image>"})
    path.write_text(json.dumps(core))


def one_more(folder: Path) -> None:
    """A special token beyond the model's rows, as Gemma 3 1B has."""
    special(folder)
    edit("config.json", vocab_size=27)(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:27].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_sound_models_pass(prepared: Prepared) -> None:
    ref = check(prepared, load_recipe(TINY, SMALL))
    found = json.loads((ref.folder / "preflight.json").read_text())
    assert (found["student"]["parameters"], found["teacher"]["parameters"]) == (335712, 791936)
    assert found["student"]["ends"] == found["teacher"]["ends"] == ["<eos>"]
    assert found["problems/0"]["problems"] == 100
    assert 3 < found["problems/0"]["longest_prompt"] < 40


def test_a_special_token_without_a_row_is_no_part_of_the_vocabulary(prepared: Prepared, tmp_path: Path) -> None:
    recipe = with_models(tmp_path, one_more, one_more)
    found = json.loads((check(prepared, recipe).folder / "preflight.json").read_text())
    assert (found["student"]["tokens"], found["student"]["vocab_size"]) == (27, 27)
    tokenizer = Tokenizer(Path(recipe.student.path))
    with pytest.raises(DataError, match=r"student has no row for token '<image>', which is in '1<image>': remove"):
        tokenizer.encode("1<image>")


# What plan finds, too.
UNUSABLE: list[tuple[Harm | None, Harm | None, type[PacedError], str]] = [
    (special, one_more, ConfigError, "teacher has 27 rows of ids .* tokenizer 28 ids"),
    (edit("generation_config.json", eos_token_id=-1), None, DataError, "eos_token_id -1 of its generation config"),
    (edit("config.json", pad_token_id=-1), None, ConfigError, "storing it fails, .*pad_token_id. should be pos"),
    (edit("config.json", vocab_size=40), None, DataError, "embed_tokens.weight: 32 x 96 in the file, 40 x 96 in"),
    (None, lambda f: (f / "adapter_config.json").write_text("{}"), DataError, "teacher has an adapter beside"),
    (edit("config.json", quantization_config={"quant_method": "fp8"}), None, DataError, r"is quantized \(fp8\), and"),
]


@pytest.mark.parametrize(("student", "teacher", "error", "says"), UNUSABLE)
def test_plan_refuses_it(
    tmp_path: Path, student: Harm | None, teacher: Harm | None, error: type[PacedError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        plan(with_models(tmp_path, student, teacher), "H100", 8, Assumptions())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("student", "teacher", "error", "says"),
    [
        (lambda f: (f / "config.json").unlink(), None, DataError, "student has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), None, DataError, "config.json is not valid JSON"),
        (pickled, None, DataError, r"student has no \*.safetensors weights: pickled weights are never loaded"),
        (None, index_of_a_lost_file, DataError, "lacks model-00001-of-00002.safetensors, which its index names"),
        (truncated, None, DataError, "model.safetensors is damaged .*: download it again"),
        (lambda f: (f / "tokenizer.json").unlink(), None, DataError, "has no tokenizer"),
        (lambda f: (f / "chat_template.jinja").unlink(), None, DataError, "has no chat template"),
        (edit("config.json", vocab_size=20), None, DataError, "ids up to 26, but the model's vocab_size is 20"),
        (another_token, None, ConfigError, "different token->id maps"),
        (another_end, None, ConfigError, "ends a response with .*: the student would learn never to stop"),
        (another_template, None, ConfigError, "write the same conversation in different ways"),
        (ending_in("<pad>"), ending_in("<pad>"), ConfigError, r"turn with <pad>, which ends no .*\(what does: <eos>\)"),
        (mute, mute, DataError, "writes '1\\+1=' for .*: prompts would not hold the question"),
        (a_thinking_mode, a_thinking_mode, ConfigError, "has a thinking mode; set thinking to true or false"),
        (edit("config.json", max_position_embeddings=60), None, DataError, "56 new ones exceeds the context of 60"),
        (None, edit("config.json", max_position_embeddings=60), DataError, "exceeds the context of 60 of .*teacher"),
        *UNUSABLE,
    ],
)  # fmt: skip
def test_a_broken_folder_is_refused(
    prepared: Prepared, tmp_path: Path, student: Harm | None, teacher: Harm | None, error: type[PacedError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        check(prepared, with_models(tmp_path, student, teacher))
    assert "\n" not in str(caught.value)


def test_answers_fit_the_student_too(prepared: Prepared, tmp_path: Path) -> None:
    """It is trained on the teacher's answers, which may be longer than its own."""
    short = ("rollouts.sampling.max_new_tokens=20", "evaluation.sampling.max_new_tokens=20")
    narrow = edit("config.json", max_position_embeddings=60)
    with pytest.raises(DataError, match=r"56 new ones exceeds the context of 60 of .*student"):
        check(prepared, with_models(tmp_path, narrow, None, *short))


def test_a_thinking_mode_is_chosen(prepared: Prepared, tmp_path: Path) -> None:
    recipes = {
        mode: with_models(tmp_path / mode, a_thinking_mode, a_thinking_mode, f"thinking={mode}")
        for mode in ("true", "false")
    }
    lengths = {}
    for mode, recipe in recipes.items():
        found = json.loads((check(prepared, recipe).folder / "preflight.json").read_text())
        lengths[mode] = found["problems/0"]["longest_prompt"]
    assert lengths["true"] == lengths["false"] + 1
    with pytest.raises(ConfigError, match="thinking: has no effect"):
        check(prepared, load_recipe(TINY, (*SMALL, "thinking=true")))


@pytest.mark.parametrize(
    "harm",
    [
        ending_in("<eos>"),
        ending_in(" <eos> "),
        both(ending_in("<pad>"), edit("generation_config.json", eos_token_id=[0, 1])),
        a_clock,
        in_parts,
    ],
)
def test_templates_that_are_right(prepared: Prepared, tmp_path: Path, harm: Harm) -> None:
    check(prepared, with_models(tmp_path, harm, harm))


def test_what_preflight_renders_is_what_stages_read(prepared: Prepared, tmp_path: Path) -> None:
    """Days later too: the samples of a model with a clock in its template are found again, and its prompts are one."""
    recipe = with_models(tmp_path, a_clock, a_clock)
    check(prepared, recipe)
    problems, folder, sampling = problems_of(prepared.problems), Path(recipe.student.path), recipe.rollouts.sampling
    job = Job(Spec(stage="rollouts", home=str(prepared.home)), lambda event: None)

    def wanted() -> list[str]:
        sampler = Sampler(job, model_ref(recipe.student), recipe.student, Tokenizer(folder), sampling, seed=0)
        return [w.key for w in sampler.wanted(problems, 2)]

    assert wanted() == wanted()
    elsewhere = Job(Spec(stage="rollouts", home=str(tmp_path / "home")), lambda event: None)
    first, job = wanted(), elsewhere
    assert wanted() != first


def test_a_model_that_the_engine_cannot_draw_from(prepared: Prepared, tmp_path: Path) -> None:
    student = make("lfm2", tmp_path, layer_types=["conv", "full_attention"])
    recipe = load_recipe(TINY, (*SMALL, f"student.path={student}"))
    with pytest.raises(ConfigError, match=r"keeps more .*\(LinearAttentionLayer\).*use engine.kind vllm"):
        check(prepared, recipe)


def test_a_small_disk_is_refused(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk cannot be had here for so small a run; the amount needed is real."""
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr("paced.planning.preflight.shutil.disk_usage", lambda path: usage)
    with pytest.raises(EngineError, match=r"may store 0\.0 GB under .*, where 0\.0 GB are free"):
        check(prepared, load_recipe(TINY, (*SMALL, "training.learning_rate=0.1")))


def test_adapters_need_less_room(prepared: Prepared) -> None:
    refs = [check(prepared, load_recipe(TINY, (*SMALL, f"training.lora_rank={rank}"))) for rank in (0, 2)]
    whole, adapters = (json.loads((ref.folder / "preflight.json").read_text())["bytes_stored"] for ref in refs)
    # Two checkpoints for each of two processes, and two trainings that another follows, without 12 bytes a parameter.
    assert whole - adapters > 335712 * (2 * 2 * 12 + 2 * 8) * 0.8


def test_few_problems_are_told(prepared: Prepared) -> None:
    events: list[dict[str, Any]] = []
    check(prepared, load_recipe(TINY, (*SMALL, "training.batch=128")), events)
    assert [e["message"] for e in events if e["event"] == "warning"] == [
        "seed 0: 100 problems, fewer than training.batch (128): a step draws some of them more than once"
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("num_machines: 2", "num_machines: 2; training takes the devices of one host"),
        ("[", "is no accelerate"),
        ("", "is no"),
    ],
)
def test_training_takes_one_host(prepared: Prepared, tmp_path: Path, text: str, says: str) -> None:
    """Found before the first sample: each of two hosts would wait for the other for ever."""
    (tmp_path / "hosts.yaml").write_text(text)
    # The rate makes it another artifact than those of the tests before.
    changes = ("training.learning_rate=0.2", f"runtime.accelerate={tmp_path / 'hosts.yaml'}")
    with pytest.raises(ConfigError, match=says):
        check(prepared, load_recipe(TINY, (*SMALL, *changes)))


def test_compiled_training_asks_for_a_compiler(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(TINY, (*SMALL, "training.compile=true"))
    for name in ("CXX", "CC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="compiler and none is on PATH"):
        check(prepared, recipe)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_vllm_is_looked_for_before_anything_is_sampled(prepared: Prepared, tmp_path: Path, role: str) -> None:
    """No interpreter, or one whose environment has no vLLM."""
    teacher = f"teacher.path={load_recipe(TINY, SMALL).teacher_model.path}"
    for python, says in ((tmp_path / "python", "there is no interpreter"), (sys.executable, "vllm cannot be imported")):
        change = f"{role}.engine={{kind: vllm, python: {python}}}"
        with pytest.raises(ConfigError, match=says) as error:
            check(prepared, load_recipe(TINY, (*SMALL, teacher, change)))
        assert str(python) in str(error.value) and "\n" not in str(error.value)
