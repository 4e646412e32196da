"""The protocols of a language model: what sampling, scoring and training ask of it.

A row is T tokens of text.  BOS stands before it and is not part of it:

    n_positions 4, row a b c d:   the model reads <bos> a b c   and is scored on   a b c d

Losses are in nats.  The suffix of a tensor's name is its shape (`logits_BV`), in every file of this room:

    B  rows                   V  entries of the vocabulary       H  heads
    T  positions of a row     C  numbers of a hidden state       D  numbers of a head: C / H
    K  some of B or of N      N  tokens of all rows: B * T       1  one, so that the tensor broadcasts
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
        """Append a token to each row (BOS first) and return the logits of the next one.

        The result is float32 [B, V].  The next step may overwrite it.
        """

    def keep(self, rows_K: Tensor) -> None:
        """Drop all rows except `rows_K` (int64), and order the state as these are ordered."""


class LanguageModel(Protocol):
    """What sampling, scoring and the store ask of a model."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def nats(self, rows: np.ndarray) -> np.ndarray:
        """Return the loss of every token of rows [B, T] (any integer type) after one BOS: float32 [B, T], in nats."""

    def decoder(self, rows: int) -> Decoder:
        """Return an empty state for `rows` rows."""

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder, from which `lab.models.load.load` reads it."""


class Trainable(LanguageModel, Protocol):
    """A language model that can also be trained."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def positions(self) -> int:
        """The longest row that the model can be trained on."""

    def hidden(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the state that predicts each token of each row after BOS: [B * T, C].  Products are in `dtype`."""

    def head(self) -> tuple[Tensor, Tensor | None]:
        """Return the output matrix [V, C] and its bias [V], if it has one: logits = hidden @ matrix.T + bias."""
