"""Text that is copied: n-grams of tokens that human training text holds too, and words that stand outside of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.metrics.words import Words

Rows = NDArray[np.integer[Any]]
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 / golden ratio, odd (Knuth): the hash of an n-gram is a polynomial in it, modulo 2^64."""


def ngram_hashes(rows: Rows, n: int) -> NDArray[np.uint64]:
    """Return a hash of each n-gram within a row: [N, T] -> [N, T - n + 1].  No n-gram crosses the end of a row.

    Two different n-grams have one hash with probability of about 2^-64.
    """
    if rows.shape[1] < n:
        return np.empty((len(rows), 0), np.uint64)
    width = rows.shape[1] - n + 1
    hashes = np.zeros((len(rows), width), np.uint64)
    for k in range(n):
        hashes = (hashes + rows[:, k : k + width].astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
        hashes ^= hashes >> np.uint64(29)
    return hashes


def copied(rows: Rows, training: Rows, n: int) -> NDArray[np.bool_]:
    """Return which n-grams of rows occur in the training rows: [N, T] -> bool [N, T - n + 1]."""
    return np.isin(ngram_hashes(rows, n), np.unique(ngram_hashes(training, n)))


def overlap(rows: Rows, training: Rows, n: int, counted: NDArray[np.bool_] | None = None) -> float:
    """Return the share of the n-grams of a text that the training rows hold too.  Unit: share, 0 to 1.

    With `counted`, bool [N, T], only n-grams of tokens that count.  NaN where there is no n-gram.
    Read it against the same number of held-out human text: common phrases are in every text.
    """
    found = copied(rows, training, n)
    if counted is not None:
        found = found[_whole(counted, n)]
    return float(found.mean()) if found.size else float("nan")


def _whole(counted: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Return which n-grams have only tokens that count: [N, T] -> bool [N, T - n + 1]."""
    if counted.shape[1] < n:
        return np.empty((len(counted), 0), np.bool_)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(counted, n, axis=1).all(axis=2))


def inside_copies(rows: Rows, training: Rows, n: int, counted: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Return which tokens lie in an n-gram that the training rows hold too: bool [N, T].

    With `counted`, bool [N, T], only n-grams of tokens that count: the filling after a document is no copy.
    """
    found = copied(rows, training, n)
    if counted is not None:
        found &= _whole(counted, n)
    inside = np.zeros(rows.shape, np.bool_)
    for k in range(n if found.size else 0):
        inside[:, k : k + found.shape[1]] |= found
    return inside


def outside_copies(words: Words, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which words have at least one token outside of copies, [W]."""
    before = np.concatenate([[0], np.cumsum(inside.ravel())])
    return np.asarray(before[words.last + 1] - before[words.first] < words.lengths)
