"""docs/architectures.md holds: an architecture is done again, and gives its line of the page.

Some of them here, of each kind of answer one at least; all of them with ARCHITECTURES=all, which `make matrix` is for.
"""

import os
import re
from pathlib import Path

import pytest
import transformers
from architectures import PAGE, entry, make, outcome

pytestmark = pytest.mark.slow

LINES = dict(re.findall(r"^- `([^`]+)`: (.*)$", PAGE.read_text(), re.M))
SOME = (
    "bert", "deepseek_v3", "doge", "falcon", "gemma2", "gpt2", "gpt_oss", "granite", "jamba", "llama4_text", "opt",
    "qwen3_moe", "recurrent_gemma",
)  # fmt: skip


@pytest.mark.parametrize("architecture", sorted(LINES) if os.environ.get("ARCHITECTURES") == "all" else SOME)
def test_the_page_says_what_works(architecture: str, tmp_path: Path) -> None:
    assert entry(architecture, outcome(make(architecture, tmp_path))) == f"- `{architecture}`: {LINES[architecture]}"


def test_the_page_is_of_the_library_that_is_installed() -> None:
    assert f"for transformers {transformers.__version__}" in PAGE.read_text()
    assert len(LINES) >= 100 and sum(line == "all" for line in LINES.values()) >= 60
    assert set(SOME) <= LINES.keys()
