"""The grid of an ablation as the arms of a recipe. Imports no torch."""

from collections import Counter
from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from paced.config import Recipe
from paced.config.arms import weighting
from paced.config.base import JsonObject
from paced.config.catalog import WEIGHTINGS
from paced.config.extensions import names
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
    for axis, needed in (("schemes", schemes), ("schedules", schedules), ("seeds", seeds)):
        if not needed:
            raise ConfigError(f"{axis}: the grid is empty, name at least one")
    for axis, named, kind in (
        ("schemes", schemes, "weighting"), ("schedules", schedules, "schedule"), ("losses", losses, "loss"),
    ):  # fmt: skip
        if unknown := [name for name in named if name not in names(kind)]:
            raise ConfigError(f"{axis}: there is no {unknown[0]!r}; there are: {', '.join(names(kind))}")
    for axis, values in (
        ("schemes", schemes), ("schedules", schedules), ("seeds", seeds), ("exponents", exponents), ("losses", losses),
    ):  # fmt: skip
        if twice := [v for v, n in Counter(values).items() if n > 1]:
            raise ConfigError(f"{axis}: {twice[0]} is there twice, so two arms would be the same")
    if exponents and not any(weighting(scheme).takes_exponents for scheme in schemes):
        shaped = " or ".join(name for name, record in WEIGHTINGS.items() if record.takes_exponents)
        raise ConfigError(f"exponents: they have no effect without scheme {shaped} in schemes")
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
) -> Iterator[JsonObject]:
    """The arms of one schedule, not yet checked."""
    for scheme in schemes:
        for pair in (exponents or (None,)) if weighting(scheme).takes_exponents else (None,):
            numbers = [f"{x:g}".replace(".", "p").replace("-", "m").replace("+", "") for x in pair or ()]
            for loss in losses or (None,):
                name = "_".join([scheme, *numbers, *([loss] if loss else []), schedule])
                given: JsonValue = [*pair] if pair else None
                yield {"name": name, "scheme": scheme, "schedule": schedule, "exponents": given, "loss": loss}
