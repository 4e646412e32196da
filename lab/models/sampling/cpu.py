"""Decoding on a CPU: single-query attention of many rows, each over its own past, at the speed of memory.

A decoding step reads every cached number once, for one multiplication, so the speed of memory is its limit.  Batched
matrix products with a single row reach a third of it on a CPU.  What reaches most of it is the weighted sum of rows of
a table, `torch.embedding_bag`, and attention is two of these:

    scores[t]  = sum over d of q[d] x keys[d, t]         a bag of D rows, one for each d, of T numbers
    mixed[d]   = sum over t of weight[t] x values[t, d]  bags of rows, one for each t, of D numbers

Sums are float32 within a bag, whatever the dtype of the numbers.

Shapes: B = rows, H = heads, P = B * H, D = numbers of a head, T = positions so far, V = vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2LMHeadModel

from lab.models.gpt2_ops import Blocks

NARROW, WIDE = 16, 128
"""Positions of the newest block of keys and of the largest.  A table's row is read whole, so the newest block, which is
never full, must be narrow; wide rows are read faster."""
FIRST_POSITIONS = 256
"""Values have room for so many at first: a pretrained model's rows are mostly shorter than its n_positions."""


class CachedDecoder:
    """B rows of a GPT-2 that grow together, one token at a time: see `lab.models.base.Decoder`."""

    def __init__(self, module: GPT2LMHeadModel, rows: int, *, dtype: torch.dtype, gelu: str) -> None:
        config, self.gpt2 = module.config, module.transformer
        self.blocks = Blocks(module, dtype, gelu)
        self.places = _Places(rows * config.n_head, config.n_embd // config.n_head, config.n_positions)
        self.caches = [Cache(self.places, config.n_head, dtype) for _ in self.gpt2.h]

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Append a token to each row; logits_BV of the next one, float32."""
        x_BC = F.embedding(tokens_B, self.gpt2.wte.weight) + self.gpt2.wpe.weight[self.places.now]
        self.places.advance()
        return self.blocks.logits(x_BC, self.caches)

    @torch.inference_mode()
    def keep(self, rows_K: Tensor) -> None:
        """Go on with these of the rows, in this order."""
        heads = self.caches[0].heads
        pairs_P = (rows_K[:, None] * heads + torch.arange(heads)).flatten()
        for cache in self.caches:
            cache.keep(pairs_P)
        self.places.hold(len(pairs_P))


class _Places:
    """Which rows of the tables a step's bags hold: the same for all layers."""

    def __init__(self, pairs: int, width: int, positions: int) -> None:
        self.width, self.now, self.room = width, 0, min(positions, FIRST_POSITIONS)
        self.hold(pairs)

    def hold(self, pairs: int) -> None:
        self.pairs = pairs
        self.keys = _count(pairs * self.width)
        self.queries = _count(pairs) * self.width

    def advance(self) -> None:
        if self.now == self.room:
            self.room *= 2
        self.now += 1
        self.values = (_count(self.pairs)[:, None] * self.room + _count(self.now)).flatten()
        self.weights = _count(self.pairs) * self.now


class Cache:
    """Keys and values of one layer."""

    def __init__(self, places: _Places, heads: int, dtype: torch.dtype) -> None:
        self.places, self.heads, self.dtype = places, heads, dtype
        self.keys: list[Tensor] = []
        self.values = torch.empty(places.pairs, places.room, places.width, dtype=dtype)

    def attend(self, qkv_B3C: Tensor) -> Tensor:
        """See `lab.models.gpt2_ops.Attention`."""
        places = self.places
        q_BHD, k_BHD, v_BHD = qkv_B3C.view(-1, 3, self.heads, places.width).unbind(1)
        self._append(k_BHD, v_BHD)
        queries = (q_BHD * places.width**-0.5).flatten()
        scores = [_bags(keys, places.keys, places.queries, queries) for keys in self.keys]
        scores[-1] = scores[-1][:, : (places.now - 1) % NARROW + 1]
        weights = torch.cat(scores, 1).softmax(1).flatten()
        mixed_PD = _bags(self.values.view(-1, places.width), places.values, places.weights, weights)
        return mixed_PD.view(len(qkv_B3C), -1)

    def keep(self, pairs_P: Tensor) -> None:
        width = self.places.width
        self.values = self.values[pairs_P]
        self.keys = [keys.view(-1, width, keys.shape[1])[pairs_P].flatten(0, 1) for keys in self.keys]

    def _append(self, k_BHD: Tensor, v_BHD: Tensor) -> None:
        places, now = self.places, self.places.now - 1
        if places.room > self.values.shape[1]:
            self.values = torch.cat([self.values, torch.empty_like(self.values)], 1)
        if now % NARROW == 0:
            self._open_block()
        self.keys[-1].view(*k_BHD.shape, NARROW)[..., now % NARROW] = k_BHD
        self.values.view(*v_BHD.shape[:2], places.room, -1)[:, :, now] = v_BHD

    def _open_block(self) -> None:
        """A new narrow block behind the full ones, of which two of one width become one of twice the width."""
        while len(self.keys) > 1 and self.keys[-1].shape[1] == self.keys[-2].shape[1] < WIDE:
            self.keys[-2:] = [torch.cat(self.keys[-2:], 1)]
        # Zeros, for the scores of positions to come are computed and left out.
        self.keys.append(torch.zeros(len(self.places.keys), NARROW, dtype=self.dtype))


def _count(numbers: int) -> Tensor:
    return torch.arange(numbers, dtype=torch.int32)


def _bags(table_NK: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """For each bag, which ends where the next one starts, the weighted sum of the table's rows that it names."""
    return torch.embedding_bag(table_NK, rows, starts, False, 0, False, weights)[0]
