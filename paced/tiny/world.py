"""Left-to-right arithmetic modulo 100, every step written out, and a sorting skill that distillation can forget.

A prompt such as ``50+92+30=`` is answered by its whole working, ``+92=42;+30=72;#72``. Six levels grade the
difficulty from one single-digit sum to three two-digit products. Level 0 is the retention skill, ``geggfg>`` answered
by ``#efgggg``; it never occurs in the distillation data, so accuracy on it measures forgetting.

The whole working is graded, not only the last number: a two-digit answer can be guessed (4% of the hardest level
passes by luck), and guessed answers poison pass rates.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

CHARACTERS = "0123456789+-*=;#abcdefgh>"
LEVELS = (1, 2, 3, 4, 5, 6)
RETENTION = 0

# A product of units modulo 100 is again a unit, so level 6 never collapses to 00.
UNITS = tuple(n for n in range(11, 100) if n % 2 and n % 5)


class Task(NamedTuple):
    """One problem: ``prompt`` is what the model reads, ``answer`` the only response that counts as correct."""

    level: int
    prompt: str
    answer: str


def working(prompt: str) -> str:
    """The full correct response to ``prompt``.

    Raises:
        ValueError: the prompt is not one of this world.
    """
    if re.fullmatch(r"[a-h]{1,16}>", prompt):
        return "#" + "".join(sorted(prompt[:-1]))
    if not re.fullmatch(r"\d\d([-+*]\d{1,2})+=", prompt):
        raise ValueError(f"not a prompt of the tiny world: {prompt!r}")
    value, steps = int(prompt[:2]), ""
    for operator, operand in re.findall(r"([-+*])(\d+)", prompt[2:]):
        n = int(operand)
        value = (value + n if operator == "+" else value - n if operator == "-" else value * n) % 100
        steps += f"{operator}{operand}={value:02d};"
    return f"{steps}#{value:02d}"


def _prompt(level: int, rng: np.random.Generator) -> str:
    def sums(count: int, low: int, high: int) -> str:
        return "".join(f"{'+-'[rng.integers(2)]}{rng.integers(low, high)}" for _ in range(count))

    start = int(rng.integers(10, 100))
    match level:
        case 0:
            return "".join("abcdefgh"[i] for i in rng.integers(0, 8, rng.integers(4, 9))) + ">"
        case 1:
            return f"{start}{sums(int(rng.integers(1, 3)), 1, 10)}="
        case 2:
            return f"{start}{sums(int(rng.integers(3, 5)), 1, 10)}="
        case 3:
            return f"{start}{sums(2, 10, 100)}="
        case 4:
            return f"{start}{sums(4, 10, 100)}="
        case 5:
            steps = [f"*{rng.integers(2, 10)}", f"+{rng.integers(10, 100)}"]
            return f"{start}{''.join(steps if rng.integers(2) else steps[::-1])}="
        case 6:
            return "*".join(str(rng.choice(UNITS)) for _ in range(4)) + "="
        case _:
            raise ValueError(f"level must be 0 to 6, got {level}")


def tasks(seed: int, mix: dict[int, float], exclude: frozenset[str] = frozenset()) -> Iterator[Task]:
    """A long stream of distinct tasks, levels drawn in proportion to ``mix``.

    The first n tasks of a stream do not depend on how many are taken, so a data set that grows keeps its old problems.

    Raises:
        ValueError: the levels' distinct problems are used up (level 1 has 30,780).
    """
    rng = np.random.default_rng(seed)
    levels = np.array(sorted(mix))
    shares = np.array([mix[level] for level in sorted(mix)], dtype=float)
    seen = set(exclude)
    repeats = 0
    while repeats < 10_000:
        level = int(rng.choice(levels, p=shares / shares.sum()))
        prompt = _prompt(level, rng)
        repeats += 1
        if prompt not in seen:
            repeats = 0
            seen.add(prompt)
            yield Task(level, prompt, working(prompt))
    raise ValueError(f"levels {', '.join(map(str, levels))} hold no more than {len(seen)} distinct problems")
