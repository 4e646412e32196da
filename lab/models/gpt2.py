"""GPT-2: transformers' module, whose parameters the lab's own, faster code reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedModel

from lab.models.causal import Causal
from lab.models.gpt2_ops import norm, product
from lab.models.protocols import Decoder
from lab.models.sampling.kv_cache_cpu import CpuDecoder
from lab.models.sampling.kv_cache_cuda import CudaDecoder
from lab.models.scoring import after_bos, score

GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""transformers' names of the activations that torch has as one kernel, and torch's `approximate`."""
EAGER_POSITIONS = 512
"""On a CPU, attention by plain matrix products trains faster than torch's fused kernel up to about this many positions
of a row."""


class Gpt2(Causal):
    """A GPT-2 whose forward pass, for training, scoring and sampling, is the lab's own."""

    def __init__(self, module: GPT2LMHeadModel, *, decoding: str = "float32") -> None:
        assert self.serves(module), module.config
        super().__init__(module)
        self.decoding = decoding
        self.gelu = GELU[module.config.activation_function]

    @staticmethod
    def serves(module: PreTrainedModel) -> bool:
        """Return whether the code here computes what this model does; `Causal` itself runs all other models."""
        config = module.config
        return (
            isinstance(module, GPT2LMHeadModel)
            and config.activation_function in GELU
            and config.scale_attn_weights
            and not config.scale_attn_by_inverse_layer_idx
            and not config.reorder_and_upcast_attn
            and not config.add_cross_attention
            and module.lm_head.weight is module.transformer.wte.weight
        )

    def hidden(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the state that predicts each token of each row after BOS: [B * T, C].

        The maths is that of transformers' GPT-2.  Matrix products are done in `dtype`, the residual stream is float32.
        Each weight is cast once, where autocast would wrap every operation.
        """
        gpt2, (_, positions) = self.module.transformer, ids_BT.shape
        x_BTC = F.embedding(after_bos(self.bos, ids_BT), gpt2.wte.weight) + gpt2.wpe.weight[:positions]
        x_NC = x_BTC.flatten(0, 1)
        for layer in gpt2.h:
            qkv_N3C = _conv1d(layer.attn.c_attn, norm(layer.ln_1, x_NC).to(dtype))
            x_NC = x_NC + _conv1d(layer.attn.c_proj, _attention(qkv_N3C, positions, layer.attn.num_heads))
            wide = F.gelu(_conv1d(layer.mlp.c_fc, norm(layer.ln_2, x_NC).to(dtype)), approximate=self.gelu)
            x_NC = x_NC + _conv1d(layer.mlp.c_proj, wide)
        return norm(gpt2.ln_f, x_NC).to(dtype)

    @torch.inference_mode()
    def nats(self, rows: np.ndarray) -> np.ndarray:
        return score(self, rows, product=product)

    @torch.inference_mode()
    def decoder(self, rows: int) -> Decoder:
        kind = CpuDecoder if self.device.type == "cpu" else CudaDecoder
        return kind(self.module, rows, dtype=getattr(torch, self.decoding), gelu=self.gelu)


def _attention(qkv_N3C: Tensor, positions: int, heads: int) -> Tensor:
    """Return causal attention within rows of `positions` tokens: [B * T, 3 C] -> [B * T, C]."""
    width = qkv_N3C.shape[1] // (3 * heads)
    q, k, v = qkv_N3C.view(-1, positions, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
    if qkv_N3C.is_cuda or positions > EAGER_POSITIONS:
        mixed_BHTD = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        future_TT = torch.full((positions, positions), -math.inf, dtype=q.dtype, device=q.device).triu(1)
        q, k, v = (x.reshape(-1, positions, width) for x in (q, k, v))
        scores = torch.baddbmm(future_TT, q, k.transpose(1, 2), alpha=width**-0.5)
        mixed_BHTD = (scores.softmax(-1) @ v).view(-1, heads, positions, width)
    return mixed_BHTD.transpose(1, 2).reshape(-1, heads * width)


def _conv1d(layer: Any, x_NC: Tensor) -> Tensor:
    """Apply transformers' Conv1D, whose weight is (in, out), in the dtype of x."""
    return product(x_NC, layer.weight.T, layer.bias)
