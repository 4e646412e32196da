"""Key-value caches: single-query attention of many rows, each over its own past, at the speed of memory.

A decoding step reads every cached number once, for one multiplication, so the speed of memory is its limit.  Batched
matrix products with a single row reach a third of it on a CPU.  What reaches most of it is the weighted sum of rows of
a table, `torch.embedding_bag`, and attention is two of these:

    scores[t]  = sum over d of q[d] x keys[d, t]         a bag of D rows, one for each d, of T numbers
    mixed[d]   = sum over t of weight[t] x values[t, d]  a bag of T rows, one for each t, of D numbers

Shapes: B = rows, H = heads, P = B * H, D = numbers of a head, T = positions so far.
"""

from __future__ import annotations

import torch
from torch import Tensor

NARROW, WIDE = 16, 128
"""Positions of the newest block of keys and of the largest.  A table's row is read whole, so the newest block, which is
never full, must be narrow; wide rows are read faster."""
FIRST_POSITIONS = 256
"""Values have room for so many at first: a pretrained model's rows are mostly shorter than its n_positions."""


class Cache:
    """Keys and values of one layer."""

    def __init__(self, rows: int, heads: int, width: int, positions: int, device: torch.device) -> None:
        self.heads, self.width, self.device = heads, width, device
        self.pairs = rows * heads
        self.room = min(positions, FIRST_POSITIONS)
        self.now = 0
        self.keys: list[Tensor] = []
        self.values = torch.empty(self.pairs, self.room, width, device=device)
        self.every_row = torch.arange(self.pairs * width, dtype=torch.int32, device=device)
        self.every_width = torch.arange(0, self.pairs * width, width, dtype=torch.int32, device=device)

    def attend(self, qkv_B3C: Tensor) -> Tensor:
        """Append keys and values of a new position [B, 3 * H * D]; attention of its queries: [B, H * D]."""
        q_BHD, k_BHD, v_BHD = qkv_B3C.view(-1, 3, self.heads, self.width).unbind(1)
        self._append(k_BHD, v_BHD)
        queries = (q_BHD * self.width**-0.5).flatten()
        scores = [_bags(keys, self.every_row, self.every_width, queries) for keys in self.keys]
        scores_PT = (torch.cat(scores, 1) if len(scores) > 1 else scores[0])[:, : self.now]
        return self._mix(scores_PT.softmax(1)).view(len(qkv_B3C), -1)

    def _append(self, k_BHD: Tensor, v_BHD: Tensor) -> None:
        if self.now == self.room:
            self.values = torch.cat([self.values, torch.empty_like(self.values)], 1)
            self.room *= 2
        place = self.now % NARROW
        if place == 0:
            self._open_block()
        self.keys[-1].view(*k_BHD.shape, NARROW)[..., place] = k_BHD
        self.values.view(*v_BHD.shape[:2], self.room, -1)[:, :, self.now] = v_BHD
        self.now += 1

    def _open_block(self) -> None:
        """A new narrow block behind the full ones, of which two of one width become one of twice the width."""
        while len(self.keys) > 1 and self.keys[-1].shape[1] == self.keys[-2].shape[1] < WIDE:
            self.keys[-2:] = [torch.cat(self.keys[-2:], 1)]
        # Zeros, for the scores of positions to come are computed and left out.
        self.keys.append(torch.zeros(self.pairs * self.width, NARROW, device=self.device))

    def _mix(self, weights_PT: Tensor) -> Tensor:
        starts_P1 = torch.arange(0, self.pairs * self.room, self.room, dtype=torch.int32, device=self.device)[:, None]
        places_PT = starts_P1 + torch.arange(self.now, dtype=torch.int32, device=self.device)
        bags_P = torch.arange(0, self.pairs * self.now, self.now, dtype=torch.int32, device=self.device)
        return _bags(self.values.view(-1, self.width), places_PT.flatten(), bags_P, weights_PT.flatten())


def _bags(table_NK: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """For each bag, which ends where the next one starts, the weighted sum of the table's rows that it names."""
    return torch.embedding_bag(table_NK, rows, starts, False, 0, False, weights)[0]
