"""A study: the arms of a protocol, trained and judged as an ablation is, on the terms and by the rules it sets.

learning rates on the validation problems -> students at equal steps -> [steps of equal cost -> rates -> students]
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from prefect.runtime import flow_run

from paced.config import Benchmark, Recipe, home
from paced.config.study import Protocol, StudyArm, Trained, groups
from paced.report.study import best_rate, costs, equal_cost
from paced_flows.distill import train_arms
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.pipeline import Pipeline
from paced_tasks.reason import paced_flow
from paced_tasks.run import open_run


def title() -> str:
    """What a flow run is called: the study and its arms."""
    protocol = Protocol.model_validate(flow_run.parameters["protocol"])
    return f"study {protocol.name}: {', '.join(arm.name for arm in protocol.arms)} x {len(protocol.seeds)} seeds"


@paced_flow("study", title)
def study(protocol: Protocol) -> list[Trained]:
    """Train the arms of a protocol on each of its terms, one run after another; what is cached is not done again.

    Returns how each arm was trained in the end, and in which run.
    """
    claim()
    permit(protocol=protocol)
    trained: list[Trained] = []
    steps: dict[str, int] = {}
    for equal in protocol.equal:
        if equal == "cost":
            spent = {t.arm: costs(home() / "runs" / t.run)[t.arm] for t in trained}
            steps = equal_cost(spent, steps)
        rates = chosen_rates(protocol, steps)
        for recipe, arms in recipes(protocol, protocol.arms, rates, steps, protocol.holdout, protocol.seeds):
            run, own = run_arms(recipe).name, recipe.training
            trained += [Trained(equal, arm.name, own.learning_rate, own.steps, run) for arm in arms]
        steps = steps or {t.arm: t.steps for t in trained}
    return trained


def chosen_rates(protocol: Protocol, steps: Mapping[str, int]) -> dict[str, float]:
    """The learning rate of each arm that is best on the validation problems; none if the recipe's is to be used."""
    chosen, found = protocol.learning_rate, dict[str, dict[float, Path]]()
    if chosen is None:
        return {}
    for rate in chosen.candidates:
        rates = dict.fromkeys([arm.name for arm in protocol.arms], rate)
        for recipe, arms in recipes(protocol, protocol.arms, rates, steps, chosen.validation, chosen.seeds):
            folder = run_arms(recipe)
            for arm in arms:
                found.setdefault(arm.name, {})[rate] = folder
    return {arm: best_rate(arm, folders) for arm, folders in found.items()}


def recipes(
    protocol: Protocol,
    arms: Iterable[StudyArm],
    rates: Mapping[str, float],
    steps: Mapping[str, int],
    benchmarks: Iterable[Benchmark],
    seeds: Iterable[int],
) -> list[tuple[Recipe, tuple[StudyArm, ...]]]:
    """The recipes that train the arms, and the arms of each."""
    return [(protocol.recipe_of(group, benchmarks, seeds), group.arms) for group in groups(arms, rates, steps)]


def run_arms(recipe: Recipe) -> Path:
    """Train and judge the arms of a recipe, as an ablation; returns the run's folder."""
    run = open_run(recipe)
    train_arms(Pipeline(run, keep=False))
    return run.folder
