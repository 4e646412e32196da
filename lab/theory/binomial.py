"""The binomial chain of counts: c of n draws become Binomial(n, c/n) of the next n (Wright 1931)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlog1py, xlogy

Floats = NDArray[np.floating[Any]]
LARGEST_CHAIN = 2_000
"""Draws up to which the chain is computed exactly: a dense (n + 1) x (n + 1) matrix, 32 MB at 2,000."""


def binomial(n: int, p: Floats) -> Floats:
    """Return P(c of n) for each chance, [len(p), n + 1].  ValueError for n above LARGEST_CHAIN."""
    if n > LARGEST_CHAIN:
        raise ValueError(f"n = {n:,} is too large for the exact chain; at most {LARGEST_CHAIN:,}")
    c = np.arange(n + 1)
    ways = gammaln(n + 1) - gammaln(c + 1) - gammaln(n - c + 1)
    return np.asarray(np.exp(ways + xlogy(c, p[:, None]) + xlog1py(n - c, -p[:, None])))


def transitions(n: int) -> Floats:
    """Return P(c -> c') of the chain, [n + 1, n + 1]; 0 and n are absorbing."""
    return binomial(n, np.arange(n + 1) / n)


def mean_times(n: int) -> Floats:
    """Return the mean number of steps of the chain from each count until it is 0 or n, [n + 1]."""
    times = np.zeros(n + 1)
    times[1:-1] = np.linalg.solve(np.eye(n - 1) - transitions(n)[1:-1, 1:-1], np.ones(n - 1))
    return times
