"""The draw of one token per row from weights and uniform numbers, by the inverse of the cumulative distribution.

Shapes: N = groups of tokens, K = tokens of a group.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 64
"""Vocabulary entries of a group in the two-level search of `draw`."""


def draw(weights_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """Return one token per row, drawn with probability proportional to its weight: int64 [B].

    The search has two levels, the group of tokens and the token in it, so that float64 sums run over V / 64 + 64
    numbers instead of V.  What remains of u x total inside a group is scaled to the float64 sum of the group's tokens,
    so that rounding hides no token.

    weights [0, 1, 0, 3], u = 0.2 -> 1;  u = 0.25 -> 3;  tokens 0 and 2 are never drawn

    Args:
        weights_BV: non-negative float32 with a positive sum in each row.
        uniforms_B: float64 in [0, 1).
    """
    rows, vocabulary = weights_BV.shape
    if vocabulary % GROUP:
        weights_BV = F.pad(weights_BV, (0, -vocabulary % GROUP))
    groups_BNK = weights_BV.view(rows, -1, GROUP)
    sums_BN = groups_BNK.sum(2)
    group_B1, left_B1 = _search(sums_BN, uniforms_B[:, None], torch.ones_like(sums_BN[:, :1]))
    inside_BK = groups_BNK[torch.arange(rows, device=sums_BN.device), group_B1[:, 0]]
    token_B1, _ = _search(inside_BK, left_B1, sums_BN.gather(1, group_B1))
    return (group_B1 * GROUP + token_B1)[:, 0]


def _search(weights_BN: Tensor, target_B1: Tensor, scale_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first n whose cumulative weight exceeds the target, and the target minus the sum before n.

    The target is given on a scale on which the whole row weighs `scale`.  A zero weight is never chosen, because its
    cumulative sum is that of the weight before it.
    """
    sums_BN = weights_BN.double().cumsum(1)
    total_B1 = sums_BN[:, -1:]
    # Rounding may carry the target up to the total itself, which no sum exceeds.
    last_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
    target_B1 = torch.minimum(target_B1 * (total_B1 / scale_B1.double()), last_B1)
    index_B1 = torch.searchsorted(sums_BN, target_B1, right=True)
    before_B1 = sums_BN.gather(1, index_B1) - weights_BN.gather(1, index_B1).double()
    return index_B1, (target_B1 - before_B1).clamp(min=0)
