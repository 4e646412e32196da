"""GPT-2: transformers' module, with its parameters read by the lab's own, faster code."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from lab.config.model import ModelConfig
from lab.models import causal
from lab.models.base import Decoder
from lab.models.causal import NATS_TOKENS, at_once, behind, scored
from lab.models.gpt2_ops import norm, product
from lab.models.sampling import cpu as caches
from lab.models.sampling import cuda as graphs
from lab.text.tokenizer import quietly

GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""transformers' names of the activations that torch has as one kernel, and torch's `approximate`."""
EAGER_POSITIONS = 512
"""On a CPU, attention by plain matrix products trains faster than torch's fused kernel up to about so many."""


class Gpt2:
    """transformers' GPT-2, with its parameters read by our own, faster code.  `module` is the model itself."""

    def __init__(self, module: GPT2LMHeadModel, *, decoding: str = "float32") -> None:
        assert self.serves(module), module.config
        self.module = module.eval()
        self.decoding = decoding
        self.gelu = GELU[module.config.activation_function]
        self.vocab_size: int = module.config.vocab_size
        self.positions: int = module.config.n_positions
        self.bos: int = module.config.bos_token_id

    @property
    def device(self) -> torch.device:
        device: torch.device = self.module.transformer.wte.weight.device
        return device

    @staticmethod
    def serves(module: PreTrainedModel) -> bool:
        """Whether the code here computes what this model does; `Causal` runs all others."""
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

    @classmethod
    def fresh(
        cls, config: ModelConfig, *, vocab_size: int, bos: int, seed: int, device: str | torch.device = "cpu"
    ) -> Gpt2:
        """Initial weights that depend on the arguments only: drawn on the CPU, torch's own generator left alone."""
        gpt2 = GPT2Config(
            vocab_size=vocab_size,
            n_positions=config.n_positions,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            initializer_range=config.initializer_range,
            activation_function="gelu",  # the exact one: torch's CPU kernel is 5 times faster than gelu_new's tanh
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=bos,
            eos_token_id=bos,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = GPT2LMHeadModel(gpt2)
        module.generation_config = causal.ancestral(positions=config.n_positions, bos=bos, eos=bos)
        return cls(module.to(device))

    def save(self, folder: Path) -> None:
        """Weights, configuration and generation defaults, for AutoModelForCausalLM.from_pretrained as well."""
        with quietly():
            self.module.save_pretrained(folder)

    def head(self) -> tuple[Tensor, None]:
        """The output matrix [V, C], which is that of the embeddings; there is no bias."""
        return self.module.transformer.wte.weight, None

    def hidden(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """The state that predicts each token of each row behind BOS, before the vocabulary product: [B * T, C].

        The maths of transformers' GPT-2.  Matrix products are done in `dtype`, the residual stream in float32; each
        weight is cast once, where autocast would wrap every operation.
        """
        gpt2, (_, positions) = self.module.transformer, ids_BT.shape
        x_BTC = F.embedding(behind(self.bos, ids_BT), gpt2.wte.weight) + gpt2.wpe.weight[:positions]
        x_NC = x_BTC.flatten(0, 1)
        for block in gpt2.h:
            qkv_N3C = _linear(block.attn.c_attn, norm(block.ln_1, x_NC).to(dtype))
            x_NC = x_NC + _linear(block.attn.c_proj, _attention(qkv_N3C, positions, block.attn.num_heads))
            wide = F.gelu(_linear(block.mlp.c_fc, norm(block.ln_2, x_NC).to(dtype)), approximate=self.gelu)
            x_NC = x_NC + _linear(block.mlp.c_proj, wide)
        return norm(gpt2.ln_f, x_NC).to(dtype)

    @torch.inference_mode()
    def nats(self, rows: np.ndarray) -> np.ndarray:
        if rows.ndim != 2 or rows.shape[1] > self.positions:
            raise ValueError(f"rows have shape {rows.shape}; expected [N, T] with T at most {self.positions}")
        nats = np.empty(rows.shape, dtype=np.float32)
        batch = max(1, at_once(NATS_TOKENS, self.device) // rows.shape[1])
        for start in range(0, len(rows), batch):
            ids_BT = torch.from_numpy(rows[start : start + batch].astype(np.int64)).to(self.device)
            nats_N = scored(self.hidden(ids_BT, torch.float32), *self.head(), ids_BT.flatten(), product=product)
            nats[start : start + batch] = nats_N.view(ids_BT.shape).cpu().numpy()
        return nats

    @torch.inference_mode()
    def decoder(self, rows: int) -> Decoder:
        kind = caches.CachedDecoder if self.device.type == "cpu" else graphs.GraphDecoder
        return kind(self.module, rows, dtype=getattr(torch, self.decoding), gelu=self.gelu)


def _attention(qkv_N3C: Tensor, positions: int, heads: int) -> Tensor:
    """Causal attention within rows of T positions: [B * T, 3 C] -> [B * T, C]."""
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


def _linear(layer: Any, x_NC: Tensor) -> Tensor:
    """transformers' Conv1D, whose weight is (in, out), in the dtype of x."""
    return product(x_NC, layer.weight.T, layer.bias)
