"""The records of what a recipe can name: each leads to a function, and forms and checks know exactly those names."""

import inspect
from typing import Any

import pytest

from paced.config import Arm, Data, Recipe, Training, Weights, stages_of
from paced.config.arms import reestimated
from paced.config.catalog import LOSSES, SCHEDULES, SOURCES, TABLES, WEIGHTINGS, resolved
from paced.config.extensions import stamps
from paced.config.sampling import Rollouts
from paced.config.stages import Draw, WeightsConfig
from paced.config.training import Consolidation
from paced.errors import ConfigError

FUNCTIONS = [(kind, name) for kind, table in TABLES.items() if kind != "schedule" for name in table]


@pytest.mark.parametrize(("kind", "name"), FUNCTIONS)
def test_each_record_names_a_function(kind: str, name: str) -> None:
    assert callable(resolved(TABLES[kind][name].function))


@pytest.mark.parametrize("name", LOSSES)
def test_the_parameters_of_a_loss_are_fields_of_an_arm(name: str) -> None:
    record = LOSSES[name]
    keywords = list(inspect.signature(resolved(record.function)).parameters)[2:]
    assert list(record.parameters.values()) == keywords
    assert set(record.parameters) <= set(Arm.model_fields)


def test_what_is_read_is_there_to_be_set() -> None:
    assert {field for record in WEIGHTINGS.values() for field in record.reads} <= set(Weights.model_fields)
    assert {field for record in SOURCES.values() for field in record.reads} <= set(Data.model_fields)
    assert {record.verifier for record in SOURCES.values()} <= set(TABLES["verifier"])


def test_forms_offer_the_names() -> None:
    defined: dict[str, Any] = Recipe.model_json_schema()["$defs"]
    offered = {
        "weighting": defined["Arm"]["properties"]["scheme"],
        "schedule": defined["Arm"]["properties"]["schedule"],
        "loss": defined["Arm"]["properties"]["loss"]["anyOf"][0],
        "data source": defined["Data"]["properties"]["source"],
        "verifier": defined["Data"]["properties"]["verifier"]["anyOf"][0],
        "engine": defined["Engine"]["properties"]["kind"],
    }
    assert {kind: schema["enum"] for kind, schema in offered.items()} == {k: list(TABLES[k]) for k in offered}


@pytest.mark.parametrize(
    ("schedule", "stages"), [("forward", (60, 0, 0)), ("two_stage", (36, 24, 5)), ("reverse", (0, 60, 5))]
)
def test_stages_of_a_schedule(schedule: str, stages: tuple[int, int, int]) -> None:
    found = stages_of(schedule, Training(steps=60), Consolidation(steps=24, rounds=5))
    assert found == stages
    rounds = [found.round(r) for r in range(found.rounds)]
    # 24 steps in 5 rounds: 4, 5, 5, 5, 5; one begins where the one before ended, and the last ends with the steps.
    assert [start for start, _ in rounds[1:]] == [end for _, end in rounds[:-1]]
    assert (rounds[0][0], rounds[-1][1]) == (0, found.reverse) if rounds else SCHEDULES[schedule].reverse is False


@pytest.mark.parametrize(
    ("schedule", "never", "stage", "round_"),
    [("forward", [], [], []), ("two_stage", [], [0], [0, 1, 2]), ("reverse", [], [], [1, 2])],
)
def test_when_pass_rates_are_estimated_again(
    schedule: str, never: list[int], stage: list[int], round_: list[int]
) -> None:
    for when, wanted in (("never", never), ("stage", stage), ("round", round_)):
        consolidation = Consolidation.model_validate({"steps": 24, "rounds": 3, "reestimate": when})
        assert reestimated(stages_of(schedule, Training(steps=60), consolidation), consolidation) == wanted


def test_settings_that_came_later_are_in_no_identity_of_before() -> None:
    """At their defaults, in whatever stage's configuration or recipe their section is written out."""
    later = {
        Weights: {"floor": 0.1, "options": ({"name": "width", "value": 0.3},)},
        Rollouts: {"verdict_noise": 0.02},
        Training: {"weight_as": "probability"},
        Consolidation: {"reestimate": "round"},
        Data: {"verifier": "working"},
    }
    for section, values in later.items():
        plain: dict[str, Any] = {"source": "math", "path": "x"} if section is Data else {}
        given = section.model_validate(plain | values).model_dump()
        assert values.keys() <= given.keys()
        assert section.model_validate(plain).model_dump().keys() == given.keys() - values.keys()
    assert "verdict_noise" not in WeightsConfig(scheme="beta", weights=Weights(), verdict_noise=0.0).settings()
    assert Draw(seed=0, start=0, number=1, by_weight=False).model_dump() == {"seed": 0, "start": 0, "number": 1}


def test_built_in_names_are_not_in_identities() -> None:
    """Whatever stands in a configuration, at any depth, and what is not set stays out of it, too."""
    data = Data.model_validate({"source": "math", "path": "x"})
    config = {"loss": "akl", "arms": [{"scheme": "beta"}], "data": data.model_dump(), "weights": Weights().model_dump()}
    assert stamps(config) == {}
    assert "verifier" not in config["data"] and "options" not in config["weights"]


def test_a_name_that_nobody_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no loss 'os:system'; there are: forward_kl, reverse_kl, jsd, akl "):
        stamps({"loss": "os:system"})
