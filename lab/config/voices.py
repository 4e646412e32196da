"""Voices: how the rows of a sample are divided among the models of a population, and in which order they stand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6
"""How far the sum of voices may lie from 1: three thirds need not be written with all their digits."""


def fault_of(voices: Sequence[float]) -> str | None:
    """Return what is wrong with voices, or None."""
    if wrong := [f"{voice:g}" for voice in voices if not 0 <= voice <= 1]:
        return f"voices hold {', '.join(wrong[:5])}; each is a share of the sample's rows, from 0 to 1"
    if abs(math.fsum(voices) - 1) > ROUNDING:
        return f"voices add up to {math.fsum(voices):g}; they are shares of one sample and must add up to 1"
    return None


def rows_by_member(rows: int, members: int, voices: Sequence[float] | None) -> tuple[int, ...]:
    """Return how many of the rows each model writes.

    Without voices the parts are equal, give or take one row.  Else the shares are rounded down, and the rows that are
    left go to the largest remainders: rows_by_member(10, 3, [0.75, 0.15, 0.1]) == (8, 1, 1).
    """
    if voices is None:
        return tuple(rows // members + (m < rows % members) for m in range(members))
    exact = np.array(voices) * (rows / math.fsum(voices))
    written = np.floor(exact + ROUNDING).astype(np.int64)
    written[np.argsort(written - exact, kind="stable")[: rows - int(written.sum())]] += 1
    return tuple(written.tolist())


def writers(written: Sequence[int]) -> NDArray[np.int64]:
    """Return the model that wrote each row of a sample, from the number of rows of each model.

    Every model's rows are spread evenly, so that the head of a sample has about the voices of the whole: the k-th of v
    rows stands at (k + 1/2)/v of the sample.  writers([4, 2, 0]) -> 0 1 0 0 1 0.  Equal parts take turns: 0 1 2 0 1 2.
    """
    member = np.repeat(np.arange(len(written)), written)
    place = np.concatenate([(np.arange(rows) + 0.5) / rows if rows else np.empty(0) for rows in written])
    return np.asarray(member[np.lexsort((member, place))])
