"""Recipes: every shipped one loads; what is wrong is refused with the path of the field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from paced.config import Data, Recipe
from paced.config.reading import load_recipe
from paced.errors import ConfigError

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
ACCELERATE = sorted((Path(__file__).parents[2] / "recipes" / "accelerate").glob("*.yaml"))
TINY = {"source": "tiny", "problems": 8, "mix": {1: 1, 3: 2}}
BASE = {
    "name": "base",
    "data": TINY,
    "student": {"path": "student"},
    "evaluation": {
        "benchmarks": [{"name": "sums", "data": TINY}, {"name": "sorting", "data": TINY, "retention": True}]
    },
}


def write(folder: Path, tree: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_shipped_recipes_load_and_survive_json(path: Path) -> None:
    recipe = load_recipe(path)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda p: p.name)
def test_two_trainings_at_once_do_not_meet_at_one_port(path: Path) -> None:
    """Without a port accelerate takes 29500 for each; 0 stands for any free one."""
    assert yaml.safe_load(path.read_text())["main_process_port"] == 0


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"arms": [{"name": "u", "scheme": "uniform"}]},  # nothing set that has no effect, whatever JSON spells out
        {"arms": [{"name": "h", "scheme": "hard_filter", "schedule": "reverse"}], "weights": {"low": 0.1}},
        {"weights": {"shrinkage": [1, 2], "alpha": 0}, "training": {"learning_rate": "1e-6", "betas": [0.9, 0.95]}},
        {"teacher": {"path": "t", "dtype": "bfloat16"}, "seeds": [3, 1, 2]},
        {"data": {"source": "gsm8k", "path": "x.jsonl"}, "teacher": {"privileged": True}},
    ],
)
def test_json_round_trip(tmp_path: Path, extra: dict[str, Any]) -> None:
    recipe = load_recipe(write(tmp_path, BASE | extra))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_the_teacher_is_the_student_if_it_names_no_folder(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, BASE), ("student.dtype=bfloat16",))
    assert recipe.teacher_model == recipe.student
    changes = ("teacher.path=big", "teacher.dtype=bfloat16", "teacher.engine={kind: vllm, tensor_parallel: 4}")
    other = load_recipe(write(tmp_path, BASE), changes).teacher_model
    assert (other.path, other.dtype, other.engine.tensor_parallel) == ("big", "bfloat16", 4)


@pytest.mark.parametrize(
    ("assignment", "field"),
    [
        # keys and types
        ("trianing.steps=3", "trianing: unknown key"),
        ("training.stepz=3", "training.stepz: unknown key"),
        ("training.steps=many", "training.steps: "),
        ("training.steps=2.5", "training.steps: "),
        ("training.steps=yes", "training.steps: must not be true"),
        ("rollouts.sampling.temperature=true", "rollouts.sampling.temperature: must not be true"),
        ("teacher.privileged=3", "teacher.privileged: "),
        ("seeds=[true]", "seeds: must not be true"),
        ("data.mix={yes: 1}", "data.mix: must be {level: share} with levels 0 to 6"),
        ("data.mix={.inf: 1}", "data.mix: must be {level: share} with levels 0 to 6"),
        ("data.mix={1.5: 1}", "data.mix: must be {level: share} with levels 0 to 6"),
        ("student.path=5", "student.path: "),
        ("student.dtype=float16", "student.dtype: "),
        ("student=", "student: "),
        ("evaluation.benchmarks.1.data.problems=0", "evaluation.benchmarks.1.data.problems: "),
        ("name=Bad name", "name: "),
        # ranges; YAML spells not-a-number .nan and infinity .inf
        ("weights.alpha=-1", "weights.alpha: "),
        ("weights.beta=.nan", "weights.beta: "),
        ("weights.alpha=.inf", "weights.alpha: "),
        ("weights.low=.nan", "weights.low: "),
        ("weights.shrinkage=[1, 0]", "weights.shrinkage.1: "),
        ("weights.shrinkage=[1]", "weights.shrinkage"),
        ("training.learning_rate=.inf", "training.learning_rate: "),
        ("training.learning_rate=0", "training.learning_rate: "),
        ("training.betas=[0.9, 1.0]", "training.betas.1: "),
        ("rollouts.samples=1", "rollouts.samples: "),
        ("rollouts.sampling.temperature=0", "rollouts.sampling.temperature: "),
        ("rollouts.sampling.top_p=1.5", "rollouts.sampling.top_p: "),
        ("answers.floor=0", "answers.floor: "),
        ("answers.floor=0.5", "answers.floor: "),
        ("data.mix.3=.inf", "data.mix.1.share: "),
        ("data.mix.3=0", "data.mix.1.share: "),
        ("data.mix.many=1", "data.mix: must be {level: share} with levels 0 to 6"),
        ("data.mix=[{level: 1, share: 1}, {level: 1, share: 2}]", "data: mix names a level twice"),
        ("seeds=[-1]", "seeds.0: "),
        ("data.seed=-1", "data.seed: "),
        ("seeds=[]", "seeds: "),
        ("arms=[]", "arms: "),
        ("evaluation.benchmarks=[]", "evaluation.benchmarks: "),
        # contradictions
        ("data.path=x.jsonl", "data: mix has no effect with path"),
        ("data.mix=", "data: source 'tiny' needs mix"),
        ("data.mix.9=1", "data.mix.2.level: "),
        ("data.instruction=Think.", "data: instruction"),
        ("data.source=gsm8k", "data: source 'gsm8k' needs path"),
        ("data={source: table, path: x, mix: {1: 1}}", "data: mix has no effect"),
        ("weights.low=0.9", "weights: low (0.9) is above high (0.8)"),
        ("training.warmup=60", "training: warmup (60) must be below steps (60)"),
        ("training.lora_alpha=16", "training: lora_alpha has no effect without lora_rank"),
        ("evaluation.benchmarks.0.retention=true", "evaluation: benchmarks need one that is not a retention"),
        ("evaluation.benchmarks.1.name=sums", "evaluation: benchmarks repeat a name"),
        ("teacher.dtype=bfloat16", "teacher: dtype has no effect without path"),
        ("teacher.engine.kind=vllm", "teacher: engine has no effect without path"),
        ("student.engine.kind=sglang", "student.engine.kind: "),
        ("student.engine.tensor_parallel=2", "student.engine: tensor_parallel has no effect with kind 'transformers'"),
        ("student.engine={kind: vllm, memory_share: 1}", "student.engine.memory_share: "),
        ("student.engine={kind: vllm, url: http://x/v1}", "student.engine: url has no effect with kind 'vllm'"),
        ("student.engine.python=/x", "student.engine: python has no effect with kind 'transformers'"),
        ("student.engine={kind: server, url: http://x/v1}", "recipe: student.engine.kind: a server goes on serving"),
        ("teacher={path: t, engine: {kind: server}}", "teacher.engine: kind 'server' needs url"),
        ("seeds=[1, 2, 1]", "recipe: seeds repeat"),
        ("arms=[{name: base}]", "recipe: arms need distinct names"),
        ("arms=[{name: a}, {name: a}]", "recipe: arms need distinct names"),
        ("consolidation.steps=60", "recipe: consolidation.steps (60) must be below training.steps (60)"),
        ("consolidation.rounds=25", "recipe: consolidation.rounds (25) exceeds its 24 steps"),
        ("weights.high=0.7", "recipe: weights.high has no effect: no arm uses scheme 'hard_filter'"),
        ("data={source: table, path: x, shots: 5}", "data: shots has no effect with source 'table'"),
        ("data={source: math, path: x, columns: {question: q}}", "data: columns has no effect with source 'math'"),
        ("data={source: mmlu, path: x}", "recipe: data: source 'mmlu' has no responses to learn from"),
        (
            "evaluation.benchmarks.0.data={source: mmlu, path: x, instruction: Go.}",
            "evaluation.benchmarks.0.data: instr",
        ),
        ("evaluation.benchmarks.0.name=train", "evaluation: benchmarks cannot have the name 'train'"),
        (
            "evaluation.sampling=papier",
            "evaluation.sampling: there is no preset 'papier'; there are: paper, paper_roll",
        ),
        ("evaluation.sampling={preset: paper, top_q: 1}", "evaluation.sampling.top_q: unknown key"),
        ("evaluation.sampling={preset: [paper]}", "evaluation.sampling: there is no preset ['paper']"),
        ("rollouts.sampling=greedy", "rollouts: sampling with top_k 1 (greedy) draws the same response every time"),
        ("answers={sampling: greedy, samples: 2}", "answers: samples must be 1 with top_k 1 (greedy)"),
        ("evaluation.sampling=greedy", "evaluation: samples of benchmark sums must be 1 with top_k 1"),
        ("decontamination.share=0", "decontamination.share: "),
        ("decontamination.share=0.5", "recipe: decontamination has no effect with source 'tiny'"),
        ("decontamination={enabled: false, words: 8}", "decontamination: words has no effect with enabled false"),
        ("teacher.privileged=true", "recipe: teacher.privileged needs problems with reference solutions"),
    ],
)
def test_refusals_name_the_field(tmp_path: Path, assignment: str, field: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(write(tmp_path, BASE), (assignment,))
    message = str(error.value)
    assert message.startswith(f"{tmp_path}/recipe.yaml: {field}"), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("assignments", "field"),
    [
        (("arms=[{name: u, scheme: uniform}]", "weights.alpha=2"), "weights.alpha has no effect"),
        (("arms=[{name: u, scheme: uniform, exponents: [1, 1]}]",), "exponents has no effect with scheme 'uniform'"),
        (("arms=[{name: a, loss: akl, jsd_share: 0.5}]",), "jsd_share has no effect with loss 'akl'"),
        (("arms=[{name: b, exponents: [1, 2]}]", "weights.alpha=2"), "weights.alpha and weights.beta have no effect"),
        (("arms=[{name: h, scheme: hard_filter}]", "weights.shrinkage=[1, 1]"), "weights.shrinkage has no effect"),
        (
            ("student.engine.kind=vllm", "runtime.processes=2"),
            "2 stages at once (runtime.processes) would take 170% of a",
        ),
        (
            (
                "student.engine={kind: vllm, memory_share: 0.3}",
                "teacher={path: t, engine: {kind: vllm}}",
                "runtime.processes=2",
            ),
            "2 stages at once (runtime.processes) would take 115% of a",
        ),
        (
            ("arms=[{name: r, schedule: reverse}]", "teacher={path: t, engine: {kind: vllm}}"),
            "teacher.engine has no effect: with schedule 'reverse' the teacher only scores",
        ),
        (
            ("answers.capture=true",),
            "answers.capture: engine 'transformers' gives no distributions: set the teacher's engine.kind to vllm",
        ),
        (
            ("answers.capture=true", "teacher={path: t, engine: {kind: server, url: http://x/v1}}"),
            "answers.capture: engine 'server' gives no distributions",
        ),
        (
            ("arms=[{name: r, schedule: reverse}]", "answers.capture=true", "student.engine.kind=vllm"),
            "answers.capture has no effect: with schedule 'reverse' the teacher only scores",
        ),
        (
            ("arms=[{name: r, schedule: reverse}]", "consolidation.reestimate=never"),
            "consolidation.reestimate 'never' has no effect: no arm has schedule two_stage",
        ),
        (
            ("arms=[{name: t, schedule: two_stage}]", "consolidation={rounds: 1, reestimate: round}"),
            "consolidation.reestimate 'round' has no effect: no arm has several rounds of stage 2",
        ),
        (
            ("arms=[{name: t, schedule: two_stage}]", "consolidation={reestimate: never, rescore: 9}"),
            "consolidation.rescore has no effect with reestimate 'never': set it to null",
        ),
        (("training.reduction=token", "weights.normalise=all"), "weights.normalise 'all' has no effect"),
        (("arms=[{name: u, scheme: uniform}]", "weights.floor=0.1"), "weights.floor has no effect: every arm gives"),
        (("arms=[{name: u, scheme: uniform}]", "rollouts.verdict_noise=0.02"), "rollouts.verdict_noise has no effect"),
        (("arms=[{name: u, scheme: uniform}]", "training.weight_as=probability"), "training.weight_as has no effect"),
        (
            ("arms=[{name: r, schedule: reverse}]", "consolidation.rounds=61"),
            "consolidation.rounds (61) exceeds its 60 steps",
        ),
    ],
)
def test_options_without_effect_are_refused(tmp_path: Path, assignments: tuple[str, ...], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(write(tmp_path, BASE), assignments)
    assert field in str(error.value)


def test_assignments(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, BASE | {"arms": [{"name": "a"}, {"name": "b"}]}),
        (
            "training.steps=90", "training.learning_rate=1e-6", "arms.1.scheme=uniform", "seeds=[4, 5]", "seeds.1=6",
            "weights.shrinkage=[0.5, 2]", "evaluation.benchmarks.0.data.mix={2: 1}", "data.mix.3=7",
            "runtime.threads=2",
        ),
    )  # fmt: skip
    assert (recipe.training.steps, recipe.training.learning_rate, recipe.runtime.threads) == (90, 1e-6, 2)
    assert [a.scheme for a in recipe.arms] == ["beta", "uniform"]
    assert recipe.seeds == (4, 6)
    assert recipe.weights.shrinkage == (0.5, 2.0)
    shares = [{row.level: row.share for row in d.mix or ()} for d in (recipe.data, *every(recipe))]
    assert shares == [{1: 1, 3: 7}, {2: 1}, TINY["mix"]]


def every(recipe: Recipe) -> list[Data]:
    return [b.data for b in recipe.evaluation.benchmarks]


def test_the_shares_of_levels_are_rows_in_one_order(tmp_path: Path) -> None:
    """However they are written, so that they have one identity."""
    rows = [{"level": 1, "share": 1.0}, {"level": 3, "share": 2.0}]
    given = ("data.mix={3: 2, 1: 1}", "data.mix={1: 1, '3': 2}", f"data.mix={rows}")
    found = [load_recipe(write(tmp_path, BASE), (assignment,)).data.model_dump()["mix"] for assignment in given]
    assert [list(mix) for mix in found] == [rows] * 3


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("training.steps", "expected a.b=value"),
        ("=3", "expected a.b=value"),
        ("training..steps=3", "expected a.b=value"),
        ("name.first=3", "name is a plain value"),
        ("seeds.7=1", "seeds has items 0 to 0"),
        ("seeds.-1=1", "seeds has items 0 to 0"),
        ("seeds.x=1", "seeds has items 0 to 0"),
        ("name=[1", "not valid YAML"),
        ("name=2024-13-45", "not valid YAML (month must be in 1..12)"),
        pytest.param("name=" + "9" * 5000, "not valid YAML (a number of more than 100 characters", id="a long number"),
        ("data.mix={1: 1, 1: 2}", "1 is there twice"),
        ("data.mix=&mix {1: *mix}", "an anchor that refers to itself"),
    ],
)
def test_bad_assignments(tmp_path: Path, assignment: str, says: str) -> None:
    with pytest.raises(ConfigError, match="--set") as error:
        load_recipe(write(tmp_path, BASE | {"seeds": [0]}), (assignment,))
    assert says in str(error.value)


def test_unreadable_recipes(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"name: \xff\xfe")
    (tmp_path / "broken").write_text("a: [1\nb: }")
    (tmp_path / "list").write_text("- 1")
    (tmp_path / "empty").write_text("")
    (tmp_path / "date").write_text("name: 2024-13-45")
    (tmp_path / "twice").write_text("training: {steps: 5}\nname: a\ntraining: {batch: 3}")
    (tmp_path / "endless").write_text("name: &name [*name]")
    (tmp_path / "deep").write_text("[" * 5000)
    for name, says in [
        ("binary", "UTF-8"),
        ("broken", "valid YAML"),
        ("list", "mapping"),
        ("empty", "mapping"),
        ("date", "valid YAML: month must be"),
        ("twice", "valid YAML: training is there twice .* line 3"),
        ("endless", "valid YAML: .*an anchor that refers to itself"),
        ("deep", "valid YAML: nested too deeply"),
        ("none", "cannot be read"),
    ]:
        with pytest.raises(ConfigError, match=says) as error:
            load_recipe(tmp_path / name)
        assert "\n" not in str(error.value)


def test_an_anchor_may_be_merged_and_overridden(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    merged = "rollouts: {sampling: &short {top_k: 5, max_new_tokens: 9}}\nanswers: {sampling: {<<: *short, top_k: 6}}"
    path.write_text(f"{path.read_text()}\n{merged}")
    recipe = load_recipe(path)
    assert (recipe.rollouts.sampling.top_k, recipe.answers.sampling.top_k) == (5, 6)
    assert recipe.answers.sampling.max_new_tokens == 9


def test_a_teachers_stages_take_turns(tmp_path: Path) -> None:
    """Two of them never run at once, so that a teacher may have most of a device beside a small student."""
    shares = ("student.engine={kind: vllm, memory_share: 0.1}", "teacher={path: t, engine: {kind: vllm}}")
    assert load_recipe(write(tmp_path, BASE), (*shares, "runtime.processes=2")).runtime.processes == 2


def test_package_stands_for_the_installed_folder(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, BASE | {"student": {"path": "${package}/tiny/student"}}))
    assert (Path(recipe.student.path).parents[1] / "stage.py").is_file()


def test_presets(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, BASE),
        ("evaluation.sampling=paper", "rollouts.sampling={preset: paper_rollouts, max_new_tokens: 99}"),
    )
    assert recipe.evaluation.sampling.model_dump() == {
        "temperature": 0.6, "top_p": 0.8, "top_k": 20, "max_new_tokens": 8192,
    }  # fmt: skip
    drawn = recipe.rollouts.sampling
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.max_new_tokens) == (1.0, 1.0, 0, 99)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe  # what is stored are the values
    greedy = load_recipe(write(tmp_path, BASE), ("evaluation.sampling=greedy", "evaluation.samples=1"))
    assert greedy.evaluation.sampling.top_k == 1


def test_samples_of_a_benchmark(tmp_path: Path) -> None:
    tree = BASE | {"evaluation": {"samples": 4, "benchmarks": [
        {"name": "aime", "data": {"source": "math", "path": "x"}, "samples": 32},
        {"name": "mmlu", "data": {"source": "mmlu", "path": "y", "shots": 5}, "retention": True},
    ]}}  # fmt: skip
    recipe = load_recipe(write(tmp_path, tree))
    assert [b.samples for b in recipe.evaluation.benchmarks] == [32, None]
    with pytest.raises(ConfigError, match="samples has no effect with source 'mmlu'"):
        load_recipe(write(tmp_path, tree), ("evaluation.benchmarks.1.samples=2",))
