"""What the documents show of measurements: the table of ratios, and what the demo prints.

    python -m benchmarks.table [docs/performance.md docs/results.md]

prints both; with files, puts each between its marks in them. Ratios come from the JSON files that the benchmarks write
(``make bench`` measures everything anew first), the demo's tables from ``demo.json``, the summary of such a run.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import spread
from paced import report

HERE = Path(__file__).parent
HEAD = "| what, against what | ratio | repeats | aim |\n|---|---:|---:|---:|\n"


def read(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text())


def row(what: str, ratio: dict[str, float], repeats: int, least: float | None = None, most: float | None = None) -> str:
    """A line of the table; the aim is between ``least`` and ``most``, and a median outside is marked."""
    digits = 2 if ratio["median"] > 0.1 else 4
    between = f" ({ratio['low']:.{digits}f} to {ratio['high']:.{digits}f})" if repeats > 1 else ""
    aim = f"{least:g} to {most:g}" if least and most else f"≥ {least:g}" if least else f"≤ {most:.3g}" if most else ""
    missed = (least or 0) > ratio["median"] or ratio["median"] > (most or ratio["median"])
    return f"| {what} | {ratio['median']:.{digits}f}{between} | {repeats} | {aim}{', missed' * missed} |\n"


def rows() -> Iterator[str]:
    """Medians over the repeats, and their range."""
    for shape, result in read("loss_head")["results"].items():
        repeats = min(map(len, result["measured"].values()))
        for name, ratios in result["ratios"].items():
            what = f"loss head, {shape}, {name}"
            yield row(f"{what}: time", ratios["time"], repeats, most=ratios["time_bar"])
            if "memory" in ratios:
                yield row(f"{what}: memory", ratios["memory"], repeats, most=ratios["memory_bar"])
    step = read("training_step")
    repeats = min(map(len, step["measured"].values()))
    for name, ratios in step["ratios"].items():
        what = f"training step, {name}"
        yield row(f"{what}: tokens a second", ratios["tokens_per_second"], repeats, least=ratios["bar"])
        yield row(f"{what}: memory", ratios["memory"], repeats, most=ratios["memory_bar"])
    for text, result in read("cache")["results"].items():
        for pair in filter(None, result["at equal error"]):  # no floor is as good as some reference
            ratio = {"median": pair["ratio of bytes"]}
            yield row(f"teacher targets, {text}, to {pair['reference']['encoding']}: bytes", ratio, 1, most=1 / 3)
    for name, result in read("sampling")["results"].items():
        values = result["ratios"]
        name = f"sampling with vLLM, {name}, to model.generate: tokens a second"
        yield row(name, spread(values) | {"median": result["ratio"]}, len(values), least=3)
    values = read("sampler")["ratios"]["per_processor_second"]
    yield row("transformers engine, to model.generate: tokens a second", spread(values), len(values), least=2)
    for name, result in read("capture")["results"].items():
        for what, field, unit in (
            ("storing targets, of the teacher's pass", "capture", "overhead"),
            ("reading them, of a step", "wait", "share"),
        ):
            found = result[field]
            yield row(f"{name}, {what}: share of time", found[unit], len(found["seconds"]), most=found["bar"])
    for name, ratios in read("growth")["ratios"].items():
        yield row(f"growth, {name}: time", ratios["processor_seconds"], ratios["repeats"], 9, 11)
        yield row(f"growth, {name}: memory", ratios["peak_memory"], ratios["repeats"], most=1.1)


def table() -> str:
    return HEAD + "".join(rows())


def demo() -> str:
    """What ``paced demo`` printed at its end, as a block of text."""
    return f"```text\n{report.table(read('demo'))}\n```\n"


BLOCKS: dict[str, Callable[[], str]] = {"benchmarks": table, "results": demo}  # by the name in their marks


def placed(page: str) -> str:
    """A page with each block between its marks, if it has them."""
    for name, block in BLOCKS.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        if begin in page:
            before, _, rest = page.partition(begin)
            page = before + begin + "\n" + block() + "\n" + end + rest.partition(end)[2]
    return page


def main() -> None:
    if len(sys.argv) == 1:
        print(*(block() for block in BLOCKS.values()), sep="\n", end="")
    for page in map(Path, sys.argv[1:]):
        page.write_text(placed(page.read_text()))


if __name__ == "__main__":
    main()
