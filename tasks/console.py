"""What a run says in the terminal: a live line a running stage, one plain line for each that is done."""

import contextlib
import threading
import time

from prefect import get_run_logger
from prefect.exceptions import MissingContextError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from paced.errors import visible
from paced.events import ProgressEvent, StageEvent

EVERY = 15.0  # seconds between progress lines of one stage where there is no terminal


def span(seconds: float | None) -> str:
    """A duration for people: 7 s, 3 min 05 s, 2 h 10 min."""
    if seconds is None:
        return "?"
    s = round(seconds)
    return (
        f"{s} s"
        if s < 60
        else f"{s // 60} min {s % 60:02d} s"
        if s < 3600
        else f"{s // 3600} h {s % 3600 // 60:02d} min"
    )


def progress_line(event: ProgressEvent) -> str:
    """done/total, rate, time left."""
    rate = f", {event['rate']:.3g}/s" if event["rate"] else ""
    return f"{event['what']} {event['done']}/{event['total']}{rate}, {span(event['left'])} left"


class Display:
    """Thread-safe; quiet until ``start`` is called, so that a worker's log is not drawn over."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._lines: dict[str, TaskID] = {}
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()
        self._on = False

    def start(self) -> None:
        self._on = True
        if self._console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(20),
                TextColumn("{task.fields[text]}"),
            )
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.start()

    def stop(self) -> None:
        if self._progress:
            self._progress.stop()
        self._progress, self._on = None, False

    def say(self, text: str) -> None:
        if self._on:
            (self._progress.console if self._progress else self._console).print(visible(text), markup=False)

    def event(self, label: str, event: StageEvent) -> None:
        """One event of a running stage."""
        if not self._on:
            return
        if event["event"] == "log":
            self.say(f"  {label}: {event['message']}")
        elif event["event"] == "warning":
            self.say(f"  {label}: warning: {event['message']}")
        elif event["event"] == "progress":
            with self._lock:
                if self._progress:
                    if label not in self._lines:
                        self._lines[label] = self._progress.add_task(label, text="")
                    self._progress.update(
                        self._lines[label],
                        total=max(1, event["total"]),
                        completed=event["done"],
                        text=progress_line(event),
                    )
                elif time.monotonic() - self._last.setdefault(label, time.monotonic()) > EVERY:
                    self._last[label] = time.monotonic()
                    self.say(f"  {label}: {progress_line(event)}")

    def done(self, label: str, text: str) -> None:
        with self._lock:
            if self._progress and label in self._lines:
                self._progress.remove_task(self._lines.pop(label))
        self.say(f"{label}: {text}")


display = Display()


def tell(text: str) -> None:
    """Say something in the terminal and in the log on the run's page."""
    display.say(text)
    with contextlib.suppress(MissingContextError):  # there is no such page outside of flow runs
        get_run_logger().info("%s", text)
