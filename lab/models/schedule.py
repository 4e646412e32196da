"""The schedule of a training: each step's learning rate and the rows in its batch, both from the step's number."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from lab.config.train import TrainConfig
from lab.seeds import permutation


def lr_at(step: int, steps: int, config: TrainConfig) -> float:
    """Return the learning rate of one of the steps 0 .. steps - 1.

    It rises to `lr` during the warm-up, then falls along a cosine to final_lr x lr.

    10 steps, warmup 0.2, lr 1, final_lr 0:   0.5  1  0.96  0.85  0.69  0.5  0.31  0.15  0.04  0
    """
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    peak = max(warmup - 1, 0)
    done = (step - peak) / max(steps - 1 - peak, 1)
    return config.lr * (config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * done)) / 2)


def batch_at(step: int, *, seed: int, rows: int, batch_rows: int, total: int) -> np.ndarray:
    """Return the indices of the rows in one step's batch, int64.

    Each epoch is a permutation of all rows.  The epochs stand one after the other and are cut into full batches; the
    last batch ends at `total` rows.
    """
    numbers = np.arange(step * batch_rows, min((step + 1) * batch_rows, total))
    epochs = numbers // rows
    return np.concatenate([_order(seed, int(e), rows)[numbers[epochs == e] % rows] for e in np.unique(epochs)])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, rows: int) -> np.ndarray:
    return permutation(seed, epoch, rows)


def completes_part(step: int, steps: int, parts: int) -> bool:
    """Return whether this step (from 0) completes one of `parts` equal parts of the training."""
    return (step + 1) * parts // steps > step * parts // steps
