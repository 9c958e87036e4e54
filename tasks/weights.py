"""Task 'weights': verdicts become pass rates and weights."""

from paced.config import Scheme, Weights
from paced.stage import Spec
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


@stage_task
def weights(run: Run, label: str, scheme: Scheme, rollouts: Ref, settings: Weights) -> Spec:
    """Weight each problem by its pass rate under ``scheme``; another scheme's settings do not change the identity."""
    config = {"scheme": scheme, "weights": settings.read_by([scheme])}
    return Spec(
        stage="weights", home=run.home, config=config, inputs={"rollouts": rollouts}, runtime=run.recipe.runtime
    )
