"""Rules on the quality of a single row, from the tables of Gopher (Rae et al. 2021, A1)."""

from __future__ import annotations

import numpy as np

from lab.curators.table import Table
from lab.errors import InputError

TOP = {2: 0.20, 3: 0.18, 4: 0.16}
"""The most that the commonest n-gram may cover of a row, by n (table A1)."""
REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""The most that n-grams which have occurred before may cover of a row, by n (table A1)."""
STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})


def repetition(table: Table, *, rng: np.random.Generator, scale: float = 1) -> list[str | None]:
    """Drop a row in which one n-gram of tokens, or repeated ones, cover more than Gopher's shares times `scale`.

    Gopher counts characters of a page; here it is tokens of a row.  Tokens of n-grams that overlap count once.

    Raises:
        InputError: scale is not above 0.
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < np.inf:
        raise InputError(f"repetition: scale is {scale}; it multiplies Gopher's limits, and is a number above 0")
    reasons: list[str | None] = [None] * len(table)
    for n, limits, share in [(n, TOP, _top) for n in TOP] + [(n, REPEATED, _repeated) for n in REPEATED]:
        over = np.flatnonzero(share(table.tokens, table.lengths, n) > limits[n] * scale)
        word = f"the commonest {n}-gram covers" if limits is TOP else f"repeated {n}-grams cover"
        for row in over:
            reasons[row] = reasons[row] or f"{word} more than {limits[n] * scale:.3g} of the row"
    return reasons


def stop_words(table: Table, *, rng: np.random.Generator, least: int = 2) -> list[str | None]:
    """Drop a row whose text holds fewer than `least` of the English words the, be, to, of, and, that, have, with.

    Raises:
        InputError: least is not a whole number from 1 to 8.
    """
    if isinstance(least, bool) or not isinstance(least, int) or not 1 <= least <= len(STOP_WORDS):
        raise InputError(f"stop_words: least is {least}; it is a whole number from 1 to {len(STOP_WORDS)}")
    found = [len(STOP_WORDS & set(table.text(row).lower().split())) for row in range(len(table))]
    return [f"fewer than {least} stop words" if count < least else None for count in found]


def _top(tokens: np.ndarray, lengths: np.ndarray, n: int) -> np.ndarray:
    """Return the share of each row that its commonest n-gram covers: 0 where none occurs twice.

    1 2 1 2 1 3 with n = 2: "1 2" occurs twice, 4 of 6 tokens.  1 1 1 1: three overlapping "1 1" cover all 4 tokens.
    """
    best = np.zeros(len(tokens))
    for row, length in enumerate(np.asarray(lengths)):
        _, which, counts = _counted(tokens[row, :length], n)
        if len(counts) and counts.max() > 1:
            best[row] = _covered(np.flatnonzero(which == counts.argmax()), n, length).sum() / length
    return best


def _repeated(tokens: np.ndarray, lengths: np.ndarray, n: int) -> np.ndarray:
    """Return the share of each row that lies in n-grams which have occurred before in it.

    1 2 3 1 2 4 with n = 2: the second "1 2" covers 2 of 6 tokens.
    """
    share = np.zeros(len(tokens))
    for row, length in enumerate(np.asarray(lengths)):
        first, which, _ = _counted(tokens[row, :length], n)
        if len(which) > len(first):
            again = np.setdiff1d(np.arange(len(which)), first)
            share[row] = _covered(again, n, length).sum() / length
    return share


def _counted(text: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first place of each distinct n-gram, which one stands at each place, and how often each occurs."""
    if len(text) < n:
        return np.empty(0, int), np.empty(0, int), np.empty(0, int)
    grams = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(text, n))
    whole = grams.view([("", grams.dtype)] * n).ravel()
    _, first, which, counts = np.unique(whole, return_index=True, return_inverse=True, return_counts=True)
    return first, which.ravel(), counts


def _covered(starts: np.ndarray, n: int, length: int) -> np.ndarray:
    """Return which of `length` tokens lie in the n-grams that begin at these places: bool [length]."""
    edges = np.zeros(length + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + n, -1)
    return np.asarray(edges.cumsum()[:-1] > 0)
