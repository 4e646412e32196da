"""One decoding step of a GPT-2 without its KV cache: from the newest token's embedding to the logits of the next token.

Weights are cast to the dtype of the products once; the residual stream is float32.  Where the keys and values of a
layer lie is a matter of the two KV caches beside this file.  Shapes: M = outputs of a product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2LMHeadModel

from lab.models.gpt2_ops import norm, product


class LayerCache(Protocol):
    """Keys and values of one layer, for all positions so far."""

    def attend(self, qkv_B3C: Tensor) -> Tensor:
        """Append the keys and values of a new position; return the attention of its queries over all so far: [B, C]."""


class Gpt2Step:
    """The layers of a GPT-2, with their weights cast for decoding."""

    def __init__(self, module: GPT2LMHeadModel, dtype: torch.dtype, gelu: str) -> None:
        self.gpt2, self.dtype, self.gelu = module.transformer, dtype, gelu
        layers = [(layer.attn.c_attn, layer.attn.c_proj, layer.mlp.c_fc, layer.mlp.c_proj) for layer in self.gpt2.h]
        self.weights = [[_cast(conv1d, dtype) for conv1d in conv1ds] for conv1ds in layers]
        self.output_CV = self.gpt2.wte.weight.to(dtype).T

    def logits(self, x_BC: Tensor, caches: Sequence[LayerCache]) -> Tensor:
        """Return the logits of the next token, float32 [B, V], for the embeddings of the newest one.

        Norms are float32 too.  What enters a product of a layer has the dtype of products.  Logits are never rounded to
        bfloat16: logits that share a large offset would become equal.
        """
        for layer, cache, (qkv, mixed, wide, narrow) in zip(self.gpt2.h, caches, self.weights, strict=True):
            qkv_B3C = product(norm(layer.ln_1, x_BC).to(self.dtype), *qkv)
            x_BC = x_BC + product(cache.attend(qkv_B3C), *mixed)
            wide_BM = F.gelu(product(norm(layer.ln_2, x_BC).to(self.dtype), *wide), approximate=self.gelu)
            x_BC = x_BC + product(wide_BM, *narrow)
        x_BC = norm(self.gpt2.ln_f, x_BC)
        if x_BC.is_cuda and self.dtype != torch.float32:
            return torch.mm(x_BC.to(self.dtype), self.output_CV, out_dtype=torch.float32)
        return product(x_BC, self.gpt2.wte.weight)


def _cast(conv1d: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return weight and bias as `product` takes them: transformers' Conv1D has its weight as (in, out)."""
    return conv1d.weight.to(dtype).T, conv1d.bias.to(dtype)
