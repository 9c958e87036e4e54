"""README's table of ratios is what the benchmarks' files say."""

from pathlib import Path

from benchmarks.table import placed, table

README = Path(__file__).parent.parent.parent / "README.md"


def test_readme_has_the_table_of_the_files() -> None:
    assert "| training step, paced forward to trl forward: tokens a second |" in table()
    assert placed(README.read_text()) == README.read_text()
