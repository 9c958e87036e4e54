"""A diagnosis: which problems' gradients carry signal, by pass rate, on the recipe's own student and data.

prepare -> preflight -> rollouts -> teacher answers to all problems -> a gradient each -> signal-to-noise ratio
"""

from prefect.runtime import flow_run

from paced.config import Recipe
from paced.config.label import Label
from paced.storage.artifacts import Ref
from paced.storage.runs import RunSummary
from paced_flows.distill import Future, opened
from paced_tasks.diagnose import diagnose as measure
from paced_tasks.diagnose import objective
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.pipeline import Pipeline
from paced_tasks.reason import paced_flow
from paced_tasks.rollouts import rollouts
from paced_tasks.run import model_ref, open_run
from paced_tasks.teacher import teacher_answers
from paced_tasks.weights import weights


def title() -> str:
    """What a flow run is called: the recipe's name."""
    return f"{Recipe.model_validate(flow_run.parameters['recipe']).name}: signal by pass rate"


@paced_flow("diagnose", title)
def diagnose(recipe: Recipe) -> RunSummary:
    """Measure the signal-to-noise ratio of the student's gradients by pass rate, and fit the Beta kernel to it.

    Args:
        recipe: its first seed is used, and the loss that its last arm begins with; nothing is trained.

    Returns the run's summary.
    """
    claim()
    permit(recipe=recipe)
    seed = recipe.seeds[0]
    pipeline = Pipeline(open_run(recipe.model_copy(update={"seeds": (seed,)}), "diagnosis"), keep=False)
    student, teacher = model_ref(recipe.student), model_ref(recipe.teacher_model)
    with pipeline as stages:
        _, every = opened(stages, student, teacher)
        problems, shared = every[seed], Label(seed=seed)
        sampled = stages.add(rollouts, shared.at("rollouts"), seed=seed, problems=problems, model=student)
        # Uniform, so that problems of weight 0 have answers too: the claim is about them.
        weighed = stages.add(weights, shared.at("weights"), scheme="uniform", rollouts=sampled, settings=recipe.weights)
        learnt_from: dict[str, Future | Ref] = {"rollouts": sampled, "teacher": teacher}
        if objective(recipe) == "forward":
            answers = stages.add(
                teacher_answers, shared.at("teacher"), seed=seed, problems=problems, weights=weighed, teacher=teacher,
                student=student,
            )  # fmt: skip
            learnt_from = {"answers": answers}
        stages.add(
            measure, shared.at("diagnose"), seed=seed, problems=problems, weights=weighed, model=student,
            learnt_from=learnt_from,
        )  # fmt: skip
    return pipeline.summary
