"""The grid of an ablation as the arms of a recipe. Imports no torch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from paced.config import Loss, Recipe, Schedule, Scheme
from paced.config.reading import with_changes
from paced.errors import ConfigError


def grid(
    recipe: Recipe,
    schemes: Sequence[str],
    schedules: Sequence[str],
    seeds: Sequence[int],
    exponents: Sequence[tuple[float, float]] = (),
    losses: Sequence[str] = (),
) -> Recipe:
    """The recipe with the grid as its arms, named as ``beta_forward`` or, with exponents and a loss,
    ``beta_2_0p5_akl_forward``.

    Raises:
        ConfigError: an unknown weighting or schedule, an empty axis, one value twice, exponents without scheme beta.
    """
    for axis, values, known in (
        ("schemes", schemes, get_args(Scheme)), ("schedules", schedules, get_args(Schedule)), ("seeds", seeds, ()),
    ):  # fmt: skip
        if not values:
            raise ConfigError(f"{axis}: the grid is empty, name at least one")
        if unknown := [v for v in values if known and v not in known]:
            raise ConfigError(f"{axis}: there is no {unknown[0]!r}; there are: {', '.join(known)}")
    if unknown := [loss for loss in losses if loss not in get_args(Loss)]:
        raise ConfigError(f"losses: there is no {unknown[0]!r}; there are: {', '.join(get_args(Loss))}")
    for axis, values in (
        ("schemes", schemes), ("schedules", schedules), ("seeds", seeds), ("exponents", exponents), ("losses", losses),
    ):  # fmt: skip
        if twice := [v for v, n in Counter(values).items() if n > 1]:
            raise ConfigError(f"{axis}: {twice[0]} is there twice, so two arms would be the same")
    if exponents and "beta" not in schemes:
        raise ConfigError("exponents: they have no effect without scheme beta in schemes")
    arms = [arm for schedule in schedules for arm in arms_of(schemes, schedule, exponents, losses)]
    return with_changes(
        recipe,
        f"the grid on recipe {recipe.name}",
        name=f"{recipe.name}-ablation",
        arms=arms,
        seeds=tuple(seeds),
    )


def arms_of(
    schemes: Sequence[str], schedule: str, exponents: Sequence[tuple[float, float]], losses: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The arms of one schedule, not yet checked."""
    for scheme in schemes:
        for pair in (exponents or (None,)) if scheme == "beta" else (None,):
            numbers = [f"{x:g}".replace(".", "p").replace("-", "m").replace("+", "") for x in pair or ()]
            for loss in losses or (None,):
                name = "_".join([scheme, *numbers, *([loss] if loss else []), schedule])
                yield {"name": name, "scheme": scheme, "schedule": schedule, "exponents": pair, "loss": loss}
