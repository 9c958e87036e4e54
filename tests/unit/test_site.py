"""What `make docs` does beside mkdocs; without mkdocs in the environment there is nothing to test."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="mkdocs is not installed: make docs")

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site.py")
assert spec and spec.loader
hooks: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)


def test_every_box_of_the_flow_chart_becomes_a_line() -> None:
    chart = 'flowchart TD\n    a["one: x"] --> b["two"]\n    b --> c["three"]\n    c -- "again" --> b\n'
    assert hooks.steps(f"before\n```mermaid\n{chart}```\nafter") == (
        "before\n1. one: x\n2. two\n3. three (again: back to *b*)\nafter"
    )
    readme = (ROOT / "README.md").read_text()
    assert "```mermaid" in readme and "```mermaid" not in hooks.steps(readme)


@pytest.mark.parametrize(
    ("page", "loads"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ("<img alt=x src=//cdn.example/x.png>", True),
        ('<link rel="stylesheet" href="http://fonts.example/x.css">', True),
        ('<link rel="canonical" href="https://example.org/">', False),
        ('<a href="https://example.org/">elsewhere</a><script src="assets/x.js"></script>', False),
    ],
)
def test_a_page_that_asks_the_network_ends_the_build(page: str, loads: bool, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page)
    if not loads:
        return hooks.on_post_build({"site_dir": str(tmp_path)})
    with pytest.raises(hooks.PluginError, match=r"page\.html loads from elsewhere"):
        hooks.on_post_build({"site_dir": str(tmp_path)})
    return None
