"""What a run wants tracked, written down first: one JSON-lines file a tracked run, in the run's own folder.

Tracking never stops training. Whatever is to reach MLflow is appended here at once and sent when the server answers;
a journal is sent from where it stopped, so replaying one twice changes nothing.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NotRequired, TypedDict, cast

from paced.errors import one_line
from paced.stage import exclusive
from paced.storage.files import entry_of, lost_lines, make_folder, sealed, told_if_full
from paced.storage.runs import from_home

PARENT = "run"  # the journal of the parent run


class Stamp(TypedDict):
    """Whose journal an entry is of, and when it was noted, in ms since 1970."""

    label: str
    time: int


class Begin(Stamp):
    """What a run is made from; it begins anew when its identity changes."""

    kind: Literal["begin"]
    identity: str
    tags: dict[str, str]
    params: dict[str, str]


class Tags(Stamp):
    """Tags that are known only later."""

    kind: Literal["tags"]
    tags: dict[str, str]


class Note(Stamp):
    """The run's description in Markdown, and the labels of the runs to compare."""

    kind: Literal["note"]
    text: str
    compare: list[str]


class Metrics(Stamp):
    """Values at a step."""

    kind: Literal["metrics"]
    step: int
    values: dict[str, float]


class Input(Stamp):
    """A data set that the run has read."""

    kind: Literal["input"]
    name: str
    identity: str
    source: str
    context: str
    about: NotRequired[Mapping[str, Any]]  # its schema and profile; in no journal of the first release


class KeptFile(Stamp):
    """A file or a folder to be kept as an artifact."""

    kind: Literal["file"]
    path: str
    folder: str


class Registration(Stamp):
    """A model folder to be registered, and what it was judged with."""

    kind: Literal["model"]
    path: str
    name: str
    tags: dict[str, str]
    description: NotRequired[str]  # neither is in a journal of the first release
    sampling: NotRequired[dict[str, float]]


class End(Stamp):
    """How the run ended, in MLflow's words, and why, if not well."""

    kind: Literal["end"]
    status: str
    reason: NotRequired[str]


class Resume(Stamp):
    """That a run which did not end well is worked on again."""

    kind: Literal["resume"]


class Lost(Stamp):
    """That a line is damaged, by its number."""

    kind: Literal["lost"]
    line: int


class Damaged(TypedDict):
    """What stands for a line that is not what was written; it is in no journal."""

    kind: Literal["damaged"]


Entry = Begin | Tags | Note | Metrics | Input | KeptFile | Registration | End | Resume | Lost | Damaged


class Journal:
    """Append-only notes of one tracked run: a flow run (label ``run``) or a stage."""

    _lock = threading.Lock()

    def __init__(self, folder: Path, label: str):
        self.label, self._home = label, folder.parent.parent
        self.path = folder / "journal" / f"{label.replace('/', '.')}.jsonl"
        self._noted: set[tuple[str, int]] = set()
        self._size = 0  # of the file, when ``_noted`` was complete

    def entries(self) -> list[Entry]:
        """All complete lines; one that is not what was written, by damage or a kill, is of kind ``damaged``."""
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        return cast(list[Entry], [entry_of(line) for line in lines])

    def mend(self) -> None:
        """Note which lines are lost: the journal is unfinished then, until what they said is noted again."""
        with self._alone():
            for number in lost_lines(self.entries()):
                self._append(Lost(**self._stamp(), kind="lost", line=number))

    def current(self) -> list[Entry]:
        """The entries since the last beginning: those of the identity that the run has now."""
        entries = self.entries()
        return entries[max((i for i, e in enumerate(entries) if e["kind"] == "begin"), default=0) :]

    def _stamp(self) -> Stamp:
        return Stamp(label=self.label, time=int(time.time() * 1000))

    def _append(self, entry: Entry) -> None:
        with Journal._lock, told_if_full(self.path):
            make_folder(self.path.parent)
            with self.path.open("a+b") as file:
                if file.tell() and not self._ends_whole(file):
                    file.write(b"\n")
                file.write(f"{json.dumps(sealed(entry))}\n".encode())

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(self.path.with_suffix(".lock"))  # the same recipe may be running twice

    @staticmethod
    def _ends_whole(file: BinaryIO) -> bool:
        file.seek(-1, 2)
        return file.read(1) == b"\n"

    def has(self, kind: str) -> bool:
        return any(e["kind"] == kind for e in self.entries())

    def finished(self) -> bool:
        """Whether the last end noted was a good one, and of what the run is now, and nothing was lost since."""
        ends = [e["status"] if e["kind"] == "end" else "" for e in self.current() if e["kind"] in ("end", "lost")]
        return ends[-1:] == ["FINISHED"]

    def begin(self, tags: Mapping[str, str], params: Mapping[str, object], identity: str = "") -> bool:
        """Note the run's tags and parameters, once an identity: of another, every figure is to be noted anew.

        Args:
            identity: of what the figures come from; a name stays when a data or model file is replaced.

        Returns:
            whether they were noted now.
        """
        with self._alone():
            begun = [e.get("identity") for e in self.entries() if e["kind"] == "begin"]
            if begun[-1:] == [identity]:
                return False
            told = {k: str(v)[:500] for k, v in flat(params) if v is not None}
            self._append(Begin(**self._stamp(), kind="begin", identity=identity, tags=dict(tags), params=told))
            return True

    def tags(self, values: Mapping[str, str]) -> None:
        """Note tags that are known only later."""
        self._append(Tags(**self._stamp(), kind="tags", tags=dict(values)))

    def note(self, text: str, compare: Sequence[str] = ()) -> None:
        """Note the run's description, Markdown; a link to the comparison of the runs of these labels is added."""
        self._append(Note(**self._stamp(), kind="note", text=text, compare=list(compare)))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Note values at a step; a value already noted (a resumed stage repeats some) is not noted again."""
        with self._alone():
            size = self.path.stat().st_size if self.path.exists() else 0
            if size != self._size:
                self._noted = {(k, e["step"]) for e in self.current() if e["kind"] == "metrics" for k in e["values"]}
            new = {k: v for k, v in values.items() if (k, step) not in self._noted}
            if new:
                self._noted |= {(k, step) for k in new}
                self._append(Metrics(**self._stamp(), kind="metrics", step=step, values=new))
            self._size = self.path.stat().st_size if self.path.exists() else 0

    def input(self, name: str, identity: str, source: str, context: str, about: Mapping[str, Any]) -> None:
        """Note a data set that the run has read; ``about`` holds its schema and profile."""
        told = {"name": name, "identity": identity, "source": source, "context": context}
        self._append(Input(**self._stamp(), kind="input", **told, about=about))

    def file(self, path: Path, folder: str = "") -> None:
        """Note a file or a folder to be kept as an artifact."""
        self._append(KeptFile(**self._stamp(), kind="file", path=from_home(path, self._home), folder=folder))

    def model(
        self, path: Path, name: str, tags: Mapping[str, str], description: str, sampling: Mapping[str, float]
    ) -> None:
        """Note a model folder to be registered under ``name``; ``sampling`` is what it was judged with."""
        entry = Registration(
            **self._stamp(),
            kind="model",
            path=from_home(path, self._home),
            name=name,
            tags=dict(tags),
            description=description,
            sampling=dict(sampling),
        )
        self._append(entry)

    def end(self, status: str, reason: str = "") -> None:
        """Note how the run ended: FINISHED, or FAILED or KILLED and the reason."""
        self._append(End(**self._stamp(), kind="end", status=status, reason=one_line(reason)[:500]))

    def ended(self) -> str:
        """The status of the last end, "" of a run that has not begun or has not ended since."""
        last = next((e for e in reversed(self.entries()) if e["kind"] in ("begin", "resume", "end")), None)
        return last["status"] if last and last["kind"] == "end" else ""

    def close(self, status: str, reason: str) -> None:
        """Note an end, unless there is one, or nothing has begun."""
        with self._alone():
            if self.has("begin") and not self.ended():
                self.end(status, reason)

    def resume(self) -> None:
        """Note that it is worked on again, if it did not end well."""
        with self._alone():
            if self.ended() not in ("", "FINISHED"):
                self._append(Resume(**self._stamp(), kind="resume"))


def labels(folder: Path) -> list[str]:
    """Of all journals of a run, its own first."""
    journals = [Journal(folder, path.stem).entries() for path in sorted((folder / "journal").glob("*.jsonl"))]
    found = [label for entries in journals if (label := next((e["label"] for e in entries if "label" in e), None))]
    return sorted(found, key=lambda label: label != PARENT)


def flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested mappings and lists as dotted keys; items of a list are named by their ``name``, if they have one."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and any(isinstance(x, Mapping) for x in value):
            named = {str(x.get("name", i)): {k: v for k, v in x.items() if k != "name"} for i, x in enumerate(value)}
            yield from flat(named, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
