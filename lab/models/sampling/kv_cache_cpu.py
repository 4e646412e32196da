"""The KV cache of a GPT-2 on a CPU, and the decoder over it: one query per row and head, at the speed of memory.

A decoding step reads every cached number once, for one multiplication, so the speed of memory is its limit.  Batched
matrix products with a single query reach a third of it on a CPU.  `torch.embedding_bag`, the weighted sum of some
vectors of a table (a "bag"), reaches most of it, and attention is two of these:

    scores[t]  = sum over d of q[d] x keys[d, t]         a bag of D vectors, one for each d, of T numbers
    mixed[d]   = sum over t of weight[t] x values[t, d]  a bag of T vectors, one for each t, of D numbers

Sums are float32 within a bag, whatever the dtype of the numbers.

Shapes: P = pairs of a row and a head: B * H.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2LMHeadModel

from lab.models.sampling.gpt2_step import Gpt2Step

NARROW, WIDE = 16, 128
"""Positions in the newest table of keys, and in the widest.  A vector of a table is read whole, so the newest table,
which is never full, must be narrow; wide vectors are read faster."""
FIRST_POSITIONS = 256
"""Positions for which values have room at first: a pretrained model's rows are mostly shorter than its n_positions."""


class CpuDecoder:
    """B rows of a GPT-2 that grow together, one token at a time: see `lab.models.protocols.Decoder`."""

    def __init__(self, module: GPT2LMHeadModel, rows: int, *, dtype: torch.dtype, gelu: str) -> None:
        config, self.gpt2 = module.config, module.transformer
        self.layers = Gpt2Step(module, dtype, gelu)
        self.bags = _Bags(rows * config.n_head, config.n_embd // config.n_head, config.n_positions)
        self.caches = [_LayerCache(self.bags, config.n_head, dtype) for _ in self.gpt2.h]

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        x_BC = F.embedding(tokens_B, self.gpt2.wte.weight) + self.gpt2.wpe.weight[self.bags.positions]
        self.bags.advance()
        return self.layers.logits(x_BC, self.caches)

    @torch.inference_mode()
    def keep(self, rows_K: Tensor) -> None:
        heads = self.caches[0].heads
        pairs_P = (rows_K[:, None] * heads + torch.arange(heads)).flatten()
        for cache in self.caches:
            cache.keep(pairs_P)
        self.bags.resize(len(pairs_P))


class _Bags:
    """Which vectors of the tables are in each bag of a step: the same for all layers."""

    def __init__(self, pairs: int, width: int, limit: int) -> None:
        self.width, self.positions, self.room = width, 0, min(limit, FIRST_POSITIONS)
        self.resize(pairs)

    def resize(self, pairs: int) -> None:
        """Set the number of pairs of a row and a head."""
        self.pairs = pairs
        self.keys = _count(pairs * self.width)
        self.key_starts = _count(pairs) * self.width

    def advance(self) -> None:
        """Add a position."""
        if self.positions == self.room:
            self.room *= 2
        self.positions += 1
        self.values = (_count(self.pairs)[:, None] * self.room + _count(self.positions)).flatten()
        self.value_starts = _count(self.pairs) * self.positions


class _LayerCache:
    """Keys and values of one layer: see `lab.models.sampling.gpt2_step.LayerCache`."""

    def __init__(self, bags: _Bags, heads: int, dtype: torch.dtype) -> None:
        self.bags, self.heads, self.dtype = bags, heads, dtype
        self.keys: list[Tensor] = []
        self.values = torch.empty(bags.pairs, bags.room, bags.width, dtype=dtype)

    def attend(self, qkv_B3C: Tensor) -> Tensor:
        bags = self.bags
        q_BHD, k_BHD, v_BHD = qkv_B3C.view(-1, 3, self.heads, bags.width).unbind(1)
        self._append(k_BHD, v_BHD)
        queries = (q_BHD * bags.width**-0.5).flatten()
        scores = [_weighted_sums(keys, bags.keys, bags.key_starts, queries) for keys in self.keys]
        scores[-1] = scores[-1][:, : (bags.positions - 1) % NARROW + 1]
        weights = torch.cat(scores, 1).softmax(1).flatten()
        mixed_PD = _weighted_sums(self.values.view(-1, bags.width), bags.values, bags.value_starts, weights)
        return mixed_PD.view(len(qkv_B3C), -1)

    def keep(self, pairs_P: Tensor) -> None:
        """Drop all pairs except these, in this order."""
        width = self.bags.width
        self.values = self.values[pairs_P]
        self.keys = [keys.view(-1, width, keys.shape[1])[pairs_P].flatten(0, 1) for keys in self.keys]

    def _append(self, k_BHD: Tensor, v_BHD: Tensor) -> None:
        """Write the keys and values of the newest position."""
        bags, newest = self.bags, self.bags.positions - 1
        if bags.room > self.values.shape[1]:
            self.values = torch.cat([self.values, torch.empty_like(self.values)], 1)
        if newest % NARROW == 0:
            self._add_table()
        self.keys[-1].view(*k_BHD.shape, NARROW)[..., newest % NARROW] = k_BHD
        self.values.view(*v_BHD.shape[:2], bags.room, -1)[:, :, newest] = v_BHD

    def _add_table(self) -> None:
        """Add a narrow table of keys after the full ones; two tables of one width become one of twice the width."""
        while len(self.keys) > 1 and self.keys[-1].shape[1] == self.keys[-2].shape[1] < WIDE:
            self.keys[-2:] = [torch.cat(self.keys[-2:], 1)]
        # Zeros, because the scores of positions to come are computed and left out.
        self.keys.append(torch.zeros(len(self.bags.keys), NARROW, dtype=self.dtype))


def _count(numbers: int) -> Tensor:
    return torch.arange(numbers, dtype=torch.int32)


def _weighted_sums(table: Tensor, vectors: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of each bag.

    `vectors` are the indices of all bags' vectors in the table.  A bag ends where the next one starts.
    """
    return torch.embedding_bag(table, vectors, starts, False, 0, False, weights)[0]
