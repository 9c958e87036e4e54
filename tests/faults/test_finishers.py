"""Two hosts that finish one stage at once and share no lock: neither harms what the other left, both report one."""

import json
import multiprocessing
import os
import types
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import paced.stage
import paced.storage.placing
from paced.stage import Job, Spec, execute
from paced.storage.artifacts import open_file, reference

HOSTS, ROUNDS = 2, 20


def host(number: int, home: Path, store: str, meeting: Any, answers: Any) -> None:
    """Run a stage whose bits are of its host, as those of another device's kernels are; ``ROUNDS`` identities of it."""
    os.environ["PACED_STORE"] = store
    paced.stage.exclusive = lambda path, wait=True: nullcontext()
    paced.storage.placing.kernel = lambda: f"host{number}"

    def prepare(job: Job) -> None:
        job.write_json("made.json", [number] * 1000)
        job.write_json("more.json", {"made": number})
        meeting.wait(60)

    stage = types.SimpleNamespace(prepare=prepare)
    paced.stage.importlib = types.SimpleNamespace(import_module=lambda name: stage)  # pyright: ignore
    for k in range(ROUNDS):
        ref = execute(Spec(stage="prepare", home=str(home), config={"round": k}), lambda event: None)
        made, more = (json.loads(open_file(ref, name).read_text()) for name in ("made.json", "more.json"))
        answers.put((k, ref.digest, made == [more["made"]] * 1000))


@pytest.mark.parametrize("shared", ["home", "store"])
def test_two_finish_at_once(shared: str, tmp_path: Path) -> None:
    """One digest, whose files are all of one host; nothing else is left in a home."""
    (store := tmp_path / "shared").mkdir()
    homes = [store] * HOSTS if shared == "home" else [tmp_path / str(n) for n in range(HOSTS)]
    context = multiprocessing.get_context("fork")
    meeting, answers = context.Barrier(HOSTS), context.Queue()
    given = [(n, homes[n], "" if shared == "home" else str(store), meeting, answers) for n in range(HOSTS)]
    hosts = [context.Process(target=host, args=arguments, daemon=True) for arguments in given]
    for process in hosts:
        process.start()
    found = [answers.get(timeout=60) for _ in range(HOSTS * ROUNDS)]
    for process in hosts:
        process.join(120)
        assert process.exitcode == 0

    assert all(whole for *_, whole in found)
    digests = [{digest for k, digest, _ in found if k == of} for of in range(ROUNDS)]
    assert [len(of) for of in digests] == [1] * ROUNDS
    for home in homes:
        folders = list((home / "artifacts" / "prepare").iterdir())
        assert {reference(folder).digest for folder in folders} == set[str]().union(*digests)
        assert len(folders) == ROUNDS


def test_what_is_no_artifact_makes_room(tmp_path: Path) -> None:
    """What an older version or an interrupted removal left in an artifact's place."""
    job = Job(Spec(stage="prepare", home=str(tmp_path)))
    job.spec.folder.mkdir(parents=True)
    (job.spec.folder / "a.json").write_text("half")
    job.write_json("a.json", 1)
    ref = job.finish()
    assert ref == reference(job.spec.folder)
    assert open_file(ref, "a.json").read_text() == "1\n"
    assert list(job.spec.folder.parent.iterdir()) == [job.spec.folder]
