"""Counting models behind the protocol of a language model, so that they are sampled and scored as networks are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lab.models.counting import CountingModel
from lab.models.ngram import Ngram
from lab.models.protocols import Decoder


class Counted:
    """A counting model as sampling and scoring see it: see `lab.models.protocols.LanguageModel`."""

    def __init__(self, model: CountingModel, device: str | torch.device = "cpu") -> None:
        self.model = model
        self.vocab_size = model.vocab_size
        self.device = torch.device(device)

    def nats(self, rows: np.ndarray) -> np.ndarray:
        return self.model.nats(rows)

    def decoder(self, rows: int) -> Decoder:
        return _CountedDecoder(self, rows)

    @property
    def by_position(self) -> bool:
        """Whether the next token depends on its position alone, not on the tokens before it."""
        return not isinstance(self.model, Ngram)

    def logits(self, positions: range) -> Tensor:
        """Return the logits of the token at each position of a model that is `by_position`: float32 [T, V]."""
        befores = (np.empty((1, position + 1), dtype=np.int64) for position in positions)
        weights_TV = np.concatenate([self.model.weights(before_1T) for before_1T in befores])
        return torch.tensor(weights_TV, device=self.device).log()

    def save(self, folder: Path) -> None:
        self.model.save(folder)


class _CountedDecoder:
    """The tokens of each row so far, BOS among them."""

    def __init__(self, counted: Counted, rows: int) -> None:
        self.counted = counted
        self.before_BT = np.empty((rows, 0), dtype=np.int64)

    def step(self, tokens_B: Tensor) -> Tensor:
        self.before_BT = np.append(self.before_BT, tokens_B.cpu().numpy()[:, None], axis=1)
        weights_BV = torch.tensor(self.counted.model.weights(self.before_BT), device=self.counted.device)
        return weights_BV.log()

    def keep(self, rows_K: Tensor) -> None:
        self.before_BT = self.before_BT[rows_K.cpu().numpy()]
