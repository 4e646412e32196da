"""Small networks and rows for the tests of training and sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats

from lab.config.model import ModelConfig
from lab.config.train import TrainConfig
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2

V, T = 40, 16
SHORT = 6
"""Positions of the network that `gpt2` returns."""


class Rows:
    """The rows of an array, with a list of those taken."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens
        self.taken: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, indices: np.ndarray) -> np.ndarray:
        self.taken.append(indices.tolist())
        return self.tokens[indices]

    def weights(self, indices: np.ndarray) -> None:
        """Return None: all rows count the same."""

    def learned(self, indices: np.ndarray, rows: np.ndarray) -> None:
        """Return None: all tokens are learned."""


def fresh(seed: int = 1, n_layer: int = 2) -> Gpt2:
    """Return an untrained network of V tokens and T positions."""
    config = ModelConfig(n_layer=n_layer, n_head=2, n_embd=32, n_positions=T)
    return random_gpt2(config, vocab_size=V, bos=0, seed=seed)


def ascending(n: int, positions: int = T, modulus: int = V) -> np.ndarray:
    """Return rows that can be learned: each token is the one before it plus one."""
    return ((np.arange(n)[:, None] * 7 + np.arange(positions)) % modulus).astype(np.uint16)


def settings(**changes: Any) -> TrainConfig:
    """Return the settings of a training of 24 batches of 8 rows, with changes."""
    fields = {"tokens": 24 * 8 * T, "batch_rows": 8, "lr": 3e-3, "validation_tokens": T}
    return TrainConfig.model_validate(fields | changes)


def quiet(tokens: int) -> None:
    """Ignore progress."""


def gpt2(vocab_size: int, positions: int = SHORT) -> Gpt2:
    """Return a small model whose predictions are far from uniform."""
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16, n_positions=positions)
    model = random_gpt2(config, vocab_size=vocab_size, bos=0, seed=3)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)) * 0.2
    return model


def fits(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the p-value of a chi-square test; tokens expected fewer than 5 times are counted as one."""
    expected = probabilities / probabilities.sum() * counts.sum()
    rare = expected < 5
    if rare.any():
        counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return float(stats.chisquare(counts, expected).pvalue)
