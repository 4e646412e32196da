"""What sampling, scoring, training and the store ask of a model.

A row is T tokens of text.  BOS stands before it and is not part of it:

    n_positions 4, row a b c d:   the model reads <bos> a b c   and is scored on   a b c d

Shapes: B = rows, T = positions, V = vocabulary, C = n_embd, H = heads, D = C // H.  Losses are in nats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn


class Decoder(Protocol):
    """The state of B rows that grow together, one token at a time."""

    def step(self, tokens_B: Tensor) -> Tensor:
        """Append a token to each row (BOS first); logits_BV of the next one, float32.  They may be overwritten."""

    def keep(self, rows_K: Tensor) -> None:
        """Go on with these of the rows (int64), in this order."""


class LanguageModel(Protocol):
    """What sampling, scoring and the store ask of a model."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def nats(self, rows: np.ndarray) -> np.ndarray:
        """Loss of every token of rows [N, T] (any integer type) behind one BOS: float32 [N, T], in nats."""

    def decoder(self, rows: int) -> Decoder:
        """An empty state for so many rows."""

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder, for `load`."""


class Trainable(LanguageModel, Protocol):
    """What training asks of a model beside."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def positions(self) -> int:
        """The longest row it can be trained on."""

    def hidden(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """The state that predicts each token of each row behind BOS: [B * T, C], by matrix products in `dtype`."""

    def head(self) -> tuple[Tensor, Tensor | None]:
        """The output matrix [V, C] and its bias [V], if it has one: logits = hidden @ matrix.T + bias."""
