"""How long responses are from stage to stage, and an alarm where stage 2 lets them grow or be cut off.

On-policy training can drift into longer and longer responses, until most of them meet the token limit and are wrong
for that alone. Accuracy shows it late; length and the share cut off show it at once.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from paced.config.catalog import SCHEDULES
from paced.statistics import cut_warning

GROWTH = 1.5  # times the mean length
CUT_OFF = 0.05  # more of the responses; beyond two standard errors, so that a small sample does not cry wolf
EVALUATION = "evaluation"

Length = Mapping[str, Any]


def length(stage: str, counts: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean length and share cut off of the samples of a stage, ``counts`` of its seeds' manifests."""
    samples = sum(c["samples"] for c in counts)
    return {
        "stage": stage,
        "samples": int(samples),
        "mean_tokens": sum(c["tokens"] for c in counts) / samples,
        "truncated": sum(c["truncated"] for c in counts) / samples,
    }


def alarms(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each stage whose responses met the token limit too often, and for each arm whose stage 2 made them
    much longer, or cut off much more often.

    Compared is like with like: a round's samples with those of the first round, drawn before stage 2 changed the
    student; and the final student with the base on the benchmarks. There, length counts only where there was no stage
    1, which may teach a longer answer on purpose; more cut off is bad whatever the cause.
    """
    lines = list(dict.fromkeys(filter(None, (cut_off(stage) for arm in arms.values() for stage in arm["lengths"]))))
    for name, arm in arms.items():
        schedule = SCHEDULES.get(arm.get("schedule", ""))
        if not schedule or not schedule.reverse:
            continue
        rounds = [stage for stage in arm["lengths"] if stage["stage"].startswith("sample")]
        found = [length_warning(rounds[0], later) for later in rounds[1:]]
        scored = [[s for s in a["lengths"] if s["stage"] == EVALUATION] for a in (arms["base"], arm)]
        if all(scored):
            grown = not schedule.forward
            found.append(length_warning(scored[0][0], scored[1][0], grown, "the base student's"))
        lines += [f"{name}: {line}" for line in found if line]
    return lines


def cut_off(of: Length) -> str:
    """What is wrong with the responses of a stage whatever those of another were, or nothing."""
    warning = cut_warning(of["truncated"] * of["samples"], of["samples"])
    return warning and f"{of['stage'].replace('_', ' ')}: {warning}"


def length_warning(before: Length, after: Length, grown: bool = True, of: str = "the first round's") -> str:
    """What is wrong with ``after``, or nothing."""
    stage = after["stage"].replace("_", " ")
    error = math.sqrt(sum(s["truncated"] * (1 - s["truncated"]) / s["samples"] for s in (before, after)))
    if after["truncated"] - before["truncated"] > max(CUT_OFF, 2 * error):
        return (
            f"{stage}: {after['truncated']:.0%} of responses met the token limit, {of} {before['truncated']:.0%}; "
            "look at what they say, then raise max_new_tokens, or lower consolidation.steps or learning_rate"
        )
    if grown and after["mean_tokens"] > GROWTH * before["mean_tokens"]:
        return (
            f"{stage}: responses of {after['mean_tokens']:.0f} tokens on average, {of} {before['mean_tokens']:.0f}; "
            "look at what they say, then lower consolidation.steps or learning_rate"
        )
    return ""
