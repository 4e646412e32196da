"""Tiny random checkpoints of many architectures, as a user would download them, for the tests of networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, OPTConfig, PhiConfig, PreTrainedConfig

from lab.config.model import Network
from lab.models.causal import Causal
from lab.models.initial_weights import random_llama
from lab.models.load import load
from lab.models.train import fit
from support.training import Rows, ascending, quiet, settings

V, T, BOS = 70, 16, 3
SPECIAL = {"vocab_size": V, "bos_token_id": BOS, "eos_token_id": BOS}
GPT2 = SPECIAL | {"n_positions": T, "n_embd": 32, "n_layer": 2, "n_head": 2}  # gelu_new, dropout 0.1: as on the hub
LLAMA = SPECIAL | {"max_position_embeddings": T, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
OPT = SPECIAL | {"max_position_embeddings": T, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2}
OPT |= {"num_attention_heads": 2, "pad_token_id": 1, "word_embed_proj_dim": 32}
CONFIGS: dict[str, PreTrainedConfig] = {
    "gpt2": GPT2Config(**GPT2),
    "gpt2 scaled by layer": GPT2Config(**GPT2, scale_attn_by_inverse_layer_idx=True),
    "gpt2 untied": GPT2Config(**GPT2, tie_word_embeddings=False),
    "llama": LlamaConfig(**LLAMA, num_attention_heads=2),
    "smollm": LlamaConfig(**LLAMA, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
    "opt": OPTConfig(**OPT),
    "opt 350m": OPTConfig(**OPT | {"word_embed_proj_dim": 24}, do_layer_norm_before=False),
    "phi": PhiConfig(**LLAMA, num_attention_heads=2),  # its output matrix has a bias
}
each_model = pytest.mark.parametrize("name", CONFIGS)


def checkpoint(folder: Path, config: PreTrainedConfig, *, scale: float = 0.3) -> Path:
    """Save a random model, whose predictions are far from uniform, as transformers does, and return its folder."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += torch.randn(parameter.shape) * scale
    module.save_pretrained(folder)
    return folder


def base(bases: dict[str, Path], name: str) -> Causal:
    model = load(bases[name])
    assert isinstance(model, Causal)
    return model


def rows_of(n: int, positions: int = T) -> np.ndarray:
    return np.random.default_rng(0).integers(0, V, (n, positions)).astype(np.uint16)


def read_of(rows: np.ndarray) -> torch.Tensor:
    """Return BOS and all tokens of each row."""
    return F.pad(torch.from_numpy(rows.astype(np.int64)), (1, 0), value=BOS)


def train(model: Causal, *, dtype: str = "float32", positions: int = T, **changes: Any) -> list[dict[str, Any]]:
    """Train for 40 steps of 8 rows and return the learning curve."""
    validation, config = ascending(9, positions, 60), settings(**{"tokens": 40 * 8 * T} | changes)
    rows = Rows(ascending(30, positions, 60))
    return fit(model, rows, config, validation=validation, seed=5, dtype=dtype, progress=quiet)


def llama(seed: int = 1) -> Causal:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": T, "initializer_range": 0.02}
    return random_llama(Network(**shape), vocab_size=V, bos=BOS, seed=seed)
