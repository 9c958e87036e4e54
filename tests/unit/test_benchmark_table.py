"""Tables in documents are what the benchmarks' files say; a file is of one setting; every benchmark starts."""

import importlib
import pkgutil
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import benchmarks.table
from benchmarks import loss_head, sampler, training_step
from benchmarks.table import BLOCKS, HERE, placed, read, row, table

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")])
def test_every_benchmark_finds_what_it_measures(name: str) -> None:
    """They run once in a while; what they import may have moved."""
    importlib.import_module(name)


@pytest.mark.parametrize(
    ("page", "name", "holds"),
    [
        ("performance.md", "benchmarks", "| training step, paced forward to trl forward: tokens a second |"),
        ("results.md", "results", "two_stage - paced        accuracy"),
    ],
)
def test_a_page_has_the_table_of_the_files(page: str, name: str, holds: str) -> None:
    text = (DOCS / page).read_text()
    assert holds in BLOCKS[name]() and f"<!-- {name}:begin -->" in text
    assert placed(text) == text


def test_the_report_that_the_site_shows_is_of_the_same_run() -> None:
    assert f"<title>{read('demo')['name']}" in (DOCS / "gallery" / "demo.html").read_text()


def test_what_stands_between_the_marks_is_replaced() -> None:
    page = "before\n<!-- benchmarks:begin -->\n\nold\n\n<!-- benchmarks:end -->\nafter\n"
    assert placed(page) == page.replace("old\n", table())


def test_a_median_outside_of_its_aim_is_marked() -> None:
    between = {"median": 1.2, "low": 1.0, "high": 2.0}
    assert row("a, to b", between, 3, least=1.3) == "| a, to b | 1.20 (1.00 to 2.00) | 3 | ≥ 1.3, missed |\n"
    assert row("a", between, 1, most=1.15) == "| a | 1.20 | 1 | ≤ 1.15, missed |\n"
    assert row("a", between, 1, 1, 1.2) == "| a | 1.20 | 1 | 1 to 1.2 |\n"
    assert row("a", between, 1) == "| a | 1.20 | 1 |  |\n"


def test_a_reference_that_no_floor_equals_has_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(name: str) -> dict[str, Any]:
        found = read(name)
        if name == "cache":
            for result in found["results"].values():
                result["at equal error"] = [None]
        return found

    monkeypatch.setattr(benchmarks.table, "read", changed)
    assert "| teacher targets" not in table() and "| growth" in table()


@pytest.mark.parametrize(
    ("program", "arguments", "says"),
    [
        (loss_head, ["--threads", "2"], "was measured with threads 1, not 2: give the same threads"),
        (training_step, ["--limit", "95"], "was measured with limit 96, not 95"),
        (sampler, ["--dtype", "bfloat16"], "was measured with dtype float32, not bfloat16"),
    ],
)
def test_other_settings_need_a_file_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Any, arguments: list[str], says: str
) -> None:
    out = tmp_path / "out.json"
    shutil.copyfile(HERE / f"{program.__name__.rpartition('.')[2]}.json", out)
    model = [] if program is loss_head else ["smollm2-135m-instruct"]
    monkeypatch.setattr(sys, "argv", ["", *model, str(out), *arguments])
    before = out.read_bytes()
    with pytest.raises(SystemExit, match=says):
        program.main()
    assert out.read_bytes() == before
