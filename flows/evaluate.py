"""An evaluation: any model beside the recipe's student, on the recipe's benchmarks, by the same code and settings.

prepare benchmarks -> evaluate (base, model) -> compare -> report
"""

from prefect.runtime import flow_run

from paced.config import Model, Recipe, home
from paced.config.base import Place
from paced.config.label import BASE, Label
from paced.config.reading import checked
from paced.storage.runs import RunSummary
from paced_flows.distill import prepared
from paced_tasks.evaluate import compare
from paced_tasks.evaluate import evaluate as judge
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.pipeline import Pipeline
from paced_tasks.reason import paced_flow, with_figures
from paced_tasks.registry import located
from paced_tasks.run import JUDGED, model_ref, open_run


def title() -> str:
    """What a flow run is called: the recipe and the model."""
    return f"{Recipe.model_validate(flow_run.parameters['recipe']).name}: {flow_run.parameters['model']}"


@paced_flow("evaluate", title)
def evaluate(recipe: Recipe, model: Place) -> RunSummary:
    """Judge a model beside the recipe's student, and compare the two.

    Args:
        recipe: its student and its evaluation count; nothing is trained.
        model: a Hugging Face model folder, or a registered model as models:/NAME@champion or models:/NAME/3.

    Returns the run's summary.
    """
    claim()
    asked = {} if model.startswith("models:") else {"model": checked(Model, {"path": model}, "model")}
    permit(recipe=recipe, **asked)
    judged = located(model, home())
    run = open_run(recipe.model_copy(update={"seeds": (0,)}), "evaluation", judged)
    pipeline = Pipeline(run, keep=False)
    with pipeline as stages:
        benchmarks = prepared(stages)
        label = Label(JUDGED, 0)
        scores = {
            str(Label(BASE, 0)): stages.add(
                judge, Label(BASE, step="evaluate"), model=model_ref(recipe.student), benchmarks=benchmarks
            ),
            str(label): stages.add(judge, label.at("evaluate"), model=run.model, benchmarks=benchmarks),
        }
        stages.add(compare, Label(step="compare"), scores=scores)
    return with_figures(pipeline.summary)
