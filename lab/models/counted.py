"""Counting models as sampling and scoring see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lab.models import counting
from lab.models.base import Decoder


class Counted:
    """A counting model as sampling and scoring see it."""

    def __init__(self, model: counting.CountingModel, device: str | torch.device = "cpu") -> None:
        self.model = model
        self.vocab_size = model.vocab_size
        self.device = torch.device(device)

    def nats(self, rows: np.ndarray) -> np.ndarray:
        return self.model.nats(rows)

    def decoder(self, rows: int) -> Decoder:
        return _CountedDecoder(self, rows)

    def save(self, folder: Path) -> None:
        self.model.save(folder)


class _CountedDecoder:
    def __init__(self, counted: Counted, rows: int) -> None:
        self.counted = counted
        self.before = np.empty((rows, 0), dtype=np.int64)

    def step(self, tokens_B: Tensor) -> Tensor:
        self.before = np.append(self.before, tokens_B.cpu().numpy()[:, None], axis=1)
        weights_BV = torch.tensor(self.counted.model.weights(self.before), device=self.counted.device)
        return weights_BV.log()

    def keep(self, rows_K: Tensor) -> None:
        self.before = self.before[rows_K.cpu().numpy()]
