"""Decoding on a GPU: the step of all rows as a CUDA graph over caches of fixed places.

A graph is replayed without the launches that a small step would otherwise wait for.  It wants fixed shapes, so each
reads the first 64, 128, 192, ... positions of the caches, and a mask hides those to come.

The same code runs without a graph on a CPU, which is how the tests hold it to the other decoder.

Shapes: B = rows, H = heads, D = numbers of a head, C = H * D, T = positions of a cache, V = vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2LMHeadModel

from lab.models.gpt2_ops import Blocks

BUCKET = 64
"""Positions by which the part of the caches grows that a step reads."""


class GraphDecoder:
    """B rows of a GPT-2 that grow together, one token at a time: see `lab.models.base.Decoder`."""

    def __init__(self, module: GPT2LMHeadModel, rows: int, *, dtype: torch.dtype, gelu: str) -> None:
        self.gpt2 = module.transformer
        self.device, self.now = self.gpt2.wte.weight.device, 0
        self.blocks = Blocks(module, dtype, gelu)
        self.caches = [_Cache(rows, module, dtype) for _ in self.gpt2.h]
        self.tokens_B = torch.zeros(rows, dtype=torch.int64, device=self.device)
        self.place_1 = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.graph: tuple[int, torch.cuda.CUDAGraph, Tensor] | None = None

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Append a token to each row; logits_BV of the next one, float32, overwritten by the next step."""
        self.tokens_B.copy_(tokens_B)
        self.place_1.fill_(self.now)
        room = -(-(self.now + 1) // BUCKET) * BUCKET
        self.now += 1
        return self._replay(room) if self.device.type == "cuda" else self._logits(room)

    def keep(self, rows_K: Tensor) -> None:
        """Go on with these of the rows, in this order."""
        self.graph, self.tokens_B = None, self.tokens_B[rows_K]
        for cache in self.caches:
            cache.kept = cache.kept[:, rows_K]

    def _replay(self, room: int) -> Tensor:
        if self.graph is None or self.graph[0] != room:
            self.graph = None  # its memory first: the part that is read only grows
            self._logits(room)  # once outside of any graph, as libraries allocate on first use; writes the same again
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                logits_BV = self._logits(room)
            self.graph = room, graph, logits_BV
        _, graph, logits_BV = self.graph
        graph.replay()
        return logits_BV

    def _logits(self, room: int) -> Tensor:
        seen_1T = (torch.arange(room, device=self.device) <= self.place_1)[None]
        for cache in self.caches:
            cache.look(room, seen_1T, self.place_1)
        x_BC = F.embedding(self.tokens_B, self.gpt2.wte.weight) + F.embedding(self.place_1, self.gpt2.wpe.weight)
        return self.blocks.logits(x_BC, self.caches)


class _Cache:
    """Keys and values of one layer, in places that stay as long as the part that is read does."""

    def __init__(self, rows: int, module: GPT2LMHeadModel, dtype: torch.dtype) -> None:
        config = module.config
        shape = (2, rows, config.n_head, 0, config.n_embd // config.n_head)
        self.kept = torch.zeros(shape, dtype=dtype, device=module.transformer.wte.weight.device)

    def look(self, room: int, seen_1T: Tensor, place_1: Tensor) -> None:
        """From now on read so many positions, those that are seen, and write at this place."""
        if (more := room - self.kept.shape[3]) > 0:
            self.kept = F.pad(self.kept, (0, 0, 0, more))
        self.seen_1T, self.place_1 = seen_1T, place_1

    def attend(self, qkv_B3C: Tensor) -> Tensor:
        """See `lab.models.gpt2_ops.Attention`."""
        _, rows, heads, _, width = self.kept.shape
        q, *new = (part.view(rows, heads, 1, width) for part in qkv_B3C.chunk(3, dim=1))
        for kept, part in zip(self.kept, new, strict=True):
            kept.index_copy_(2, self.place_1, part)
        keys, values = self.kept
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=self.seen_1T).flatten(1)
