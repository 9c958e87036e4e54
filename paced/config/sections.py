"""What a recipe may say: every setting, typed, frozen and checked before anything heavy is imported.

Unknown keys, wrong types and contradictions are refused; ``paced/config/reading.py`` reads the files. Imports no torch.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


def home() -> Path:
    """``PACED_HOME``, by default ``.paced`` in the working directory: artifacts, stores, runs, tracking, all of it."""
    return Path(os.environ.get("PACED_HOME", ".paced")).absolute()


class Section(BaseModel):
    """Base of every section: frozen, unknown keys and numbers that are not finite refused.

    A number may come as text, because YAML reads ``1e-6`` as text; true and false are no numbers, because it reads
    ``on`` and ``yes`` as true.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name
        kind: Any = cls.model_fields[info.field_name].annotation
        items: Any = value if isinstance(value, list | tuple) else [value]
        for item in items:
            if isinstance(item, bool) and kind not in (bool, bool | None):
                raise ValueError(f"must not be {str(item).lower()}")
        return value

    def changed(self, *names: str) -> list[str]:
        """Those of the fields that differ from their defaults."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]


Precision = Literal["float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]
PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]
Exponent = Annotated[float, Field(ge=0)]
Scheme = Literal["beta", "uniform", "hard_filter"]
Schedule = Literal["forward", "reverse", "two_stage"]
Loss = Literal["forward_kl", "reverse_kl", "jsd", "akl"]
Script = Literal["han", "kana", "hangul", "cyrillic", "arabic", "hebrew", "devanagari", "thai"]


class Engine(Section):
    """What draws a model's responses (docs/engines.md). Of this section only ``kind`` enters an identity."""

    kind: Literal["transformers", "vllm", "server"] = "transformers"
    tensor_parallel: PositiveInt = Field(default=1, description="Devices that share one copy of the model (vllm).")
    data_parallel: PositiveInt = Field(default=1, description="Copies of the model side by side (vllm).")
    memory_share: float = Field(default=0.85, gt=0, lt=1, description="Of each device's memory, for vllm to take.")
    python: str | None = Field(
        default=None, description="Interpreter of an environment with vLLM; else .venv-vllm beside the own one (vllm)."
    )
    url: str | None = Field(default=None, description="Of a running vLLM server, as http://host:8000/v1 (server).")
    served_name: str | None = Field(default=None, description="Which of the server's models, if it has several.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        fields = {
            "vllm": ("tensor_parallel", "data_parallel", "memory_share", "python"),
            "server": ("url", "served_name"),
        }
        for kind, names in fields.items():
            if kind != self.kind and (changed := self.changed(*names)):
                raise ValueError(f"{changed[0]} has no effect with kind '{self.kind}': remove it, or use kind '{kind}'")
        if self.kind == "server" and not (self.url or "").startswith(("http://", "https://")):
            raise ValueError("kind 'server' needs url, as http://host:8000/v1")
        return self


class Model(Section):
    """A Hugging Face model folder, the precision its weights are computed in, and what it is sampled with."""

    path: str = Field(description="Folder with config.json, safetensors and a tokenizer with a chat template.")
    dtype: Precision = "float32"
    trust_remote_code: bool = Field(default=False, description="Run Python code that comes with the model.")
    engine: Engine = Engine()


class Teacher(Model):
    """The model to learn from; without a path it is a frozen copy of the student (self-distillation)."""

    path: str | None = None  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    privileged: bool = Field(
        default=False, description="The teacher also reads the reference solution; the student does not."
    )

    @model_validator(mode="after")
    def _own(self) -> Self:
        if self.path is None and (changed := self.changed("dtype", "trust_remote_code", "engine")):
            name = changed[0]
            raise ValueError(f"{name} has no effect without path: the teacher is the student, set student.{name}")
        return self


# Named sampling settings: `sampling: paper`, or `sampling: {preset: paper, max_new_tokens: 2048}`.
PRESETS: dict[str, dict[str, float]] = {
    # arXiv 2603.11178, evaluation; its temperature there is 0.6 to 0.7.
    "paper": {"temperature": 0.6, "top_p": 0.8, "top_k": 20, "max_new_tokens": 8192},
    # The same, rollouts for pass rates and stage 2.
    "paper_rollouts": {"temperature": 1.0, "max_new_tokens": 8192},
    # The most probable token each time, whatever the temperature.
    "greedy": {"top_k": 1},
}


class Sampling(Section):
    """How responses are drawn. The same object serves pass rates, stage 2 and evaluation.

    The name of a preset may stand for all of it, or as ``preset`` beside the fields that differ.
    """

    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, description="0: no limit.")
    max_new_tokens: PositiveInt = Field(default=1024, description="A response that is longer is cut off, and wrong.")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        given = {"preset": value} if isinstance(value, str) else value
        if not isinstance(given, dict) or "preset" not in given:
            return value
        fields = dict(given)  # pyright: ignore[reportUnknownVariableType]
        name: Any = fields.pop("preset")
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}; there are: {', '.join(PRESETS)}")
        return {**PRESETS[name], **fields}


class Columns(Section):
    """Which fields of a table hold what, as dotted paths such as ``reward_model.ground_truth``."""

    question: str = Field(default="question", description="Text, or chat messages, of which the user's last counts.")
    answer: str = "answer"
    id: str | None = Field(default=None, description="The field 'id' if not set and there.")
    level: str | None = Field(
        default=None, description="A whole number or text such as 'Level 5'; the field 'level' if not set and there."
    )
    solution: str | None = Field(default=None, description="The field 'solution' if not set and there.")


class LevelShare(Section):
    """How much of the tiny world's problems is of one level."""

    level: int = Field(ge=0, le=6, description="0: sorting, which is never trained on; 1 to 6: arithmetic.")
    share: float = Field(gt=0, description="In proportion to the other rows.")


class Data(Section):
    """Where problems come from.

    ``tiny`` is generated (``mix`` gives the share of each level) or a file of its prompts; ``gsm8k`` is the original
    GSM8K; ``math`` any of the
    published layouts of competition mathematics (MATH, MATH-500, AIME, AMC, Minerva, OlympiadBench, DAPO, DeepScaleR),
    told apart by their fields; ``mmlu`` multiple choice, judged by log-likelihood; ``table`` a file of your own.
    """

    source: Literal["tiny", "gsm8k", "math", "mmlu", "table"]
    path: str | None = Field(
        default=None,
        description="JSONL or Parquet file, or a folder of such; for mmlu also a folder or zip of the original CSV "
        "files; or a data set of the Hugging Face hub as hub:OWNER/NAME:SPLIT or hub:OWNER/NAME:CONFIG:SPLIT.",
    )
    columns: Columns | None = Field(default=None, description="Field names, for source table.")
    problems: PositiveInt | None = Field(default=None, description="How many problems to take; all if not set.")
    mix: tuple[LevelShare, ...] | None = Field(
        default=None, description="Share of each level (tiny). In a file also as {level: share}."
    )
    seed: Seed | None = Field(default=None, description="Draws the problems; the run's own seed if not set.")
    instruction: str = Field(default="", description="Added after each question.")
    drop_scripts: tuple[Script, ...] = Field(
        default=(), description="Leave out problems written in these scripts, such as han for Chinese."
    )
    max_characters: PositiveInt | None = Field(default=None, description="Leave out longer questions.")
    subjects: tuple[str, ...] = Field(default=(), description="Only these subjects (mmlu); all if not set.")
    shots: int = Field(default=0, ge=0, le=5, description="Solved examples of the dev split in each prompt (mmlu).")
    chat: bool = Field(default=False, description="Put the prompt through the model's chat template (mmlu).")
    score: Literal["letters", "texts"] = Field(
        default="letters", description="Compare the choices' letters, or their texts (mmlu)."
    )

    @field_validator("mix", mode="before")
    @classmethod
    def _rows(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        try:
            shares: dict[int, Any] = {
                int(str(level)): share for level, share in value.items()
            }  # a later one of a level wins
        except ValueError:
            raise ValueError(f"must be {{level: share}} with levels 0 to 6, got {value}") from None
        return [{"level": level, "share": shares[level]} for level in sorted(shares)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source != "tiny" and self.path is None:
            raise ValueError(f"source '{self.source}' needs path, the data file")
        for source, options in (
            ("mmlu", ("subjects", "shots", "chat", "score")), ("table", ("columns",)), ("tiny", ("mix",)),
        ):  # fmt: skip
            if self.source != source and (changed := self.changed(*options)):
                raise ValueError(f"{changed[0]} has no effect with source '{self.source}': remove it")
        if self.source == "mmlu" and self.instruction:
            raise ValueError("instruction has no effect with source 'mmlu', whose prompts have their own: remove it")
        if self.source == "tiny":
            if self.path is not None and self.mix is not None:
                raise ValueError("mix has no effect with path: a file of prompts is taken as it is")
            if self.generated and (not self.mix or self.problems is None):
                raise ValueError("source 'tiny' needs mix and problems, or path")
            if len({row.level for row in self.mix or ()}) < len(self.mix or ()):
                raise ValueError("mix names a level twice")
            if self.instruction:
                raise ValueError("instruction has characters that source 'tiny' has no tokens for: remove it")
            if changed := self.changed("drop_scripts", "max_characters"):
                raise ValueError(f"{changed[0]} has no effect with source 'tiny': remove it")
        return self

    @property
    def generated(self) -> bool:
        """Whether problems are made up rather than read."""
        return self.source == "tiny" and self.path is None


class Decontamination(Section):
    """What is dropped from the training data because it stands in a benchmark of the recipe.

    Always a question that equals a benchmark's but for case and spaces; and one that holds at least ``share`` of the
    n-grams, n ``words`` long, of a benchmark's question (docs/data.md says how the two numbers were chosen).
    """

    enabled: bool = True
    words: int = Field(default=13, ge=4)
    share: float = Field(default=0.3, gt=0, le=1)

    @model_validator(mode="after")
    def _effective(self) -> Self:
        if not self.enabled and (changed := self.changed("words", "share")):
            raise ValueError(f"{changed[0]} has no effect with enabled false: remove it")
        return self


class Rollouts(Section):
    """Stage 'rollouts': G samples a problem, from which the pass rate is estimated."""

    samples: int = Field(default=8, ge=2, description="G. One sample can only show pass rate 0 or 1.")
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def _differing(self) -> Self:
        if self.sampling.top_k == 1:
            raise ValueError(
                "sampling with top_k 1 (greedy) draws the same response every time, so that pass rates would all be 0 "
                "or 1: set another top_k"
            )
        return self


class Weights(Section):
    """Stage 'weights': the Beta kernel w(p) = p^alpha (1-p)^beta and its baselines (method section 2)."""

    alpha: Exponent = 1.0
    beta: Exponent = 1.0
    low: Share = Field(default=0.2, description="hard_filter keeps pass rates in [low, high].")
    high: Share = 0.8
    shrinkage: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="Beta(a0, b0) prior: the weight is the posterior expectation of the kernel."
    )
    normalise: Literal["kept", "all"] = Field(
        default="kept", description="Mean 1 over the problems of positive weight, or over all."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high}): hard_filter would keep nothing")
        return self

    def with_exponents(self, pair: tuple[float, float] | None) -> "Weights":
        """The same with other alpha and beta, if they are given."""
        return self if pair is None else self.model_copy(update={"alpha": pair[0], "beta": pair[1]})

    def read_by(self, schemes: Sequence[Scheme]) -> dict[str, Any]:
        """The settings that these schemes read; the others change nothing."""
        fields = {"beta": {"alpha", "beta", "shrinkage"}, "hard_filter": {"low", "high"}, "uniform": set[str]()}
        return self.model_dump(mode="json", include={"normalise"}.union(*(fields[s] for s in schemes)))


class Answers(Section):
    """Stage 'teacher': the teacher's answers and its sparse next-token distributions (method section 6)."""

    samples: PositiveInt = 1
    sampling: Sampling = Sampling(temperature=0.7)
    keep: Literal["correct", "all"] = "correct"
    floor: float = Field(
        default=0.001, ge=1e-6, lt=0.5, description="Ids that the teacher gives this probability or more are stored."
    )
    capture: bool = Field(
        default=False,
        description="Take the distributions from vLLM while it draws the answers, without a forward pass over them.",
    )

    @model_validator(mode="after")
    def _differing(self) -> Self:
        if self.sampling.top_k == 1 and self.samples > 1:
            raise ValueError("samples must be 1 with top_k 1 (greedy), which draws the same response every time")
        return self


class Training(Section):
    """AdamW and its schedule; both stages of an arm run under one learning-rate decay."""

    steps: PositiveInt = 60
    batch: PositiveInt = Field(default=32, description="Problems a step.")
    learning_rate: float = Field(default=1e-6, gt=0)
    warmup: int = Field(default=10, ge=0, description="Steps.")
    final_share: Share = Field(default=0.1, description="Learning rate at the last step, as a share of the peak.")
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0, description="Largest gradient norm.")
    reduction: Literal["sequence", "token"] = "sequence"
    micro_batch_tokens: PositiveInt = Field(default=4096, description="Padded tokens in one forward pass.")
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations twice instead of keeping them: a third slower, far less memory."
    )
    compile: bool = Field(
        default=False,
        description="Compile the student's layers (torch.compile): minutes at first, for faster steps on a GPU.",
    )
    lora_rank: int = Field(default=0, ge=0, description="Of LoRA adapters on all linear layers; 0 trains all weights.")
    lora_alpha: float | None = Field(
        default=None, gt=0, description="Adapters count alpha / lora_rank; twice the rank if not set."
    )

    @property
    def adapter_alpha(self) -> float:
        return 2.0 * self.lora_rank if self.lora_alpha is None else self.lora_alpha

    @model_validator(mode="after")
    def _adapters(self) -> Self:
        if self.lora_alpha is not None and not self.lora_rank:
            raise ValueError("lora_alpha has no effect without lora_rank: set the rank, or remove it")
        return self

    @model_validator(mode="after")
    def _warm(self) -> Self:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup ({self.warmup}) must be below steps ({self.steps})")
        return self


class Consolidation(Section):
    """Stage 2: reverse KL on the student's own samples, the student refreshed each round (method section 4).

    The temperature is that of the two distributions which the loss compares, not of sampling. Stage 1 has none: its
    targets are stored at temperature 1.
    """

    steps: PositiveInt = Field(default=24, description="Of training.steps, for schedule two_stage.")
    rounds: PositiveInt = 2
    temperature: float = Field(default=1.0, gt=0, description="Divides both models' logits in the loss.")
    rescore: PositiveInt | None = Field(
        default=None, description="Problems on which pass rates are estimated again; all if not set."
    )


class Arm(Section):
    """One student to train: which weights, and which losses in which order."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    scheme: Scheme = "beta"
    schedule: Schedule = "two_stage"
    exponents: tuple[Exponent, Exponent] | None = Field(
        default=None, description="alpha and beta of this arm; weights.alpha and weights.beta if not set (beta)."
    )

    loss: Loss | None = Field(
        default=None, description="In every stage of this arm; forward KL in stage 1, reverse KL in stage 2 if not set."
    )
    jsd_share: float | None = Field(
        default=None, gt=0, lt=1, description="The teacher's share of the mixture in loss jsd; 0.5 if not set."
    )

    @model_validator(mode="after")
    def _effective(self) -> Self:
        if self.exponents is not None and self.scheme != "beta":
            raise ValueError(f"exponents has no effect with scheme '{self.scheme}': remove it")
        if self.jsd_share is not None and self.loss != "jsd":
            raise ValueError(f"jsd_share has no effect with loss '{self.loss or 'not set'}': remove it")
        return self


class Benchmark(Section):
    """A set of problems the students are judged on; ``retention`` marks one that measures forgetting."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    data: Data
    retention: bool = False
    samples: PositiveInt | None = Field(default=None, description="k here; evaluation.samples if not set.")

    @model_validator(mode="after")
    def _effective(self) -> Self:
        if self.data.source == "mmlu" and self.samples is not None:
            raise ValueError("samples has no effect with source 'mmlu', which is judged without sampling: remove it")
        return self


class Evaluation(Section):
    """Stage 'evaluate': k samples a problem on every benchmark, or the log-likelihoods of its choices (mmlu)."""

    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)
    samples: PositiveInt = Field(default=4, description="k: samples a problem, where a benchmark sets none.")
    sampling: Sampling = Sampling(temperature=0.7)
    seed: Seed = 0

    @model_validator(mode="after")
    def _fixed(self) -> Self:
        names = [b.name for b in self.benchmarks]
        if len(set(names)) < len(names):
            raise ValueError(f"benchmarks repeat a name: {', '.join(names)}")
        if "train" in names:
            raise ValueError("benchmarks cannot have the name 'train', which is that of the data to train on")
        if all(b.retention for b in self.benchmarks):
            raise ValueError("benchmarks need one that is not a retention benchmark")
        several = [b.name for b in self.benchmarks if b.data.source != "mmlu" and (b.samples or self.samples) > 1]
        if self.sampling.top_k == 1 and several:
            raise ValueError(
                f"samples of benchmark {several[0]} must be 1 with top_k 1 (greedy), which draws the same response "
                "every time"
            )
        return self


class Runtime(Section):
    """Where and how fast; nothing here enters an identity, but bits depend on ``threads``."""

    device: Device = "auto"
    threads: PositiveInt | None = Field(default=None, description="CPU threads a process; torch's choice if not set.")
    accelerate: str | None = Field(
        default=None, description="Train on several devices: an accelerate configuration file, see recipes/accelerate/."
    )
    processes: PositiveInt = Field(default=1, description="Stage processes at once on this host.")
    sample_rows: PositiveInt = Field(
        default=64, description="Sequences sampled at once; vLLM and servers do best with 256 and more."
    )
    part_problems: PositiveInt = Field(default=256, description="Problems a stored part: what a kill can cost.")
    checkpoint_every: PositiveInt = Field(default=20, description="Training steps between checkpoints.")


class Recipe(Section):
    """A whole run: data, models, arms and seeds."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]*$")]
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    data: Data
    decontamination: Decontamination = Decontamination()
    student: Model
    teacher: Teacher = Teacher()
    thinking: bool | None = Field(
        default=None, description="For chat templates that have a thinking mode (Qwen3): on or off, for both models."
    )
    rollouts: Rollouts = Rollouts()
    weights: Weights = Weights()
    answers: Answers = Answers()
    training: Training = Training()
    consolidation: Consolidation = Consolidation()
    arms: tuple[Arm, ...] = Field(default=(Arm(name="paced"),), min_length=1)
    evaluation: Evaluation
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [a.name for a in self.arms]
        if len(set(names)) < len(names) or "base" in names:
            raise ValueError(f"arms need distinct names other than 'base': {', '.join(names)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds repeat: {self.seeds}")
        if any(a.schedule == "two_stage" for a in self.arms) and self.consolidation.steps >= self.training.steps:
            raise ValueError(
                f"consolidation.steps ({self.consolidation.steps}) must be below training.steps "
                f"({self.training.steps}): stage 1 needs steps of its own"
            )
        if any(a.schedule != "forward" for a in self.arms):
            steps = self.training.steps if any(a.schedule == "reverse" for a in self.arms) else self.consolidation.steps
            if self.consolidation.rounds > steps:
                raise ValueError(f"consolidation.rounds ({self.consolidation.rounds}) exceeds its {steps} steps")
        for scheme, options in (("beta", ("alpha", "beta", "shrinkage")), ("hard_filter", ("low", "high"))):
            changed = self.weights.changed(*options)
            if changed and all(a.scheme != scheme for a in self.arms):
                raise ValueError(f"weights.{changed[0]} has no effect: no arm uses scheme '{scheme}'")
        if self.weights.changed("alpha", "beta") and all(a.exponents for a in self.arms if a.scheme == "beta"):
            raise ValueError("weights.alpha and weights.beta have no effect: every arm has exponents of its own")
        if self.training.reduction == "token" and self.weights.normalise == "all":
            raise ValueError(
                "weights.normalise 'all' has no effect with training.reduction 'token', which divides by the sum of "
                "weights: use reduction 'sequence' or normalise 'kept'"
            )
        if self.student.engine.kind == "server":
            raise ValueError(
                "student.engine.kind: a server goes on serving the model it was started with, but the student changes: "
                "use vllm"
            )
        models = (self.student, self.teacher_model)
        own, other = (m.engine.memory_share if m.engine.kind == "vllm" else 0.0 for m in models)
        # Teacher stages take turns (flows/distill.py): among those that run at once there is one at most.
        most = (self.runtime.processes - 1) * own + max(own, other)
        if self.runtime.device != "cpu" and most > 1:
            raise ValueError(
                f"engine.memory_share: {self.runtime.processes} stages at once (runtime.processes) would take "
                f"{most:.0%} of a device's memory: lower one of the two"
            )
        if self.teacher.engine != Engine() and all(a.schedule == "reverse" for a in self.arms):
            raise ValueError("teacher.engine has no effect: with schedule 'reverse' the teacher only scores")
        if self.answers.capture and all(a.schedule == "reverse" for a in self.arms):
            raise ValueError("answers.capture has no effect: with schedule 'reverse' the teacher only scores")
        if self.answers.capture and self.teacher_model.engine.kind != "vllm":
            raise ValueError(
                f"answers.capture: engine '{self.teacher_model.engine.kind}' gives no distributions: set the teacher's "
                "engine.kind to vllm, or remove it"
            )
        if self.data.source == "mmlu":
            raise ValueError("data: source 'mmlu' has no responses to learn from; it is a benchmark")
        if self.data.generated and self.decontamination.changed("enabled", "words", "share"):
            raise ValueError(
                "decontamination has no effect with source 'tiny', which is drawn apart from its benchmarks"
            )
        if self.data.source == "tiny" and self.teacher.privileged:
            raise ValueError("teacher.privileged needs problems with reference solutions; the tiny world has none")
        return self

    def settings(self) -> dict[str, Any]:
        """All settings but those that only say where and how fast: ``runtime`` and each ``engine.python``."""
        python = {"engine": {"python"}}
        return self.model_dump(mode="json", exclude={"runtime": True, "student": python, "teacher": python})

    def weights_of(self, arm: Arm) -> Weights:
        """The settings of an arm's weights: the recipe's, with the arm's own exponents if it has any."""
        return self.weights.with_exponents(arm.exponents)

    @property
    def teacher_model(self) -> Model:
        """The teacher's folder and precision, the student's own if the teacher names none."""
        if self.teacher.path is None:
            return self.student
        return Model.model_validate(self.teacher.model_dump(include=set(Model.model_fields)))


class Notify(Section):
    """Who is told of a promotion, a refused promotion and a failure."""

    command: tuple[str, ...] = Field(
        default=(), description="A program and its arguments; it gets the event as JSON on standard input. No shell."
    )
    webhook: str | None = Field(
        default=None, description="Name of a Webhook block of Prefect; it is sent the event as JSON."
    )


class Retraining(Section):
    """When a challenger is trained on new files, and when it takes the champion's place (docs/retraining.md)."""

    watch: str = Field(description="Folder, or object store such as s3://bucket/prefix, to look for files in.")
    files: Annotated[str, Field(pattern=r"\.(jsonl|parquet)$")] = Field(
        default="*.jsonl", description="Which files count, as a pattern on the path below watch; * crosses folders."
    )
    settle: float = Field(
        default=10.0, ge=0, description="Seconds in which a new file must not change, or it is left for the next time."
    )
    forgetting_limit: Annotated[float, Field(ge=0)] | None = Field(
        default=2.0,
        description="Percentage points of retention that the whole 95% interval must not exceed; null: no limit.",
    )
    overlap: Literal["refuse", "queue"] = Field(
        default="refuse", description="What a retraining does while another one of the same model runs."
    )
    notify: Notify = Notify()
