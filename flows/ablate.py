"""An ablation: weightings x schedules x seeds from one recipe, at equal gradient steps, as one run.

The grid becomes the recipe's arms, so the same pipeline trains it: rollouts and teacher answers are shared, at most
``runtime.processes`` stages run at once, and one table compares all students.
"""

from collections.abc import Sequence

from prefect.runtime import flow_run

from paced.config import Loss, Recipe, Schedule, Scheme
from paced.config.catalog import WEIGHTINGS
from paced.config.grid import grid
from paced.storage.runs import RunSummary
from paced_flows.distill import train_arms
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.pipeline import Pipeline
from paced_tasks.reason import paced_flow
from paced_tasks.run import open_run


def title() -> str:
    """What a flow run is called: the recipe and its grid."""
    given = flow_run.parameters
    axes = [", ".join(map(str, given[name])) for name in ("schemes", "schedules", "seeds")]
    return f"{Recipe.model_validate(given['recipe']).name}: " + " x ".join(axes)


@paced_flow("ablate", title)
def ablate(
    recipe: Recipe,
    schemes: Sequence[Scheme] = tuple(WEIGHTINGS),
    schedules: Sequence[Schedule] = ("forward",),
    seeds: Sequence[int] = (0,),
    exponents: Sequence[tuple[float, float]] = (),
    losses: Sequence[Loss] = (),
) -> RunSummary:
    """Train a student for each weighting, schedule and seed, and compare them.

    Args:
        recipe: everything but its arms and seeds is used.
        schemes: weightings.
        schedules: on the teacher's answers, on the student's own samples, or one after the other.
        seeds: each student is trained once a seed.
        exponents: pairs of alpha and beta; scheme beta is tried with each of them. The recipe's own if none is given.
        losses: each in every stage of its students; forward KL in stage 1 and reverse KL in stage 2 if none is given.

    Returns the run's summary.
    """
    claim()
    permit(recipe=recipe)
    whole = grid(recipe, schemes, schedules, seeds, exponents, losses)
    return train_arms(Pipeline(open_run(whole), keep=False))
