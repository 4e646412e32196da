"""Drift at independent loci: each position of a row is a population of its own, the rows are its draws.

Exact theory (lab/theory/) predicts these numbers.  n = rows, T = loci, K = types.  Each function gives one number per
locus [T], or counts over all loci, and is unbiased for the distribution that the rows were drawn from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]


def locus_counts(rows: Ints, types: int) -> NDArray[np.int64]:
    """Count how often each type stands at each locus: [T, K].  ValueError for a token that is no type."""
    loci = rows.shape[1]
    if rows.size and int(rows.max()) >= types:
        raise ValueError(f"token {rows.max()} is none of the {types} types")
    cells = np.arange(loci) * types + rows.astype(np.int64)
    return np.bincount(cells.ravel(), minlength=loci * types).reshape(loci, types)


def heterozygosity(counts: NDArray[np.int64]) -> Floats:
    """Return the chance that two different rows differ at a locus: 1 - sum c (c - 1) / (n (n - 1)).

    Unbiased for 1 - sum p^2.
    Higher = more diverse.  counts [T, K] of n >= 2 rows.  Source: Nei 1978.
    """
    n = counts.sum(axis=1)
    if (n < 2).any():
        raise ValueError(f"pairs need at least 2 rows; given {n.min()}")
    return np.asarray(1 - (counts * (counts - 1)).sum(axis=1) / (n * (n - 1)))


def squared_distance(counts: NDArray[np.int64], law: Floats) -> Floats:
    """Estimate |p_t - p|^2 from a sample of p_t: sum c (c-1) / (n (n-1)) - 2 sum p c / n + sum p^2.

    The estimate is unbiased, so it may be negative.
    0 = the human law.  Unit: squared probability.
    """
    n = counts.sum(axis=1)
    return np.asarray(1 - heterozygosity(counts) - 2 * (counts @ law) / n + (law @ law))


def types_seen(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the distinct types at each locus.  Grows with the number of rows: compare equal numbers only."""
    return np.asarray((counts > 0).sum(axis=1))


def share_lost(human: NDArray[np.int64], other: NDArray[np.int64], count: int) -> float:
    """Return the share of (locus, type) pairs with this count in the human rows that is in none of the other rows.

    0 = nothing lost, 1 = all.  NaN where no type has the count.
    """
    rare = human == count
    return float((other[rare] == 0).mean()) if rare.any() else float("nan")
