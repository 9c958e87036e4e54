"""Task 'weights': verdicts become pass rates and weights."""

from paced.config import Scheme, Weights
from paced.config.stages import WeightsConfig
from paced.stage import Spec, spec_of
from paced.storage.artifacts import Ref
from paced_tasks.run import Run
from paced_tasks.stage import stage_task


@stage_task
def weights(run: Run, label: str, scheme: Scheme, rollouts: Ref, settings: Weights) -> Spec:
    """Weight each problem by its pass rate under ``scheme``; another scheme's settings do not change the identity."""
    config = WeightsConfig(scheme=scheme, weights=settings, verdict_noise=run.recipe.rollouts.verdict_noise)
    return spec_of(config, home=run.home, inputs={"rollouts": rollouts}, runtime=run.recipe.runtime)
