"""The loss over the partition {each stored id, everything else}, from sparse teacher targets (method section 6).

Shapes: C positions at once, V ids the tokenizer knows, K stored teacher entries (padded).
"""

import torch
from torch import Tensor

from paced.losses.divergences import Loss

FAINT = 1e-20  # what is left of a sum of exponentials without its largest: fp32 has few digits for its terms


def bucketed(
    loss: Loss, logits: Tensor, ids: Tensor, logprobs: Tensor, tail_logprob: Tensor, floor: float = 1.0
) -> Tensor:
    """The loss over the partition {each stored id, everything else} (method section 6), from sparse targets.

    log q_tail is a log-sum-exp over the complement of S. Of the forward, reverse or Jensen-Shannon divergence it is
    the true one of a coarser partition: never negative, at most the exact one, equal to it when S is the vocabulary.
    The gradient in the tail's one logit is spread over its ids in proportion to q; for forward KL that is
    q_j - p_j inside S and q_j (1 - p_tail / q_tail) outside.

    It is the least loss of all teachers that have these entries and this mass outside: of the one whose tail is the
    student's, times p_tail / q_tail. That may give an id more than ``floor``, which the teacher does not. Such ids join
    S with the probability ``floor`` and the tail loses as much: the least loss of all teachers that give them no more,
    so a closer bound of the exact one.

    Args:
        logits: student, [C, V]; overwritten with the gradient.
        ids: stored ids, [C, K]; a row with fewer entries repeats its first id with log-probability -inf.
        logprobs: log p of the ids, [C, K]; with ``tail_logprob`` they sum to 1.
        tail_logprob: log of the mass outside S, [C]; -inf when S is everything.
        floor: the teacher gives no id outside S more.

    Returns:
        values, [C].
    """
    lowest, missing = torch.finfo(logits.dtype).min, logprobs == -torch.inf
    u = logits.gather(-1, ids).masked_fill_(missing, -torch.inf)
    logits.scatter_(-1, ids, -torch.inf)
    top = logits.amax(-1, keepdim=True).clamp_min_(lowest)  # -inf if S is everything
    rest = (logits - top).exp_()
    if floor < 1:
        ids, u, logprobs, tail_logprob = _held(logits, rest, top, ids, u, logprobs, tail_logprob, floor)
        missing = logprobs == -torch.inf
    total = rest.sum(-1, keepdim=True)
    # Not a difference of two log-sum-exps of the logits: that loses the digits of how far the logits lie from 0.
    peak = torch.maximum(u.amax(-1, keepdim=True), top)
    log_q = torch.cat([u - peak, top - peak + total.log()], -1).log_softmax(-1)
    # An outcome without mass has the lowest number for -inf: its exponential is 0, and 0 times it is 0.
    log_p = torch.cat([logprobs, tail_logprob[:, None]], -1)
    value, gradient = loss(log_q.clamp_min_(lowest), log_p.clamp_min_(lowest))
    torch.mul(rest, gradient[:, -1:] / total.where(total > 0, 1), out=logits)  # 0 if S is everything
    logits.scatter_(-1, ids, gradient[:, :-1].where(~missing, gradient[:, :1]))
    return value


def _held(
    logits: Tensor, rest: Tensor, top: Tensor, ids: Tensor, u: Tensor, log_p: Tensor, tail: Tensor, floor: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Entries and tail with the ids that would get more of its mass than ``floor``, held there.

    Args:
        logits: the student's outside S, -inf inside, [C, V]; what is held becomes -inf.
        rest: exponentials of the logits less ``top`` [C, 1]; both become those of what is left.
        ids, u, log_p: entries, the student's logits and the teacher's log-probabilities, [C, K].
        tail: log of the teacher's mass outside S, [C].
    """
    mass, outside = tail.exp(), rest.shape[-1] - (log_p > -torch.inf).sum(-1)
    # Half of the ids outside S stay in the tail, whatever rounding did to its mass.
    most = (2 * mass / outside.clamp_min(1)).clamp_min(floor)
    rows, columns = (rest > (most / mass * rest.sum(-1))[:, None]).nonzero(as_tuple=True)

    count = torch.bincount(rows, minlength=len(rest))
    slots = torch.arange(len(rows), device=rows.device) - (count.cumsum(0) - count)[rows]
    wide = len(rest), int(slots.max()) + 1 if len(slots) else 0
    more = [ids[:, :1].repeat(1, wide[1]), u.new_full(wide, -torch.inf), u.new_full(wide, -torch.inf)]
    for padded, numbers in zip(more, (columns, logits[rows, columns], most.log()[rows]), strict=True):
        padded[rows, slots] = numbers
    ids, u, log_p = (torch.cat(pair, -1) for pair in zip((ids, u, log_p), more, strict=True))
    share = (count * most / mass).nan_to_num_().clamp_max_(1 - torch.finfo(u.dtype).eps)

    logits[rows, columns], rest[rows, columns] = -torch.inf, 0
    faint = (count > 0) & (rest.sum(-1) < FAINT)  # held ids were so far above the others
    left = logits[faint]
    top[faint] = left.amax(-1, keepdim=True)
    rest[faint] = left.sub_(top[faint]).exp_()
    return ids, u, log_p, tail + share.neg_().log1p_()
