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
from typing import Any

from paced.stage import exclusive
from paced.storage.artifacts import told_if_full

PARENT = "run"  # the journal of the parent run


class Journal:
    """Append-only notes of one tracked run: a flow run (label ``run``) or a stage."""

    _lock = threading.Lock()

    def __init__(self, folder: Path, label: str):
        self.label = label
        self.path = folder / "journal" / f"{label.replace('/', '.')}.jsonl"
        self._noted: set[tuple[str, int]] = set()
        self._size = 0  # of the file, when ``_noted`` was complete

    def entries(self) -> list[dict[str, Any]]:
        """All complete lines; one cut by a kill or a full disk is left out."""
        found: list[dict[str, Any]] = []
        for line in self.path.read_text().split("\n")[:-1] if self.path.exists() else ():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def current(self) -> list[dict[str, Any]]:
        """The entries since the last beginning: those of the identity that the run has now."""
        entries = self.entries()
        return entries[max((i for i, e in enumerate(entries) if e["kind"] == "begin"), default=0) :]

    def _append(self, *entries: dict[str, Any]) -> None:
        now = int(time.time() * 1000)
        with Journal._lock, told_if_full(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                if file.tell() and not self._ends_whole(file):
                    file.write(b"\n")
                file.write("".join(json.dumps({"label": self.label, "time": now} | e) + "\n" for e in entries).encode())

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(self.path.with_suffix(".lock"))  # the same recipe may be running twice

    @staticmethod
    def _ends_whole(file: Any) -> bool:
        file.seek(-1, 2)
        return file.read(1) == b"\n"

    def has(self, kind: str) -> bool:
        return any(e["kind"] == kind for e in self.entries())

    def finished(self) -> bool:
        """Whether the last end noted was a good one, and of what the run is now."""
        ends = [e["status"] for e in self.current() if e["kind"] == "end"]
        return bool(ends) and ends[-1] == "FINISHED"

    def begin(self, tags: Mapping[str, str], params: Mapping[str, Any], identity: str = "") -> bool:
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
            self._append({"kind": "begin", "identity": identity, "tags": dict(tags), "params": told})
            return True

    def tags(self, values: Mapping[str, str]) -> None:
        """Note tags that are known only later."""
        self._append({"kind": "tags", "tags": dict(values)})

    def note(self, text: str, compare: Sequence[str] = ()) -> None:
        """Note the run's description, Markdown; a link to the comparison of the runs of these labels is added."""
        self._append({"kind": "note", "text": text, "compare": list(compare)})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Note values at a step; a value already noted (a resumed stage repeats some) is not noted again."""
        with self._alone():
            size = self.path.stat().st_size if self.path.exists() else 0
            if size != self._size:
                self._noted = {(k, e["step"]) for e in self.current() if e["kind"] == "metrics" for k in e["values"]}
            new = {k: v for k, v in values.items() if (k, step) not in self._noted}
            if new:
                self._noted |= {(k, step) for k in new}
                self._append({"kind": "metrics", "step": step, "values": new})
            self._size = self.path.stat().st_size if self.path.exists() else 0

    def input(self, name: str, identity: str, source: str, context: str) -> None:
        self._append({"kind": "input", "name": name, "identity": identity, "source": source, "context": context})

    def file(self, path: Path, folder: str = "") -> None:
        """Note a file or a folder to be kept as an artifact."""
        self._append({"kind": "file", "path": str(path), "folder": folder})

    def model(
        self, path: Path, name: str, tags: Mapping[str, str], description: str, sampling: Mapping[str, float]
    ) -> None:
        """Note a model folder to be registered under ``name``; ``sampling`` is what it was judged with."""
        entry = {"kind": "model", "path": str(path), "name": name, "tags": dict(tags), "sampling": dict(sampling)}
        self._append(entry | {"description": description})

    def end(self, status: str) -> None:
        self._append({"kind": "end", "status": status})


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings and lists as dotted keys; items of a list are named by their ``name``, if they have one."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and any(isinstance(x, Mapping) for x in value):
            named = {str(x.get("name", i)): {k: v for k, v in x.items() if k != "name"} for i, x in enumerate(value)}
            yield from flat(named, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
