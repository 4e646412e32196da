"""Filters: rules that need no model."""

from __future__ import annotations

import numpy as np

from lab.curators.table import Table
from lab.errors import InputError


def duplicates(table: Table, *, rng: np.random.Generator) -> list[str | None]:
    """Drop a row that is equal, token by token, to one that stands before it.

    Rows [[1, 2], [3, 4], [1, 2]] -> [None, None, "the same as an earlier row"]
    """
    tokens = np.ascontiguousarray(table.tokens)
    _, first = np.unique(tokens.view([("", tokens.dtype)] * tokens.shape[1]).ravel(), return_index=True)
    fresh = set(first.tolist())
    return [None if row in fresh else "the same as an earlier row" for row in range(len(table))]


def uniform(table: Table, *, rng: np.random.Generator, keep: float) -> list[str | None]:
    """Keep a share of the rows, drawn at random: the control that every other filter must beat.

    Raises:
        InputError: keep is not above 0 and at most 1.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
        raise InputError(f"random: keep is {keep}; it is the share of rows that stay, above 0 and at most 1")
    kept = set(rng.permutation(len(table))[: max(1, round(keep * len(table)))].tolist())
    return [None if row in kept else "not drawn" for row in range(len(table))]
