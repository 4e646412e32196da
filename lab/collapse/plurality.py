"""How many voices are left: models that say different things, and modes that a text is spread over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def divergence(laws: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return how far M laws lie apart: [M, ..., V] -> [...], in nats, 0 to ln M.

    H(mean of the laws) - mean of H(law), the Jensen-Shannon divergence of equal weights.  Source: Lin 1991.
    """
    from scipy.special import entr  # takes a quarter of a second to import

    exact = np.asarray(laws, np.float64)
    return np.asarray(entr(exact.mean(axis=0)).sum(axis=-1) - entr(exact).sum(axis=-1).mean(axis=0))


def effective_number(shares: Sequence[float] | NDArray[np.number[Any]]) -> float:
    """Return exp of the entropy of shares: K where K are equal, 1 where one has everything.  Source: Hill 1973."""
    from scipy.special import entr  # takes a quarter of a second to import

    weights = np.asarray(shares, np.float64)
    return float(np.exp(entr(weights / weights.sum()).sum()))
