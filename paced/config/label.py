"""The label of a stage within its run, which also names journals, logs and what MLflow shows. Imports no torch."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Self

BASE = "base"  # the arm of the student before any training
BENCHMARK = "benchmark"
_STUDENT = re.compile(r"(?:(?P<arm>.+)/)?(?P<seed>-?\d+)(?:/(?P<step>[^/]+))?")


@dataclass(frozen=True)
class Label:
    """Where a stage stands in a run, written ``ARM/SEED/STEP``, with whatever does not apply left out.

    So ``paced/0/train_forward``, ``0/prepare`` of what all arms of a seed share, ``base/evaluate``, ``compare``; a
    benchmark's problems are ``benchmark/NAME``. Without a step it is the label of a student, or of its scores:
    ``paced/0``.
    """

    arm: str = ""
    seed: int | None = None
    step: str = ""
    benchmark: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The label that is written so.

        Raises:
            ValueError: no label is written so.
        """
        if (found := _STUDENT.fullmatch(text)) and (found["arm"] or found["step"]):
            return cls(found["arm"] or "", int(found["seed"]), found["step"] or "")
        match text.split("/"):
            case ["benchmark", name] if name:
                return cls(benchmark=name)
            case [arm, step] if arm and step:
                return cls(arm, step=step)
            case ["base"]:
                return cls(BASE)
            case [step] if step:
                return cls(step=step)
            case _:
                raise ValueError(f"'{text}' is not written ARM/SEED/STEP")

    def __str__(self) -> str:
        seed = "" if self.seed is None else str(self.seed)
        parts = [BENCHMARK, self.benchmark] if self.benchmark else [self.arm, seed, self.step]
        return "/".join(part for part in parts if part)

    def at(self, step: str) -> Self:
        """Another step of the same arm and seed."""
        return dataclasses.replace(self, step=step)

    @property
    def student(self) -> Self:
        """The student that the stage belongs to."""
        return self.at("")

    @property
    def file(self) -> str:
        """What files about the stage are called, without a suffix."""
        return str(self).replace("/", ".")

    @property
    def purpose(self) -> str:
        """The step without the number of its round: ``sample`` of ``sample_1``."""
        return re.sub(r"_\d+$", "", self.step)

    @property
    def name(self) -> str:
        """What a stage is called within its arm: the step, or the benchmark."""
        return self.step or self.benchmark
