"""Near duplicates by MinHash: rows that share most of their 5-grams of tokens, found without comparing all pairs."""

from __future__ import annotations

import numpy as np

from lab.curators.table import CopyOf, Table, check_switch

GRAM = 5
"""Tokens in an n-gram."""
BANDS, LEAST_HASHES = 14, 8
"""Two rows are candidates if all least hashes of at least one band agree (datatrove's numbers)."""


def near_duplicates(table: Table, *, rng: np.random.Generator, drop_all: bool = False) -> list[CopyOf | None]:
    """Drop a row that shares most 5-grams of tokens with one that stands before it; with drop_all, that one too.

    Two rows whose sets of 5-grams have the Jaccard similarity J are found with probability 1 - (1 - J^8)^14.

    Raises:
        InputError: drop_all is neither true nor false.
    """
    check_switch("near_duplicates: drop_all", drop_all)
    sketches = _least_hashes(_grams(table.tokens, table.lengths), rng)
    twin = np.full(len(table), len(table))
    for band in np.split(sketches, BANDS, axis=1):
        _, first, group = np.unique(band, axis=0, return_index=True, return_inverse=True)
        earliest = first[group.ravel()]
        later = np.flatnonzero(earliest < np.arange(len(table)))
        twin[later] = np.minimum(twin[later], earliest[later])
        if drop_all:
            np.minimum.at(twin, earliest[later], later)
    return [CopyOf(int(row), "a near copy of another row") if row < len(table) else None for row in twin]


def _grams(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return one 64-bit word for each 5-gram of each row's text: uint64 [N, K]; a shorter text is one n-gram.

    Places beyond the text repeat the row's first n-gram, which changes no set.
    """
    inside = np.arange(tokens.shape[1]) < np.asarray(lengths)[:, None]
    words = np.where(inside, tokens, -1).astype(np.int64).astype(np.uint64)
    words = np.pad(words, ((0, 0), (0, max(0, GRAM - tokens.shape[1]))), constant_values=np.uint64(2**64 - 1))
    count = words.shape[1] - GRAM + 1
    grams = np.zeros((len(words), count), np.uint64)
    for place in range(GRAM):
        grams = _mixed(grams * np.uint64(0x9E3779B97F4A7C15) + words[:, place : place + count])
    beyond = np.arange(count) > np.maximum(np.asarray(lengths)[:, None] - GRAM, 0)
    return np.where(beyond, grams[:, :1], grams)


def _least_hashes(grams: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the least of each row's hashes under each of 112 hash functions, which `rng` draws: uint64 [N, 112]."""
    keys = rng.integers(0, 2**64, BANDS * LEAST_HASHES, dtype=np.uint64)
    return np.stack([_mixed(grams ^ key).min(axis=1) for key in keys], axis=1)


def _mixed(words: np.ndarray) -> np.ndarray:
    """Return 64-bit words with their bits mixed (the finalizer of MurmurHash3, a bijection)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        words = (words ^ (words >> np.uint64(33))) * np.uint64(factor)
    return np.asarray(words ^ (words >> np.uint64(33)))
