"""Radioactivity: how far a model that was trained on marked text prefers green tokens in what it writes without a mark.

Sander et al. 2024.  Everything is counted over distinct pairs of a token and the next one.

- Closed mode looks at text that the model has written without a mark.
- Reading mode looks at the model's likeliest next token after each token of human text.

A z by itself is not evidence: text has its own luck with a key.  Compare with the same z of the paired chain that never
saw a mark.  Pairs that stand in the marked text must never be left out: it holds the green ones, so that what is left
is red by selection, even of human text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.curators.marks import green_lists
from lab.curators.watermark import Counts

Pairs = NDArray[np.int64]
"""Distinct pairs of a token and the next one: int64 [K, 2]."""


def written_pairs(rows: NDArray[np.integer[Any]], text: NDArray[np.bool_], prompt: int = 0) -> Pairs:
    """Return the distinct pairs of rows [N, T] whose second token the model has written.

    Args:
        text: which tokens are text, [N, T].
        prompt: tokens at the head of each row that the model was given.
    """
    first = max(1, prompt)
    return _distinct(rows[:, first - 1 : -1], rows[:, first:], text[:, first:])


def read_pairs(
    rows: NDArray[np.integer[Any]], text: NDArray[np.bool_], readings: Iterable[NDArray[np.integer[Any]]]
) -> Pairs:
    """Return the distinct pairs of a token of rows [N, T] and the token that a model finds likeliest after it.

    A token that stands earlier in its row gives no pair: the model may copy what came after it there.

    Args:
        text: which tokens are text, [N, T].
        readings: the likeliest token at each position of the rows, [N, T], one array per model.
    """
    fresh = text[:, 1:] & _first_times(rows)[:, :-1]
    found = [_distinct(rows[:, :-1], reading[:, 1:], fresh) for reading in readings]
    return np.asarray(np.unique(np.concatenate(found), axis=0))


def _distinct(first: NDArray[Any], second: NDArray[Any], chosen: NDArray[np.bool_]) -> Pairs:
    return np.unique(np.stack([first[chosen], second[chosen]], axis=1).astype(np.int64), axis=0)


def _first_times(rows: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Return whether each token of rows [N, T] stands in its row for the first time."""
    order = np.argsort(rows, axis=1, kind="stable")
    ranked = np.take_along_axis(rows, order, axis=1)
    first = np.ones(rows.shape, np.bool_)
    np.put_along_axis(first, order[:, 1:], ranked[:, 1:] != ranked[:, :-1], axis=1)
    return first


def evidence(pairs: Pairs, *, vocabulary: int, ratio: float, key: int) -> Mapping[str, float]:
    """Return the evidence for a key's mark: z over the pairs, p, the number of pairs, and the share that is green.

    p is the chance that another key finds as many green pairs in the same text.  Over keys the lists are drawn at
    random without replacement, so that of the n tokens that follow a context a hypergeometric number is green, with
    variance n s (1 - s) (V - n) / (V - 1); the sum over contexts is close to normal.  Nothing is assumed about the
    text.  Without pairs all are NaN, and their number is 0.
    """
    lists = green_lists(vocabulary, ratio, key)
    found = int(lists.holds(pairs[:, 0], pairs[:, 1]).sum())
    after = np.unique(pairs[:, 0], return_counts=True)[1]
    variance = float((after * (vocabulary - after)).sum()) * lists.share * (1 - lists.share) / (vocabulary - 1)
    above = found - lists.share * len(pairs)
    return {
        "z": float(Counts(np.array([len(pairs)]), np.array([found]), lists.share).z[0]),
        "p": math.erfc(above / math.sqrt(2 * variance)) / 2 if variance else math.nan,
        "pairs": float(len(pairs)),
        "green": found / len(pairs) if len(pairs) else math.nan,
    }
