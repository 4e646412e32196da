"""Filters: rules that need no model."""

from __future__ import annotations

import numpy as np

from lab.curators.table import CopyOf, Table, check_switch
from lab.errors import InputError


def duplicates(table: Table, *, rng: np.random.Generator, drop_all: bool = False) -> list[CopyOf | None]:
    """Drop a row that is equal, token by token, to one that stands before it; with drop_all, that one too.

    Rows [[1, 2], [3, 4], [1, 2]]: the last is a copy of row 0.  With drop_all row 0 is dropped as a copy of row 2.

    Raises:
        InputError: drop_all is neither true nor false.
    """
    check_switch("duplicates: drop_all", drop_all)
    tokens = np.ascontiguousarray(table.tokens)
    whole = tokens.view([("", tokens.dtype)] * tokens.shape[1]).ravel()
    _, first, group = np.unique(whole, return_index=True, return_inverse=True)
    earliest = first[group.ravel()]
    twin = np.where(earliest < np.arange(len(table)), earliest, -1)
    if drop_all:
        again = np.flatnonzero(twin >= 0)[::-1]
        twin[twin[again]] = again
    return [CopyOf(int(row), "a copy of another row") if row >= 0 else None for row in twin]


def uniform(table: Table, *, rng: np.random.Generator, keep: float) -> list[str | None]:
    """Keep a share of the rows, drawn at random: the control that every other filter must beat.

    Raises:
        InputError: keep is not above 0 and at most 1.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
        raise InputError(f"random: keep is {keep}; it is the share of rows that stay, above 0 and at most 1")
    kept = set(rng.permutation(len(table))[: max(1, round(keep * len(table)))].tolist())
    return [None if row in kept else "not drawn" for row in range(len(table))]
