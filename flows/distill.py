"""The whole method: pass rates, weights, teacher, both training stages, benchmarks, comparison.

prepare -> preflight -> rollouts -> weights -> teacher -> train forward KL
        -> [rollouts -> weights, once or in each round; sample -> train reverse KL] x rounds
        -> evaluate -> compare -> report
"""

from collections.abc import Callable
from typing import Any

from prefect.futures import PrefectFuture
from prefect.runtime import flow_run

from paced.config import Arm, Recipe
from paced.config.label import BASE, Label
from paced.storage.artifacts import Ref
from paced.storage.runs import RunSummary
from paced_tasks.evaluate import compare, evaluate
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.pipeline import Pipeline, Stages
from paced_tasks.preflight import preflight
from paced_tasks.prepare import prepare
from paced_tasks.reason import paced_flow, with_figures
from paced_tasks.rollouts import on_policy_samples, rollouts
from paced_tasks.run import Run, model_ref, open_run, run_name
from paced_tasks.teacher import teacher_answers
from paced_tasks.train import train_forward, train_reverse
from paced_tasks.weights import weights

Future = PrefectFuture[Ref]


Check = Callable[[Ref, Ref], None]  # of the problems of an arm and their weights, before anything is trained on them


def title() -> str:
    """What a flow run is called."""
    return title_of(Recipe.model_validate(flow_run.parameters["recipe"]))


def title_of(recipe: Recipe) -> str:
    """The run's name, its arms and how many seeds."""
    arms = ", ".join(arm.name for arm in recipe.arms)
    return f"{run_name(recipe)}: {arms}" + (f" x {len(recipe.seeds)} seeds" if len(recipe.seeds) > 1 else "")


@paced_flow("distill", title)
def distill(recipe: Recipe) -> RunSummary:
    """Distil the recipe's teacher into its student, once for each seed and arm, and compare the students.

    Returns the run's summary (docs: summary.json).
    """
    claim()
    permit(recipe=recipe)
    return with_figures(train_arms(Pipeline(open_run(recipe))))


def train_arms(pipeline: Pipeline, check: Check | None = None) -> RunSummary:
    """Every stage of a run; returns the summary. What ``check`` raises ends the run."""
    with pipeline as stages:
        add_arms(stages, check)
    return pipeline.summary


def add_arms(stages: Stages, check: Check | None = None) -> None:
    """Every stage of a run, for each seed and arm."""
    run, recipe = stages.run, stages.run.recipe
    student, teacher = model_ref(recipe.student), model_ref(recipe.teacher_model)
    benchmarks, problems = opened(stages, student, teacher)
    turn: list[Future] = []
    base = stages.add(evaluate, Label(BASE, step="evaluate"), model=student, benchmarks=benchmarks)
    scores = {str(Label(BASE, 0)): base}
    for seed in recipe.seeds:
        shared = Label(seed=seed, step="rollouts")
        sampled = stages.add(rollouts, shared, seed=seed, problems=problems[seed], model=student)
        for arm in recipe.arms:
            weighed = weigh(stages, arm, seed, sampled)
            if check:
                found: Any = [f.result(raise_on_failure=False) for f in (problems[seed], weighed)]
                if all(isinstance(ref, Ref) for ref in found):  # else the run ends with what made a stage fail
                    check(*found)
            trained = train_arm(run, stages, arm, seed, problems[seed], weighed, student, teacher, turn)
            made = Label(arm.name, seed)
            scores[str(made)] = stages.add(evaluate, made.at("evaluate"), model=trained, benchmarks=benchmarks)
    stages.add(compare, Label(step="compare"), scores=scores)


def prepared(stages: Stages) -> dict[str, Future]:
    """The problems of each benchmark."""
    return {
        b.name: stages.add(prepare, Label(benchmark=b.name), data=b.data, seed=0, split=b.name, exclude={})
        for b in stages.run.recipe.evaluation.benchmarks
    }


def opened(stages: Stages, student: Ref, teacher: Ref) -> tuple[dict[str, Future], dict[int, Future]]:
    """The problems of each benchmark and of each seed; whatever is added later waits for the preflight."""
    recipe, benchmarks = stages.run.recipe, prepared(stages)
    problems = {
        seed: stages.add(
            prepare, Label(seed=seed, step="prepare"), data=recipe.data, seed=seed, split="train", exclude=benchmarks
        )
        for seed in recipe.seeds
    }
    stages.first(
        preflight, Label(step="preflight"), student=student, teacher=teacher, benchmarks=benchmarks,
        problems={str(seed): future for seed, future in problems.items()},
    )  # fmt: skip
    return benchmarks, problems


def weigh(stages: Stages, arm: Arm, seed: int, sampled: Future) -> Future:
    """The weights of an arm's problems."""
    settings = stages.run.recipe.weights_of(arm)
    return stages.add(
        weights, Label(arm.name, seed).at("weights"), scheme=arm.scheme, rollouts=sampled, settings=settings
    )


def weigh_again(stages: Stages, arm: Arm, name: Label, problems: Future, model: Future | Ref, number: str) -> Future:
    """The weights of an arm's problems by the pass rates of its student as it is now."""
    recipe = stages.run.recipe
    sampled = stages.add(
        rollouts, name.at(f"rescore{number}"), seed=name.seed, problems=problems, model=model,
        first=recipe.consolidation.rescore,
    )  # fmt: skip
    return stages.add(
        weights, name.at(f"reweight{number}"), scheme=arm.scheme, rollouts=sampled, settings=recipe.weights_of(arm)
    )


def train_arm(
    run: Run,
    stages: Stages,
    arm: Arm,
    seed: int,
    problems: Future,
    weighed: Future,
    student: Ref,
    teacher: Ref,
    turn: list[Future],
) -> Future | Ref:
    """One student: stage 1 (forward KL), stage 2 (reverse KL), or both under one decay.

    ``turn`` holds the teacher stages so far: they take turns, so that an answer which several arms want is paid once.
    """
    recipe, name = run.recipe, Label(arm.name, seed)
    model: Future | Ref = student
    steps = recipe.stages_of(arm)
    if steps.forward:
        answers = stages.add(
            teacher_answers,
            name.at("teacher"),
            seed=seed,
            problems=problems,
            weights=weighed,
            teacher=teacher,
            student=student,
            after=turn[-1:],
        )
        turn.append(answers)
        model = stages.add(
            train_forward, name.at("train_forward"), arm=arm, seed=seed, steps=steps.forward, more=bool(steps.reverse),
            problems=problems, weights=weighed, answers=answers, model=student,
        )  # fmt: skip
    batch = recipe.training.batch
    for r in range(steps.rounds):
        start, end = steps.round(r)
        if r in recipe.reestimated(arm):
            weighed = weigh_again(stages, arm, name, problems, model, f"_{r}" if r else "")
        samples = stages.add(
            on_policy_samples, name.at(f"sample_{r}"), seed=seed, problems=problems, model=model, weights=weighed,
            start=start * batch, number=(end - start) * batch,
        )  # fmt: skip
        model = stages.add(
            train_reverse, name.at(f"train_reverse_{r}"), arm=arm, seed=seed, start=steps.forward + start,
            steps=end - start, draw_start=start * batch, more=r + 1 < steps.rounds, problems=problems, weights=weighed,
            samples=samples, teacher=teacher, model=model,
        )  # fmt: skip
    return model
