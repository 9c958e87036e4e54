"""Labels of stages: what is written is read again, and each part is where it belongs."""

import pytest
from harness import STAGES, STUDENTS

from paced.config.label import BASE, Label

LABELS = {
    "compare": Label(step="compare"),
    "0/prepare": Label(seed=0, step="prepare"),
    "benchmark/arithmetic": Label(benchmark="arithmetic"),
    "base/evaluate": Label(BASE, step="evaluate"),
    "paced/0/train_forward": Label("paced", 0, "train_forward"),
    "two_stage/12/sample_1": Label("two_stage", 12, "sample_1"),
    "benchmark/0/teacher": Label("benchmark", 0, "teacher"),  # an arm may be called so
    "base": Label(BASE),
    "paced/0": Label("paced", 0),
    "a/b/0/weights": Label("a/b", 0, "weights"),  # in a run.json that somebody else wrote
    "trial-1a2b:paced/-1": Label("trial-1a2b:paced", -1),
}


@pytest.mark.parametrize("text", LABELS)
def test_a_label_is_read_as_it_is_written(text: str) -> None:
    assert Label.parse(text) == LABELS[text]
    assert str(LABELS[text]) == text


@pytest.mark.parametrize("text", [*STAGES, *STUDENTS])
def test_every_label_of_a_run_is_read(text: str) -> None:
    assert str(Label.parse(text)) == text


@pytest.mark.parametrize("text", ["", "/", "a/", "/a", "a/b/c", "a/0/", "a/0/b/c", "//"])
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not written ARM/SEED/STEP"):
        Label.parse(text)


def test_a_label_knows_its_student_and_its_purpose() -> None:
    sample = Label.parse("two_stage/12/sample_1")
    assert sample.student == Label.parse("two_stage/12")
    assert sample.student.at("evaluate") == Label.parse("two_stage/12/evaluate")
    assert (sample.purpose, sample.name, sample.file) == ("sample", "sample_1", "two_stage.12.sample_1")
    assert Label.parse("paced/0/train_forward").purpose == "train_forward"
    assert Label.parse("benchmark/arithmetic").name == "arithmetic"
