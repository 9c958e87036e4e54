"""The tiny world: every answer against arithmetic done another way, shapes of the levels, streams that only grow."""

import itertools
import re

import pytest

from paced.tiny.checkpoints import tokenizer
from paced.tiny.world import CHARACTERS, UNITS, Task, tasks, working

COUNT = 1500


def stream(seed: int, mix: dict[int, float], n: int, exclude: frozenset[str] = frozenset()) -> list[Task]:
    return list(itertools.islice(tasks(seed, mix, exclude), n))


def by_columns(prompt: str) -> str:
    """The working by school arithmetic: the whole value is kept and reduced only when it is written."""
    if prompt.endswith(">"):
        return "#" + "".join(letter * prompt.count(letter) for letter in "abcdefgh")
    pieces = re.split(r"(?=[-+*])", prompt.removesuffix("="))
    value, written = int(pieces[0]), []
    for piece in pieces[1:]:
        n = int(piece[1:])
        value = {"+": value + n, "-": value - n, "*": sum([value] * n)}[piece[0]]
        written.append(f"{piece}={value - 100 * (value // 100):0>2};")
    return "".join(written) + f"#{value - 100 * (value // 100):0>2}"


SHAPES = {
    0: r"[a-h]{4,8}>",
    1: r"\d\d([-+][1-9]){1,2}=",
    2: r"\d\d([-+][1-9]){3,4}=",
    3: r"\d\d([-+][1-9]\d){2}=",
    4: r"\d\d([-+][1-9]\d){4}=",
    5: r"\d\d(\*[2-9]\+[1-9]\d|\+[1-9]\d\*[2-9])=",
    6: r"\d\d(\*\d\d){3}=",
}


@pytest.mark.parametrize("level", SHAPES)
def test_levels(level: int) -> None:
    found = stream(5, {level: 1}, COUNT)
    assert len({t.prompt for t in found}) == COUNT
    for task in found:
        assert task.level == level
        assert re.fullmatch(SHAPES[level], task.prompt)
        assert task.answer == working(task.prompt) == by_columns(task.prompt)
        assert set(task.prompt + task.answer) <= set(CHARACTERS)
        assert len(task.answer) + 1 <= 56  # with eos: the limit on new tokens
        assert len(task.prompt + task.answer) + 1 <= 96  # the context of the checkpoints
    if level == 6:
        operands = {int(n) for t in found for n in re.findall(r"\d\d", t.prompt)}
        assert operands == set(UNITS)
        assert all(n % 2 and n % 5 for n in operands)
        values = [int(v) for t in found for v in re.findall(r"(?:=|#)(\d\d)", t.answer)]
        assert all(v % 2 and v % 5 for v in values)  # a product never collapses to 00
        assert len(set(values)) == 40
    if level in (1, 2):  # both counts of operators, both operators
        assert {len(re.findall(r"[-+]", t.prompt)) for t in found} == ({1, 2} if level == 1 else {3, 4})


def test_the_first_n_do_not_depend_on_n() -> None:
    mix = {1: 2, 3: 4, 6: 10, 0: 1}
    long = stream(3, mix, 400)
    assert stream(3, mix, 40) == long[:40]
    assert stream(3, dict(reversed(mix.items())), 400) == long
    assert stream(4, mix, 40) != long[:40]
    assert len({t.prompt for t in long}) == 400


def test_excluded_prompts_never_occur() -> None:
    plain = stream(3, {1: 1}, 300)
    held = frozenset(t.prompt for t in plain[::3])
    left = stream(3, {1: 1}, 300, held)
    assert not held & {t.prompt for t in left}
    assert [t for t in plain if t.prompt not in held] == left[:200]


def test_levels_come_in_the_shares_of_the_mix() -> None:
    mix = {1: 1, 4: 2, 6: 5}
    found = [t.level for t in stream(0, mix, 2000)]
    assert {level: round(found.count(level) / 250) for level in mix} == mix  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    "prompt", ["", "5+1=", "50+92+30", "50/2=", "50+=", "+5=", "50+100=", "abc", "ABC>", "i>", "50+1=2", "12="]
)
def test_other_prompts_are_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match="not a prompt"):
        working(prompt)


def test_worked_by_hand() -> None:
    # 94+49 = 143 -> 43; 43-45 = -2 -> 98. 91*8 = 728 -> 28; 28+84 = 112 -> 12.
    assert working("94+49-45=") == "+49=43;-45=98;#98"
    assert working("91*8+84=") == "*8=28;+84=12;#12"
    assert working("10-9-8=") == "-9=01;-8=93;#93"


def test_the_tokenizer_has_one_token_a_character() -> None:
    wrapped = tokenizer()
    for task in stream(0, dict.fromkeys(SHAPES, 1), 50):
        ids = wrapped(task.prompt + task.answer)["input_ids"]
        assert len(ids) == len(task.prompt + task.answer)  # type: ignore[arg-type]
        assert wrapped.decode(ids) == task.prompt + task.answer  # type: ignore[arg-type]
    assert len(wrapped) == len(CHARACTERS) + 2
    assert (wrapped.pad_token_id, wrapped.eos_token_id) == (0, 1)
