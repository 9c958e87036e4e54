"""PACED: pass-rate-weighted distillation of language models (arXiv 2603.11178).

What ``import paced`` offers to other programs is listed in ``__all__`` and described in docs/python.md. The module of a
name, and torch where it needs torch, is imported when the name is first used.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "PacedLoss",
    "Projection",
    "Sample",
    "SparseTargets",
    "StoredTargets",
    "Verdict",
    "Verifier",
    "akl",
    "forward_kl",
    "grade",
    "jsd",
    "padded_targets",
    "reverse_kl",
    "run",
    "stored_targets",
    "weights",
]

if TYPE_CHECKING:
    from paced.api.grading import Sample, Verdict, Verifier, grade
    from paced.api.losses import PacedLoss, Projection, SparseTargets, akl, forward_kl, jsd, reverse_kl
    from paced.api.running import run
    from paced.api.targets import StoredTargets, padded_targets, stored_targets
    from paced.api.weights import weights
else:
    _MODULES = {
        "grading": ("Sample", "Verdict", "Verifier", "grade"),
        "losses": ("PacedLoss", "Projection", "SparseTargets", "akl", "forward_kl", "jsd", "reverse_kl"),
        "running": ("run",),
        "targets": ("StoredTargets", "padded_targets", "stored_targets"),
        "weights": ("weights",),
    }

    def __getattr__(name):
        import importlib  # only who uses the interface pays for it

        for module, names in _MODULES.items():
            if name in names:
                value = getattr(importlib.import_module(f"paced.api.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module 'paced' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
