"""Which tokens of a row are text."""

from __future__ import annotations

import numpy as np

ROWS = 4096
"""Rows whose text is counted at one time."""


def before_end(tokens: np.ndarray, eos: int) -> np.ndarray:
    """Which tokens of rows [N, T] of the layout `documents` are text: those up to the first EOS, and that itself."""
    ends = tokens == eos
    return np.asarray(np.cumsum(ends, axis=1) - ends == 0)
