"""Decoding on a GPU: the step of all rows as a CUDA graph over caches of fixed places, products in bfloat16 if asked.

A graph is replayed without the launches that a small step would otherwise wait for.  It wants fixed shapes, so each
reads the first 64, 128, 192, ... positions of the caches, and a mask hides those to come.  The residual stream, the
norms and the softmax over the vocabulary are float32 whatever the dtype of the products.

The same code runs without a graph on a CPU, which is how the tests hold it to the other decoder.

Shapes: B = rows, H = heads, D = numbers of a head, C = H * D, T = positions of a cache, V = vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2LMHeadModel

BUCKET = 64
"""Positions by which the part of the caches grows that a step reads."""


class GraphDecoder:
    """B rows of a GPT-2 that grow together, one token at a time: see `lab.models.Decoder`."""

    def __init__(self, module: GPT2LMHeadModel, rows: int, *, dtype: torch.dtype, gelu: str) -> None:
        config, gpt2 = module.config, module.transformer
        self.gpt2, self.gelu, self.dtype, self.heads = gpt2, gelu, dtype, config.n_head
        self.device, self.limit, self.now = gpt2.wte.weight.device, config.n_positions, 0
        # Cast once: a graph would do it again in every step.
        self.layers = [_Layer(block, dtype) for block in gpt2.h]
        self.output_VC = gpt2.wte.weight.to(dtype)
        shape = (rows, config.n_head, config.n_positions, config.n_embd // config.n_head)
        self.keys = [torch.zeros(shape, dtype=dtype, device=self.device) for _ in gpt2.h]
        self.values = [torch.zeros(shape, dtype=dtype, device=self.device) for _ in gpt2.h]
        self.tokens_B = torch.zeros(rows, dtype=torch.int64, device=self.device)
        self.place_1 = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.graph: tuple[int, torch.cuda.CUDAGraph, Tensor] | None = None

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Append a token to each row; logits_BV of the next one, float32, overwritten by the next step."""
        self.tokens_B.copy_(tokens_B)
        self.place_1.fill_(self.now)
        room = min(-(-(self.now + 1) // BUCKET) * BUCKET, self.limit)
        self.now += 1
        return self._replay(room) if self.device.type == "cuda" else self._logits(room)

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
        x_BC = F.embedding(self.tokens_B, self.gpt2.wte.weight) + F.embedding(self.place_1, self.gpt2.wpe.weight)
        for layer, keys, values in zip(self.layers, self.keys, self.values, strict=True):
            q, k, v = (part.view(len(x_BC), self.heads, 1, -1) for part in layer.qkv(x_BC).chunk(3, dim=1))
            keys.index_copy_(2, self.place_1, k)
            values.index_copy_(2, self.place_1, v)
            mixed = F.scaled_dot_product_attention(q, keys[:, :, :room], values[:, :, :room], attn_mask=seen_1T)
            x_BC = x_BC + layer.mixed(mixed.flatten(1))
            x_BC = x_BC + layer.mlp(x_BC, self.gelu)
        return F.linear(_norm(self.gpt2.ln_f, x_BC).to(self.dtype), self.output_VC).float()


class _Layer:
    """The products of a block, with weights in their dtype.  transformers' Conv1D weights are (in, out)."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        self.ln_1, self.ln_2, self.dtype = block.ln_1, block.ln_2, dtype
        parts = (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        self.weights = [(part.bias.to(dtype), part.weight.to(dtype)) for part in parts]

    def _product(self, number: int, x: Tensor) -> Tensor:
        bias, weight = self.weights[number]
        return torch.addmm(bias, x.to(self.dtype), weight)

    def qkv(self, x_BC: Tensor) -> Tensor:
        return self._product(0, _norm(self.ln_1, x_BC))

    def mixed(self, mixed_BC: Tensor) -> Tensor:
        return self._product(1, mixed_BC)

    def mlp(self, x_BC: Tensor, gelu: str) -> Tensor:
        return self._product(3, F.gelu(self._product(2, _norm(self.ln_2, x_BC)), approximate=gelu))


def _norm(layer: Any, x_BC: Tensor) -> Tensor:
    return torch.layer_norm(x_BC, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
