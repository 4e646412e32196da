"""Language models behind one protocol: a GPT-2 from scratch and the uniform model.

A row is T tokens of text.  BOS stands before it and is not part of it:

    n_positions 4, row a b c d:   the model reads <bos> a b c   and is scored on   a b c d

Shapes: B = rows, T = positions, V = vocabulary, C = n_embd, H = heads, D = C // H.  Losses are in nats.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from lab.config import ModelConfig

NATS_TOKENS = 4096
"""Tokens per batch of a scoring pass on a CPU: the logits of one batch stay within 128 MB up to a vocabulary of 8,192."""


class Decoder(Protocol):
    """The state of B rows that grow together, one token at a time."""

    def step(self, tokens_B: Tensor) -> Tensor:
        """Append a token to each row (BOS first); logits_BV of the next one, float32.  They may be overwritten."""


class LanguageModel(Protocol):
    """What sampling, scoring and the store ask of a model."""

    vocab_size: int
    device: torch.device

    def nats(self, rows: np.ndarray) -> np.ndarray:
        """Loss of every token of rows [N, T] (any integer type) behind one BOS: float32 [N, T], in nats."""

    def decoder(self, rows: int) -> Decoder:
        """An empty state for so many rows."""

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder, for `load`."""


def load(folder: Path, device: str | torch.device = "cpu") -> Gpt2 | Uniform:
    """A model that was saved.  ValueError where the folder holds none of ours."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kinds = {Gpt2.kind: Gpt2.load, Uniform.kind: Uniform.load}
    kind = config.get("model_type")
    if kind not in kinds:
        raise ValueError(f'{folder} holds a model of type "{kind}"; known: {", ".join(kinds)}')
    return kinds[kind](folder, torch.device(device))


class Uniform:
    """Every token is equally likely, whatever stands before it: perplexity is exactly V."""

    kind = "lab-uniform"

    def __init__(self, vocab_size: int, device: str | torch.device = "cpu") -> None:
        self.vocab_size = vocab_size
        self.device = torch.device(device)

    def nats(self, rows: np.ndarray) -> np.ndarray:
        return np.full(rows.shape, math.log(self.vocab_size), dtype=np.float32)

    def decoder(self, rows: int) -> Decoder:
        return _UniformDecoder(torch.zeros(rows, self.vocab_size, device=self.device))

    def save(self, folder: Path) -> None:
        config = {"model_type": self.kind, "vocab_size": self.vocab_size}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, device: str | torch.device) -> Uniform:
        return cls(json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"], device)


class _UniformDecoder:
    def __init__(self, logits_BV: Tensor) -> None:
        self.logits_BV = logits_BV

    def step(self, tokens_B: Tensor) -> Tensor:
        return self.logits_BV


class Gpt2:
    """transformers' GPT-2, with its parameters read by our own, faster code.  `module` is the model itself."""

    kind = "gpt2"

    def __init__(self, module: GPT2LMHeadModel) -> None:
        self.module = module.eval()
        self.vocab_size: int = module.config.vocab_size
        self.positions: int = module.config.n_positions
        self.bos: int = module.config.bos_token_id

    @property
    def device(self) -> torch.device:
        return self.module.transformer.wte.weight.device  # type: ignore[no-any-return]

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
            activation_function="gelu_pytorch_tanh",  # the maths of gelu_new in one kernel instead of six
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=bos,
            eos_token_id=bos,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = GPT2LMHeadModel(gpt2)
        module.generation_config = GenerationConfig(
            do_sample=True, top_k=0, max_length=config.n_positions, bos_token_id=bos, eos_token_id=bos, pad_token_id=bos
        )
        return cls(module.to(device))

    @classmethod
    def load(cls, folder: Path, device: str | torch.device) -> Gpt2:
        return cls(GPT2LMHeadModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).to(device))

    def save(self, folder: Path) -> None:
        """Weights, configuration and generation defaults, for AutoModelForCausalLM.from_pretrained as well."""
        self.module.save_pretrained(folder)

    def nats(self, rows: np.ndarray) -> np.ndarray:
        if rows.ndim != 2 or rows.shape[1] > self.positions:
            raise ValueError(f"rows have shape {rows.shape}; expected [N, T] with T at most {self.positions}")
        nats = np.empty(rows.shape, dtype=np.float32)
        batch = max(1, NATS_TOKENS // rows.shape[1])
        with torch.inference_mode():
            for start in range(0, len(rows), batch):
                ids_BT = torch.from_numpy(rows[start : start + batch].astype(np.int64)).to(self.device)
                logits_BTV = self.module(behind(self.bos, ids_BT)).logits
                nats_BT = F.cross_entropy(logits_BTV.transpose(1, 2), ids_BT, reduction="none")
                nats[start : start + batch] = nats_BT.cpu().numpy()
        return nats

    @torch.inference_mode()
    def decoder(self, rows: int) -> Decoder:
        return _Gpt2Decoder(self.module, rows)


def behind(bos: int, ids_BT: Tensor) -> Tensor:
    """What the model reads to be scored on these tokens: [<bos>, a, b, c] for [a, b, c, d]."""
    return F.pad(ids_BT[:, :-1], (1, 0), value=bos)


class _Gpt2Decoder:
    """Key-value caches of B rows: keys [B, H, D, T], values [B, H, T, D] for each layer."""

    def __init__(self, module: GPT2LMHeadModel, rows: int) -> None:
        config = module.config
        self.gpt2 = module.transformer
        self.heads, self.width = config.n_head, config.n_embd // config.n_head
        self.position = 0
        shape = (rows, self.heads, self.width, config.n_positions)
        device = self.gpt2.wte.weight.device
        self.keys = [torch.empty(shape, device=device) for _ in self.gpt2.h]
        self.values = [torch.empty(shape, device=device).transpose(2, 3).contiguous() for _ in self.gpt2.h]

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        gpt2 = self.gpt2
        x_BC = gpt2.wte.weight[tokens_B] + gpt2.wpe.weight[self.position]
        for layer, block in enumerate(gpt2.h):
            x_BC = x_BC + self._attend(layer, block.attn, block.ln_1(x_BC))
            h = F.gelu(_linear(block.mlp.c_fc, block.ln_2(x_BC)), approximate="tanh")
            x_BC = x_BC + _linear(block.mlp.c_proj, h)
        self.position += 1
        return gpt2.ln_f(x_BC) @ gpt2.wte.weight.T

    def _attend(self, layer: int, attn: torch.nn.Module, x_BC: Tensor) -> Tensor:
        keys, values, now = self.keys[layer], self.values[layer], self.position
        q, k, v = _linear(attn.c_attn, x_BC).view(len(x_BC), 3, self.heads, self.width).unbind(1)
        keys[..., now] = k
        values[:, :, now] = v
        scores_BH1T = q.unsqueeze(2) @ keys[..., : now + 1] * self.width**-0.5
        mixed_BH1D = torch.softmax(scores_BH1T, dim=-1) @ values[:, :, : now + 1]
        return _linear(attn.c_proj, mixed_BH1D.reshape(x_BC.shape))


def _linear(layer: torch.nn.Module, x_BC: Tensor) -> Tensor:
    """transformers' Conv1D: its weight is (in, out)."""
    return torch.addmm(layer.bias, x_BC, layer.weight)
