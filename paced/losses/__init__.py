"""Losses: divergences, their sparse form, the output projection fused with them, stored teacher targets.

What belongs here knows tensors alone: no model, no file but packed targets, no weight of a problem.
"""

from paced.losses.divergences import Divergence, Loss, akl, exact, forward_kl, jsd, reverse_kl
from paced.losses.fused import BLOCK, GPU, Projection, TeacherLogits, chunk_rows, fused_loss
from paced.losses.named import LOSSES, named
from paced.losses.sparse import bucketed

__all__ = [
    "BLOCK", "GPU", "LOSSES", "Divergence", "Loss", "Projection", "TeacherLogits", "akl", "bucketed", "chunk_rows",
    "exact", "forward_kl", "fused_loss", "jsd", "named", "reverse_kl",
]  # fmt: skip
