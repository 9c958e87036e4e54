"""Task 'weights': verdicts become pass rates and weights."""

from paced.artifacts import Ref
from paced.stage import Spec
from tasks.run import Run
from tasks.stage import stage_task

# What each scheme reads: another scheme's settings must not change its identity.
FIELDS = {"beta": {"alpha", "beta", "shrinkage"}, "hard_filter": {"low", "high"}, "uniform": set[str]()}


@stage_task
def weights(run: Run, label: str, scheme: str, rollouts: Ref) -> Spec:
    """Weight each problem by its pass rate under ``scheme``."""
    settings = run.recipe.weights.model_dump(mode="json", include=FIELDS[scheme] | {"normalise"})
    config = {"scheme": scheme, "weights": settings}
    return Spec(
        stage="weights", home=run.home, config=config, inputs={"rollouts": rollouts}, runtime=run.recipe.runtime
    )
