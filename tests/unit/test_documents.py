"""What documents name is there: files, modules, names in files, targets of links; and README's example in Python."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("deployments/**/*.md")])
HISTORY = {"CHANGELOG.md", "log.md"}  # entries are of their day, and are not rewritten
FOLDERS = ("paced", "tasks", "flows", "deployments", "recipes", "tests", "benchmarks", "docs", "src")
# A label of a stage has a seed behind its arm (paced/0/weights), a path of the repository has none.
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/(?!\d+/)[\w*][\w./*-]*")
MODULE = re.compile(r"-m ((?:paced\w*|benchmarks)(?:\.\w+)+)")
NAMED = re.compile(r"((?:`\w+`(?:, | and ))*`\w+`) (?:in |\()`([\w./]+\.py)`")


def each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=[str(p.relative_to(ROOT)) for p in pages])


CURRENT = each([page for page in PAGES if page.name not in HISTORY])


def prose(page: Path) -> str:
    """A page without its fenced blocks, on one line a paragraph."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    return re.sub(r"(?<!\n)\n(?!\n)[ ]*", " ", text)


def spans(page: Path) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@CURRENT
def test_paths_are_there(page: Path) -> None:
    found = [path.rstrip(".") for span in spans(page) for path in PATH.findall(span)]
    assert [path for path in found if not list(ROOT.glob(path))] == []


@CURRENT
def test_modules_are_there(page: Path) -> None:
    found = [Path(*name.split(".")) for name in MODULE.findall(page.read_text())]
    places = (ROOT, ROOT / "src")
    missing = [m for m in found if not any((p / m).with_suffix(".py").exists() or (p / m).is_dir() for p in places)]
    assert missing == []


@CURRENT
def test_names_are_in_the_files_that_are_said_to_hold_them(page: Path) -> None:
    wrong = [
        f"{name} in {file}"
        for names, file in NAMED.findall(prose(page))
        for name in re.findall(r"\w+", names.replace(" and ", " "))
        if not re.search(rf"\b{name}\b", (ROOT / file).read_text())
    ]
    assert wrong == []


@each(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    targets = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r"src=\"([^\"]+)\"", text)]
    for target in targets:
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@each(sorted((ROOT / "docs").glob("*.md")))
def test_each_page_of_the_documentation_says_whom_it_is_for(page: Path) -> None:
    """In the first paragraph: who needs it, and what they can do after reading."""
    title, first = page.read_text().split("\n\n")[:2]
    assert title.startswith("# ") and "\n" not in title
    assert first.startswith("This page is for "), first
    assert "After reading" in " ".join(first.split()), first


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (test_paths_are_there, "`paced/losses.py`"),
        (test_paths_are_there, "see `python tests/unit/none.py --x`"),
        (test_paths_are_there, "`recipes/*.toml`"),
        (test_modules_are_there, "    python -m benchmarks.none out.json"),
        (test_names_are_in_the_files_that_are_said_to_hold_them, "(`fused_loss`,\n`weigh` in `paced/losses/fused.py`)"),
        (test_names_are_in_the_files_that_are_said_to_hold_them, "a case in `weigh` (`paced/weighting.py`)"),
        (test_links_lead_somewhere, "[a](none.md)"),
        (test_links_lead_somewhere, "# One\n\n[a](#two)"),
    ],
)
def test_the_checks_find_what_they_look_for(check: Any, text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError):
        check(page)


def test_a_stage_s_label_is_no_path(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`paced/0/weights` and `paced/losses/fused.py`")
    assert [PATH.findall(span) for span in spans(page)] == [[], ["paced/losses/fused.py"]]


BEFORE = """
import paced
from pathlib import Path
from paced.config.reading import load_recipe
paced.run = lambda recipe, changes: load_recipe(Path(recipe), [f"{k}={v}" for k, v in changes.items()])
"""
AFTER = """
assert verdict.outcome == "correct" and len(weights) == 4 and summary.weights.alpha == 2
"""


def test_readme_is_short_and_its_example_runs() -> None:
    """All of the example but the run itself, whose recipe and setting are only read."""
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 180
    (example,) = re.findall(r"^```python\n(.*?)^```$", readme, re.M | re.S)
    done = subprocess.run([sys.executable, "-c", BEFORE + example + AFTER], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
