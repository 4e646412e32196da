"""Passes over a model that collect evidence.  Metrics are functions of evidence and need no model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lab.models.base import LanguageModel

ROWS = 512
"""Rows between two reports of progress; the model batches within them."""


def heldout(model: LanguageModel, rows: np.ndarray, progress: Callable[[int], None]) -> np.ndarray:
    """Loss of every token of held-out rows [N, T], each row behind one BOS: float32 [N, T], in nats.

    `progress` is told the tokens scored so far.
    """
    nats = np.empty(rows.shape, dtype=np.float32)
    for start in range(0, len(rows), ROWS):
        stop = min(start + ROWS, len(rows))
        nats[start:stop] = model.nats(rows[start:stop])
        progress(stop * rows.shape[1])
    return nats
