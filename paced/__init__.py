"""PACED: pass-rate-weighted distillation of language models (arXiv 2603.11178).

What ``import paced`` offers to other programs stands below and in docs/python.md; type checkers read __init__.pyi. The
module of a name, and torch where it needs torch, is imported when the name is first used.
"""

from paced._lazy import lazily

__version__ = "0.1.0"

_OFFERED = {
    "paced.api.grading": ("Sample", "Verdict", "Verifier", "grade"),
    "paced.api.losses": ("PacedLoss", "Projection", "SparseTargets", "akl", "forward_kl", "jsd", "reverse_kl"),
    "paced.api.running": ("run",),
    "paced.api.targets": ("StoredTargets", "padded_targets", "stored_targets"),
    "paced.api.weights": ("weights",),
}
__all__ = [name for names in _OFFERED.values() for name in names]  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__, __dir__ = lazily(globals(), _OFFERED)
