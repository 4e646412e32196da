"""Diversity: how much of a text is not a repetition of itself?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.integer[Any]] | Sequence[Sequence[int]]
"""Token ids [N, T], or ragged: one sequence for each row."""


def distinct_n(rows: Rows, *, n: int, eos: int | None, tokens: int) -> float:
    """Distinct n-grams / n-grams in the first `tokens` tokens of rows, in order.

    "a b a b" has the bigrams ab, ba, ab: distinct-2 = 2/3.  Li et al. (2016), who named the measure, divide by
    tokens (2/4); here, as is now common, by n-grams.
    No n-gram crosses a row end or a document end, and EOS is part of none (eos=None: no token ends a document).
    The ratio falls with the length of the text: compare texts at one budget only.

    Unit: share, 0 to 1.  Higher = more diverse; neither is better in itself: human text is the mark.
    NaN for a budget that holds no n-gram.  ValueError for fewer tokens than the budget.
    """
    if n < 1:
        raise ValueError(f"n is {n}; an n-gram has at least 1 token")
    flat, row = _flatten(rows)
    if tokens < 0 or len(flat) < tokens:
        raise ValueError(f"a budget of {tokens:,} tokens, but the rows hold {len(flat):,}; lower it or give more rows")
    flat, row = flat[:tokens], row[:tokens]
    if eos is not None:
        ends = flat == eos
        # Both terms only grow, so the sum stays the same exactly inside one document of one row.
        segment = (row + np.cumsum(ends))[~ends]
        flat = flat[~ends]
    else:
        segment = row
    grams = ngram_codes(flat, segment, n=n)
    if not len(grams):
        return math.nan
    grams.sort()
    return (1 + int(np.count_nonzero(grams[1:] != grams[:-1]))) / len(grams)


def ngram_codes(flat: NDArray[np.integer[Any]], segment: NDArray[np.integer[Any]], *, n: int) -> NDArray[np.int64]:
    """One number for each n-gram that lies within one segment; equal numbers for equal n-grams, and only for those.

    flat: [M] token ids >= 0; segment: [M], the same number throughout a document, documents one after another.
    ngram_codes([5, 6, 5, 6], [0, 0, 0, 0], n=2) has length 3, and its first and last entries are equal.
    """
    count = len(flat) - n + 1
    if count <= 0:
        return np.empty(0, dtype=np.int64)
    base = int(flat.max()) + 1
    whole = segment[n - 1 :] == segment[:count]
    codes: NDArray[np.int64] = flat[:count][whole].astype(np.int64)
    size = base
    for k in range(1, n):
        if size * base >= 2**63:  # the next digit would overflow: replace codes by their ranks, which is exact too
            distinct, codes = np.unique(codes, return_inverse=True)
            size = len(distinct)
        codes *= base
        codes += flat[k : k + count][whole]
        size *= base
    return codes


def _flatten(rows: Rows) -> tuple[NDArray[np.integer[Any]], NDArray[np.int64]]:
    """The tokens of all rows in order, and the row of each."""
    if isinstance(rows, np.ndarray):
        return rows.ravel(), np.repeat(np.arange(len(rows)), rows.shape[1])
    lengths = [len(row) for row in rows]
    flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]) if rows else np.empty(0, dtype=np.int64)
    return flat, np.repeat(np.arange(len(lengths)), lengths)
