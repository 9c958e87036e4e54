"""What a measurement was made on."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, the load of the last minute, and Python's version."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": " ".join([platform.machine(), *names[:1]]), "cores": os.cpu_count(),
        "load": os.getloadavg()[0], "python": platform.python_version(),
    }  # fmt: skip


def versions(*names: str) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_settings(out: Path, recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """End in one line where ``out`` holds measurements of other settings, which no median should be formed with."""
    for name, value in given.items():
        if recorded.get(name, value) != value:
            raise SystemExit(
                f"error: {out} was measured with {name} {recorded[name]}, not {value}: give the same {name}, name "
                "another file, or remove this one"
            )


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range of what was measured several times; nothing of nothing."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)} if values else {}


def ratios(measured: Mapping[str, Sequence[Mapping[str, Any]]], a: str, b: str, field: str) -> dict[str, float]:
    """Of side ``a`` to side ``b``, repeat by repeat."""
    return spread([x[field] / y[field] for x, y in zip(measured.get(a, []), measured.get(b, []), strict=False)])
