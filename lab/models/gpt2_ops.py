"""The matrix products of a GPT-2, for decoding: weights in their dtype, cast once, around a residual stream in float32.

Shapes: B = rows, N = rows of a product, C = n_embd, M = outputs of a product, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2LMHeadModel

ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
ONEDNN_DTYPES = {torch.float32}
"""What oneDNN multiplies on this processor; torch has its own, slower products for the rest."""
if ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    ONEDNN_DTYPES.add(torch.bfloat16)


def product(x_NC: Tensor, weight_MC: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, as torch.nn.functional.linear, in the dtype of x.

    torch gives float32 products to MKL, which leaves half of the speed of AMD's processors unused.  oneDNN, which does
    torch's bfloat16 products, does not; torch calls it by this operator, which knows no gradients.
    """
    weight_MC, bias_M = weight_MC.to(x_NC.dtype), None if bias_M is None else bias_M.to(x_NC.dtype)
    fast = ONEDNN and x_NC.device.type == "cpu" and not torch.compiler.is_compiling()  # which cannot see the mode
    if fast and torch.is_inference_mode_enabled() and x_NC.dtype in ONEDNN_DTYPES:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x_NC, weight_MC, bias_M, "none", [], "")
        return found
    return F.linear(x_NC, weight_MC, bias_M)


def norm(layer: Any, x_NC: Tensor) -> Tensor:
    return torch.layer_norm(x_NC, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


class Attention(Protocol):
    """The past of a layer."""

    def attend(self, qkv_B3C: Tensor) -> Tensor:
        """Append keys and values of a new position [B, 3 * C]; attention of its queries, over all so far: [B, C]."""


class Blocks:
    """All of a GPT-2 but the past: from the state of the newest position to the logits of the next token."""

    def __init__(self, module: GPT2LMHeadModel, dtype: torch.dtype, gelu: str) -> None:
        self.gpt2, self.dtype, self.gelu = module.transformer, dtype, gelu
        self.products = [[_cast(layer, dtype) for layer in _layers(block)] for block in self.gpt2.h]
        self.output_CV = self.gpt2.wte.weight.to(dtype).T

    def logits(self, x_BC: Tensor, pasts: Sequence[Attention]) -> Tensor:
        """[B, V], float32.  Norms are float32 too; what goes through a product of a block is in the dtype of products.

        Logits are never rounded to bfloat16: where they share a large offset they would tie.
        """
        for block, past, (qkv, mixed, wide, narrow) in zip(self.gpt2.h, pasts, self.products, strict=True):
            qkv_B3C = product(norm(block.ln_1, x_BC).to(self.dtype), *qkv)
            x_BC = x_BC + product(past.attend(qkv_B3C), *mixed)
            wide_BM = F.gelu(product(norm(block.ln_2, x_BC).to(self.dtype), *wide), approximate=self.gelu)
            x_BC = x_BC + product(wide_BM, *narrow)
        x_BC = norm(self.gpt2.ln_f, x_BC)
        if x_BC.is_cuda and self.dtype != torch.float32:
            return torch.mm(x_BC.to(self.dtype), self.output_CV, out_dtype=torch.float32)
        return product(x_BC, self.gpt2.wte.weight)


def _layers(block: Any) -> tuple[Any, ...]:
    return block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj


def _cast(layer: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """transformers' Conv1D has its weight as (in, out)."""
    return layer.weight.to(dtype).T, layer.bias.to(dtype)
