"""The tables of a diagnosis, for the terminal, the page of a run and Prefect's."""

from collections.abc import Mapping, Sequence
from typing import Any

Table = tuple[str, list[str], Sequence[list[str]]]  # caption, heading, rows


def tables(found: Mapping[str, Any]) -> list[Table]:
    """SNR by pass rate, the fitted exponents and the efficiencies; ``found`` is diagnosis.json."""
    snr = [[f"{b['pass_rate']:.3f}", str(b["problems"]), f"{b['snr']:.3f}", range_of(b, 3)] for b in found["bins"]]
    efficiency = [
        [name.replace("_", " "), f"{100 * e['mean']:.1f}", range_of(e, 1, 100)]
        for name, e in found["efficiency"].items()
    ]
    return [
        (f"signal-to-noise ratio of a problem's gradient ({found['objective']} KL)",
         ["pass rate", "problems", "SNR", "95%"], snr),
        ("Beta kernel fitted to it, over pass rates between 0 and 1", ["exponent", "value", "95%"], exponents(found)),
        ("efficiency of weightings, % of the best", ["weighting", "efficiency", "95%"], efficiency),
    ]  # fmt: skip


def exponents(found: Mapping[str, Any]) -> list[list[str]]:
    if not found["fit"]:
        return [["-", "too few pass rates", ""]]
    return [[n, f"{found['fit'][n]['mean']:.2f}", range_of(found["fit"][n], 2)] for n in ("alpha", "beta")]


def range_of(row: Mapping[str, float], digits: int, scale: float = 1.0) -> str:
    return f"{scale * row['low']:.{digits}f} to {scale * row['high']:.{digits}f}"
