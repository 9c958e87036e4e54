"""``paced grade``: pairs of response and gold answer from a file, verdicts to a file, a summary for a person."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from paced.config.base import JsonObject
from paced.data.containers import json_object
from paced.errors import DataError
from paced.verify import Sample, Text, Verdict, Verifier, read, spoken

_BATCH = 512  # pairs that are held in memory and graded together
_LABELS = ("correct", "wrong")


class Pair(NamedTuple):
    """One line of the file; ``row`` is the line as it was."""

    line: int
    row: JsonObject
    sample: Sample


def pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a JSONL file: ``response`` and ``gold``; optional ``question``, ``finish``, ``label``, ``category``.

    Raises:
        DataError: a line is no such pair; names it.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _pair(line, number, f"{path}:{number}")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: convert it to JSONL in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _pair(line: str, number: int, where: str) -> Pair:
    row = json_object(line, where, "a response and a gold answer")
    for name in ("response", "gold"):
        if name not in row:
            raise DataError(f"{where}: field '{name}' is missing (it has: {', '.join(row) or 'nothing'})")
    for name in ("response", "gold", "question", "finish"):
        value = row.get(name)
        if not isinstance(value, str) and not (name == "gold" and type(value) in (int, float)) and value is not None:
            raise DataError(f"{where}: field '{name}' must be text, got {type(value).__name__}")
    if row["response"] is None or row["gold"] is None:
        raise DataError(f"{where}: response and gold must not be null")
    if row.get("label") not in (None, *_LABELS):
        raise DataError(f"{where}: label must be 'correct' or 'wrong', got {row['label']!r}")
    if row.get("finish") not in (None, "stop", "length", "error"):
        raise DataError(f"{where}: finish must be 'stop', 'length' or 'error', got {row['finish']!r}")
    sample = Sample("", row["response"], str(row["gold"]), row.get("question") or "", row.get("finish") or "")
    return Pair(number, row, sample)


class Tally:
    """Counts for the summary; with labels also accuracy, false accepts and false rejects, whole and by category."""

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        self.labelled: Counter[tuple[str, str, str]] = Counter()
        self.workers = 0
        self.longest = 0.0
        self.began = time.monotonic()

    def add(self, pair: Pair, verdict: Verdict) -> None:
        self.verdicts[verdict.outcome] += 1
        self.workers += verdict.worker
        self.longest = max(self.longest, verdict.seconds)
        if label := pair.row.get("label"):
            self.labelled[str(pair.row.get("category") or ""), str(label), verdict.outcome] += 1

    def summary(self) -> str:
        total = sum(self.verdicts.values())
        counts = ", ".join(f"{self.verdicts[v]} {v}" for v in ("correct", "wrong", "unknown"))
        lines = [
            f"{total} pairs: {counts}; {time.monotonic() - self.began:.1f} s, {self.workers} by worker processes, "
            f"slowest {self.longest:.2f} s"
        ]
        if self.labelled:
            lines.append(self._accuracy("all", {c for c, _, _ in self.labelled}))
            categories = sorted({c for c, _, _ in self.labelled if c})
            lines += [self._accuracy(f"  {c}", {c}) for c in categories]
        return "\n".join(lines)

    def _accuracy(self, name: str, categories: set[str]) -> str:
        def count(label: str, *outcomes: str) -> int:
            return sum(self.labelled[c, label, o] for c in categories for o in outcomes)

        every = ("correct", "wrong", "unknown")
        total = count("correct", *every) + count("wrong", *every)
        right = count("correct", "correct") + count("wrong", "wrong")
        accepted, rejected = count("wrong", "correct"), count("correct", "wrong", "unknown")
        return (
            f"{name:<28} {total:>6} labelled  accuracy {100 * right / total:6.2f}%  "
            f"false accepts {accepted} ({100 * accepted / max(1, count('wrong', *every)):.2f}% of wrong)  "
            f"false rejects {rejected} ({100 * rejected / max(1, count('correct', *every)):.2f}% of correct)"
        )


def explain(pair: Pair, verdict: Verdict) -> str:
    """How a verdict came about, for a person."""
    shown = "none" if verdict.extracted is None else _short(verdict.extracted)
    lines = [f"line {pair.line}: {verdict.outcome}"]
    lines.append(f"  extracted  {shown}" + (f"   (from {verdict.where})" if verdict.where else ""))
    lines.append(f"  gold       {_short(pair.sample.gold)}")
    sides = [("the answer", verdict.extracted or ""), ("the gold answer", pair.sample.gold)]
    if verdict.extracted is not None:
        lines.append(f"  compared   {_reading(verdict.extracted)}   with   {_reading(pair.sample.gold)}")
        unread = [name for name, text in sides if isinstance(read(text), Text)]
        if unread:
            lines.append(
                f"  not read   {' and '.join(unread)}: no mathematics that is known, so the words were compared"
            )
    by = "a worker process" if verdict.worker else "the cheap rules"
    lines.append(f"  decided    {verdict.reason}   (by {by}, {verdict.seconds:.3f} s)")
    return "\n".join(lines)


def _reading(text: str) -> str:
    return _short(spoken(read(text)))


def _short(text: str, limit: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def grade_file(source: Path, out: Path, explained: TextIO | None = None) -> str:
    """Grade every pair of ``source`` into ``out``, one line a pair in order; returns the summary.

    Fields that the file has beside the pair (an id, say) are passed on.

    Raises:
        DataError: a line of the file is no pair, or a file cannot be read or written.
        VerifierError: worker processes cannot start.
    """
    tally = Tally()
    temporary = out.with_name(out.name + ".part")
    try:
        with Verifier() as verifier, temporary.open("w", encoding="utf-8") as file:
            for batch in _batches(pairs(source)):
                for pair, verdict in zip(batch, verifier.grade([p.sample for p in batch]), strict=True):
                    tally.add(pair, verdict)
                    file.write(json.dumps(_line(pair, verdict), ensure_ascii=True) + "\n")
                    if explained:
                        print(explain(pair, verdict), file=explained)
        temporary.replace(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return tally.summary()


def _batches(found: Iterator[Pair]) -> Iterator[list[Pair]]:
    batch: list[Pair] = []
    for pair in found:
        batch.append(pair)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _line(pair: Pair, verdict: Verdict) -> JsonObject:
    kept = {k: v for k, v in pair.row.items() if k not in ("response", "gold", "question", "finish")}
    return kept | {
        "line": pair.line,
        "verdict": verdict.outcome,
        "extracted": verdict.extracted,
        "seconds": round(verdict.seconds, 4),
        "reason": verdict.reason,
    }
