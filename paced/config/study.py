"""A study: which students are compared, on what terms, and which claims that decides, in one file. Imports no torch.

It is written and committed before it is run, so that nothing in it was chosen after a look at the results.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from paced.config.arms import Arm
from paced.config.base import JsonObject, PositiveInt, Section, Seed
from paced.config.evaluation import Benchmark
from paced.config.label import BASE
from paced.config.reading import checked, load_recipe, load_tree
from paced.config.recipe import Recipe

Equal = Literal["steps", "cost"]
Rate = Annotated[float, Field(gt=0)]


def _plain(value: Any) -> Any:
    """The same with texts for keys, as JSON has them: YAML reads the levels of a mix as numbers."""
    try:
        return json.loads(json.dumps(value))
    except TypeError as error:
        raise ValueError(str(error)) from None


Settings = Annotated[
    dict[str, JsonValue],
    BeforeValidator(_plain),
    Field(description="Settings of the recipe by their path, such as rollouts.samples."),
]


class StudyArm(Arm):
    """A student to train, with settings of the recipe that are its own."""

    settings: Settings = Field(default={})


class LearningRate(Section):
    """How each arm's learning rate is chosen: the one of the candidates with the best mean accuracy."""

    candidates: tuple[Rate, ...] = Field(min_length=1, description="Every arm is trained with each of them.")
    seeds: tuple[Seed, ...] = Field(min_length=1, description="Other ones than the study's.")
    validation: tuple[Benchmark, ...] = Field(min_length=1, description="Problems that decide nothing else.")


class Claim(Section):
    """That arm ``a`` is better than arm ``b``: that a - b is above a number."""

    says: str = Field(description="The claim in words.")
    a: str
    b: str
    metric: Literal["accuracy", "retention"] = "accuracy"
    above: float = Field(
        default=0.0, ge=-1, le=1, description="-0.01: a loses less than a point. Accuracies are shares of 1."
    )


class Protocol(Section):
    """A study. Arms, seeds, benchmarks and learning rates of the recipe are replaced by those given here."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    question: str
    recipe: str = Field(description="A recipe's file, from the working directory.")
    settings: Settings = Field(default={})
    seeds: tuple[Seed, ...] = Field(min_length=1)
    holdout: tuple[Benchmark, ...] = Field(min_length=1, description="Problems that no choice was ever made on.")
    learning_rate: LearningRate | None = Field(default=None, description="The recipe's, if it is not chosen.")
    equal: tuple[Equal, ...] = Field(
        default=("steps",),
        min_length=1,
        description="What arms have in common: steps; or FLOPs, of which each arm then gets as many as the dearest "
        "takes at equal steps.",
    )
    arms: tuple[StudyArm, ...] = Field(min_length=1)
    claims: tuple[Claim, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms repeat a name: {', '.join(names)}")
        for claim in self.claims:
            if missing := {claim.a, claim.b} - {BASE, *names}:
                raise ValueError(f"claim '{claim.says}': there is no arm {min(missing)}")
            if claim.a == claim.b:
                raise ValueError(f"claim '{claim.says}': {claim.a} is compared with itself")
        if any(c.metric == "retention" for c in self.claims) and not any(b.retention for b in self.holdout):
            raise ValueError("a claim about retention needs a benchmark of holdout with retention: true")
        if self.equal not in (("steps",), ("steps", "cost")):
            raise ValueError("equal is [steps], or [steps, cost]: equal steps tell what an arm's steps cost")
        return self

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.learning_rate is None:
            return self
        if both := set(self.seeds) & set(self.learning_rate.seeds):
            raise ValueError(f"learning_rate.seeds: {min(both)} is a seed of the study, which chooses nothing")
        held, seen = ([b.data for b in chosen] for chosen in (self.holdout, self.learning_rate.validation))
        if any(data in held or (data.generated and data.seed in [h.seed for h in held]) for data in seen):
            raise ValueError("learning_rate.validation has problems of holdout, which no choice may be made on")
        return self

    def recipe_of(self, group: "Group", benchmarks: Iterable[Benchmark], seeds: Iterable[int]) -> Recipe:
        """The recipe that trains the arms of a group.

        Raises:
            ConfigError: with the path of each bad field.
        """
        changes: JsonObject = {**self.settings, **group.arms[0].settings, "name": f"study-{self.name}"}
        changes["seeds"] = [*seeds]
        changes["arms"] = [arm.model_dump(mode="json", exclude={"settings"}) for arm in group.arms]
        changes["evaluation.benchmarks"] = [b.model_dump(mode="json", exclude_none=True) for b in benchmarks]
        if group.rate is not None:
            changes["training.learning_rate"] = group.rate
        before = load_recipe(Path(self.recipe), assignments(changes))
        if group.steps in (None, before.training.steps):
            return before
        assert group.steps is not None
        scaled: JsonObject = {"training.steps": group.steps}
        if any(before.stages_of(arm).forward and before.stages_of(arm).reverse for arm in group.arms):
            reverse = before.consolidation.steps * group.steps / before.training.steps
            scaled["consolidation.steps"] = min(max(round(reverse), before.consolidation.rounds), group.steps - 1)
        return load_recipe(Path(self.recipe), assignments(changes | scaled))


class Group(NamedTuple):
    """Arms that one run trains: those with the same settings, learning rate and steps (the recipe's where None)."""

    arms: tuple[StudyArm, ...]
    rate: float | None
    steps: int | None


class Trained(NamedTuple):
    """An arm as it was trained for the hold-out problems, and the run that did it."""

    equal: Equal
    arm: str
    rate: float
    steps: PositiveInt
    run: str


def groups(
    arms: Iterable[StudyArm], rates: Mapping[str, float | None], steps: Mapping[str, int | None]
) -> list[Group]:
    """The arms by what else than their weights, schedule and loss is their own; ``rates`` and ``steps`` by name."""
    found: dict[str, Group] = {}
    for arm in arms:
        rate, number = rates.get(arm.name), steps.get(arm.name)
        key = json.dumps([arm.settings, rate, number], sort_keys=True)
        before = found[key].arms if key in found else ()
        found[key] = Group((*before, arm), rate, number)
    return list(found.values())


def assignments(changes: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Settings by their path as ``--set`` takes them."""
    return tuple(f"{path}={json.dumps(value)}" for path, value in changes.items())


def load_protocol(path: Path) -> Protocol:
    """Read a protocol, and check the recipes of its arms.

    Raises:
        ConfigError: with the path of each bad field.
    """
    protocol = checked(Protocol, load_tree(path, "protocol"), str(path))
    for group in groups(protocol.arms, {}, {}):
        protocol.recipe_of(group, protocol.holdout, protocol.seeds)
    return protocol
