"""Examples of docs/python.md, run as a reader would, print what the page says; what is read is what is stored."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from harness import ROOT, Chain

import paced
from paced.errors import CacheError, DataError, PacedError
from paced.losses.targets import ENTRIES, Sparse, decode

PAGE = (ROOT / "docs" / "python.md").read_text()
EXAMPLES = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.M | re.S)


def test_each_section_has_an_example() -> None:
    assert [title for title, _, _ in EXAMPLES] == re.findall(r"^## (.+)$", PAGE, re.M)
    assert len(EXAMPLES) == PAGE.count("```python") == 4


@pytest.mark.parametrize(("program", "printed"), [pytest.param(p, out, id=title) for title, p, out in EXAMPLES])
def test_an_example_prints_what_the_page_says(
    program: str, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACED_HOME", str(tmp_path / "home"))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed


def test_stored_targets_are_those_of_the_store(chain: Chain) -> None:
    """Answer by answer in the order of the artifact's table, and the same tensors as training takes."""
    ref = chain.refs["teacher"]
    found = list(paced.stored_targets(ref.path))
    answers = pq.read_table(ref.folder / "answers.parquet").to_pylist()
    about = json.loads((ref.folder / "targets.json").read_text())
    parts = [pq.read_table(p).to_pylist() for p in (chain.home / "store" / "targets").rglob("*.parquet")]
    rows = {row["sample_key"]: row for part in parts for row in part}
    assert len(found) == len(answers) > 10
    for mine, answer in zip(found, answers, strict=True):
        row = rows[answer["target_key"]]
        assert (mine.problem_id, mine.sample_index) == (answer["problem_id"], answer["sample_index"])
        assert (mine.prompt_ids, mine.response_ids) == (row["prompt_ids"], row["response_ids"])
        assert mine.floor == about["floor"]
        for name, values, kind in zip(ENTRIES, mine.sparse, ENTRIES.values(), strict=True):
            assert values.dtype == kind
            np.testing.assert_array_equal(values, np.array(row[name], kind))
    padded = paced.padded_targets(found[3:5], dtype=torch.float64)
    joined = Sparse(*(np.concatenate(pair) for pair in zip(found[3].sparse, found[4].sparse, strict=True)))
    for mine, its in zip(padded[:3], decode(joined, torch.device("cpu"), torch.float64), strict=True):
        assert torch.equal(mine, its)
    assert padded.floor == about["floor"]


def test_what_is_no_artifact_of_a_teacher(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of stage 'weights', not of stage 'teacher'"):
        next(paced.stored_targets(chain.refs["weights"].path))
    with pytest.raises(CacheError, match=r"manifest\.json is missing"):
        next(paced.stored_targets(tmp_path))
    with pytest.raises(DataError, match="got no targets"):
        paced.padded_targets([])


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    """The command's one line, as an error."""
    with pytest.raises(PacedError, match=r"student\.path: model folder /missing does not exist"):
        paced.run(ROOT / "recipes" / "tiny.yaml", {"student.path": "/missing"}, home=tmp_path / "home")
