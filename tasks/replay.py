"""Has MLflow know how runs have ended: ``paced mlflow-replay`` of one run, and all that a home has left open.

``python -m paced_tasks.replay`` does the latter; a worker calls it when a flow run's process has died.
"""

from pathlib import Path

from paced.config import home as own_home
from paced_tasks import ends
from paced_tasks.journal import Journal, labels
from paced_tasks.tracking import Tracker


def send(tracker: Tracker) -> bool:
    """Send all journals of a run; returns whether MLflow has all of them, but for what was deleted there."""
    for label in labels(tracker.folder):
        if not tracker.flush(label, wait=True) and not tracker.lost:
            return False
    ends.told(tracker.folder)
    return True


def replay(folder: Path, home: Path) -> tuple[int, int]:
    """Send every journal of a run, closed if nobody works on it; returns (journals complete, journals).

    What was deleted in MLflow is brought back. A journal is complete when MLflow shows the end that was noted.
    """
    tracker = Tracker(folder, home, folder.name)
    ends.close(folder, "KILLED", ends.GONE)
    if not tracker.restore():
        return 0, len(labels(folder))
    sent = [label for label in labels(folder) if tracker.flush(label, wait=True)]
    complete = [label for label in sent if (status := Journal(folder, label).ended()) and tracker.shows(label, status)]
    if len(complete) == len(labels(folder)):
        ends.told(folder)
    return len(complete), len(labels(folder))


def settle(home: Path) -> dict[str, bool]:
    """Close the runs whose process is gone; returns of which of them MLflow knows all."""
    found: dict[str, bool] = {}
    for folder in ends.left(home):
        if ends.close(folder, "KILLED", ends.GONE):
            found[folder.name] = send(Tracker(folder, home, folder.name))
    return found


if __name__ == "__main__":
    for name, known in settle(own_home()).items():
        print(f"run {name}: MLflow {'knows how it ended' if known else 'is not there to be told how it ended'}")
