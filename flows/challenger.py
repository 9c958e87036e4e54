"""The run that trains a challenger: flow distill, stopped before it trains where the problems are not what is wanted.

By then the champion's pass rates on them are known, and little else is paid for.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from paced.config import Recipe
from paced.errors import NothingToLearn
from paced.evaluation.drift import Distance, ProblemProfile, distances, past, profile, text, together
from paced.storage.artifacts import Ref, open_file, read_manifest
from paced.storage.files import read_record, write_record
from paced.storage.identity import short
from paced.storage.runs import RunSummary
from paced_flows.distill import title, train_arms
from paced_tasks.owner import claim
from paced_tasks.permission import permit
from paced_tasks.pipeline import Pipeline
from paced_tasks.reason import paced_flow
from paced_tasks.run import open_run

ARRIVING = "arriving.json"  # the profile of a retraining that has not decided yet


class Postponed(NothingToLearn):
    """Nothing is trained on these problems before there are more, or before somebody says so."""


class Gate(BaseModel):
    """What has to be so before anything is trained, and where the profiles of earlier problems lie.

    ``new`` is a file that names the problems that are new: a JSON record whose ``problems`` are their ids.
    """

    model_config = ConfigDict(frozen=True)
    profiles: str
    new: str
    least_kept: int
    drift_limit: float | None

    def check(self, problems: Ref, weighed: Ref) -> None:
        """Note the profile of the new problems.

        Raises:
            Postponed: too few problems have a positive weight, or the new ones are too unlike those before.
        """
        kept = int(read_manifest(weighed.folder).counts["kept"])
        if 0 < kept < self.least_kept:
            raise Postponed(f"{kept} problems have a positive weight, of at least {self.least_kept} (least_kept)")
        tables = open_file(problems, "problems.parquet"), open_file(weighed, "pass_rates.parquet")
        found = profile(*tables, read_record(Path(self.new))["problems"])
        write_record(Path(self.profiles) / ARRIVING, found.model_dump(mode="json"))
        apart = drift(Path(self.profiles))
        if apart and self.drift_limit is not None and (kinds := past(apart[2], self.drift_limit)):
            raise Postponed(
                f"the new ones differ from those before in {', '.join(kinds)}: {text(apart[2])}; look at them, then "
                f"raise drift_limit ({self.drift_limit:g}) or set it to null (--drift-limit none)"
            )


def drift(folder: Path) -> tuple[ProblemProfile, ProblemProfile, dict[str, Distance]] | None:
    """Of the problems that arrive from all those that were decided on, if there are both: profiles and distances."""
    arriving = folder / ARRIVING
    before = [ProblemProfile.model_validate(read_record(p)) for p in sorted(folder.glob("*.json")) if p != arriving]
    before = [one for one in before if one.problems]
    if not before or not arriving.exists():
        return None
    new, known = ProblemProfile.model_validate(read_record(arriving)), together(before)
    return (new, known, distances(new, known)) if new.problems else None


def decided(folder: Path, identity: str) -> None:
    """Those that have arrived count among those before from now on."""
    if (folder / ARRIVING).exists():
        (folder / ARRIVING).replace(folder / f"{short(identity)}.json")


@paced_flow("distill", title)
def train_challenger(recipe: Recipe, gate: Gate) -> RunSummary:
    """The flow distill for a retraining.

    Raises:
        Postponed: the gate's.
    """
    claim()
    permit(recipe=recipe)
    return train_arms(Pipeline(open_run(recipe)), gate.check)
