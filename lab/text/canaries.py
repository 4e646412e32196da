"""Canaries: rows of random tokens, planted in human text so often, whose exposure says what a model memorises."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lab.seeds import derive_seed, generator

COPIES = (1, 4, 16, 64, 256)
"""How often a canary may be planted; there is one for each number."""
CANDIDATES = 2**12
"""Rows of random tokens among which a canary is ranked, the canary included (Carlini et al. 2019)."""
RANKED = 16
"""Tokens at the head of a row by whose loss it is ranked."""
DOCUMENT = "canary"
"""What stands in the place of a document's name."""


def candidates(seed: int, positions: int, *, vocab_size: int, bos: int, eos: int) -> np.ndarray:
    """Draw the canary of each of COPIES, and behind them the other candidates, which all share: int64 rows.

    Tokens are drawn uniformly, except BOS and EOS.
    """
    rows = len(COPIES) + CANDIDATES - 1
    tokens = np.setdiff1d(np.arange(vocab_size), [bos, eos])
    return np.asarray(tokens[generator(derive_seed(seed, 0, "canaries")).integers(0, len(tokens), (rows, positions))])


def planted(seed: int, rows: int, copies: Sequence[int]) -> np.ndarray:
    """Return which canary stands in each of a seed's human rows: its index in COPIES, or -1 for none, [rows]."""
    which = np.full(rows, -1)
    chosen = [COPIES.index(count) for count in copies for _ in range(count)]
    which[generator(derive_seed(seed, 0, "places of canaries")).permutation(rows)[: len(chosen)]] = chosen
    return which


def plant(rows: np.ndarray, known: dict[str, list[str | None]], which: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return rows with canaries in the places that `which` names (see `planted`); `known`, their columns, says so."""
    for place in np.flatnonzero(which >= 0):
        known["domain"][place], known["document"][place] = None, DOCUMENT
    return np.where(which[:, None] < 0, rows, drawn[which]).astype(rows.dtype)


def losses(nats: Callable[[np.ndarray], np.ndarray], drawn: np.ndarray, copies: int) -> np.ndarray:
    """Return the loss of a canary's first tokens, and behind it those of all other candidates: [CANDIDATES]."""
    compared = np.concatenate([drawn[[COPIES.index(copies)]], drawn[len(COPIES) :]])
    return np.asarray(nats(compared[:, :RANKED]).sum(axis=1, dtype=np.float64))
