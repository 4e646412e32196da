"""The KV cache of a GPT-2 on a GPU, and the decoder over it: the step of all rows is a CUDA graph.

A graph is replayed without the launches of single kernels, for which a small step would otherwise wait.  It needs fixed
shapes, so each graph reads the first 64, 128, 192, ... positions of the caches, and a mask hides those to come.

The same code runs without a graph on a CPU: the tests compare it with the other decoder that way.

Shapes: T = positions of a cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2LMHeadModel

from lab.models.sampling.gpt2_step import Gpt2Step

BUCKET = 64
"""Positions by which the part of the caches that a step reads grows."""


class CudaDecoder:
    """B rows of a GPT-2 that grow together, one token at a time: see `lab.models.protocols.Decoder`."""

    def __init__(self, module: GPT2LMHeadModel, rows: int, *, dtype: torch.dtype, gelu: str) -> None:
        self.gpt2 = module.transformer
        self.device, self.positions = self.gpt2.wte.weight.device, 0
        self.layers = Gpt2Step(module, dtype, gelu)
        self.caches = [_LayerCache(rows, module, dtype) for _ in self.gpt2.h]
        self.tokens_B = torch.zeros(rows, dtype=torch.int64, device=self.device)
        self.newest_1 = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.graph: tuple[int, torch.cuda.CUDAGraph, Tensor] | None = None

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        self.tokens_B.copy_(tokens_B)
        self.newest_1.fill_(self.positions)
        self.positions += 1
        room = -(-self.positions // BUCKET) * BUCKET
        return self._replay(room) if self.device.type == "cuda" else self._logits(room)

    def keep(self, rows_K: Tensor) -> None:
        self.graph, self.tokens_B = None, self.tokens_B[rows_K]
        for cache in self.caches:
            cache.kept = cache.kept[:, rows_K]

    def _replay(self, room: int) -> Tensor:
        """Return `_logits(room)` by the graph for that room, which is captured first if it does not exist."""
        if self.graph is None or self.graph[0] != room:
            self.graph = None  # frees its memory first: the part that is read only grows
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
        """Return the logits of the next token, reading the first `room` positions of the caches."""
        seen_1T = (torch.arange(room, device=self.device) <= self.newest_1)[None]
        for cache in self.caches:
            cache.set_window(room, seen_1T, self.newest_1)
        x_BC = F.embedding(self.tokens_B, self.gpt2.wte.weight) + F.embedding(self.newest_1, self.gpt2.wpe.weight)
        return self.layers.logits(x_BC, self.caches)


class _LayerCache:
    """Keys and values of one layer, at addresses that stay as long as `room` does.

    See `lab.models.sampling.gpt2_step.LayerCache`.
    """

    def __init__(self, rows: int, module: GPT2LMHeadModel, dtype: torch.dtype) -> None:
        config = module.config
        shape = (2, rows, config.n_head, 0, config.n_embd // config.n_head)
        self.kept = torch.zeros(shape, dtype=dtype, device=module.transformer.wte.weight.device)

    def set_window(self, room: int, seen_1T: Tensor, newest_1: Tensor) -> None:
        """Read `room` positions from now on, those of them that are seen, and write at the newest."""
        if (more := room - self.kept.shape[3]) > 0:
            self.kept = F.pad(self.kept, (0, 0, 0, more))
        self.seen_1T, self.newest_1 = seen_1T, newest_1

    def attend(self, qkv_B3C: Tensor) -> Tensor:
        _, rows, heads, _, width = self.kept.shape
        q, *new = (part.view(rows, heads, 1, width) for part in qkv_B3C.chunk(3, dim=1))
        for kept, part in zip(self.kept, new, strict=True):
            kept.index_copy_(2, self.newest_1, part)
        keys, values = self.kept
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=self.seen_1T).flatten(1)
