"""Curators that drop nothing, and say how much each row counts in the loss of training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lab.curators.table import Table, Weighted, needs
from lab.errors import InputError


@needs("trusted")
def weights(table: Table, *, rng: np.random.Generator, low: float = 0.1, high: float = 10.0) -> Weighted:
    """Weigh each row in the loss by P(row) in trusted text / P(row) in the pool, two unigrams, from `low` to `high`.

    The ratio is taken relative to that of the median row, because a long row of the pool is always likelier under the
    pool's own law.  The probability of a row is the product of those of its tokens, so long rows come to one of the
    bounds.  A unigram counts each token half a time more than it was seen.  The weights are scaled to a mean of 1.

    Raises:
        InputError: the bounds are not 0 <= low <= 1 <= high.
    """
    numbers = not any(isinstance(bound, bool) or not isinstance(bound, int | float) for bound in (low, high))
    if not numbers or not 0 <= low <= 1 <= high or not np.isfinite(high):
        raise InputError(f"weights: low is {low} and high is {high}; the bounds of a weight, 0 <= low <= 1 <= high")
    types = 1 + int(max(table.own.tokens.max(), table.tokens.max()))
    ratio = _law(table.own, types) - _law(table, types)
    sums = np.where(_text(table), ratio[table.tokens], 0).sum(axis=1)
    found = np.exp(np.clip(sums - np.median(sums), np.log(low) if low else -np.inf, np.log(high)))
    effective = float(found.sum() ** 2 / max((found**2).sum(), np.finfo(float).tiny))
    facts = {"at low": float((found <= low).mean()), "at high": float((found >= high).mean())}
    return Weighted(found, {**facts, "effective rows": effective}, sums)


def _text(table: Table) -> NDArray[np.bool_]:
    """Return which tokens of the rows are text: [N, T]."""
    return np.asarray(np.arange(table.tokens.shape[1]) < table.lengths[:, None])


def _law(table: Table, types: int) -> NDArray[np.float64]:
    """Return the logarithm of the probability of each type in the text of the rows: [V]."""
    counts = np.bincount(table.tokens[_text(table)], minlength=types) + 0.5
    return np.asarray(np.log(counts / counts.sum()))
