"""Curators: rules that decide which rows of a pool are trained on.  They see text, and never who wrote it.

A rule is a function (table, *, rng, **options) that returns a reason for each row, or None to keep it.
To add one, write a function like those in filters.py and give it a row in CURATORS, or name it "module:function".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.curators import filters
from lab.curators.table import Table
from lab.errors import InputError
from lab.lookup import check_options, lookup

Rule = Callable[..., Sequence[str | None]]
CURATORS: dict[str, Rule] = {"duplicates": filters.duplicates, "random": filters.uniform}


def curator(name: str) -> Rule:
    """Return the rule of this name, or the user's own that "module:function" names.  InputError where none is."""
    rule: Rule = lookup("curator", name, CURATORS)
    return rule


@dataclass(frozen=True)
class Decisions:
    """What curators decided about the rows of a table."""

    kept: np.ndarray
    """Whether each row is kept: bool [N]."""
    reasons: list[str]
    """Why a row was dropped, as "curator: reason"; empty where it was kept."""


def check_curator(name: str, options: Mapping[str, Any]) -> None:
    """Check a curator's options.  InputError for an unknown one, or one that is needed and not given."""
    check_options("curator", name, curator(name), options, leading="table")


def curate(table: Table, wanted: Sequence[tuple[str, Mapping[str, Any]]], rng: np.random.Generator) -> Decisions:
    """Apply rules one after another, each to the rows that the ones before it have kept.

    Args:
        table: the rows on offer.
        wanted: name and options of each rule, in order.
        rng: the generator that the rules draw from.

    Raises:
        InputError: a rule answers with anything but one reason or None per row, or no row is kept.
    """
    kept = np.arange(len(table))
    reasons = [""] * len(table)
    for name, options in wanted:
        answers = curator(name)(table.take(kept), rng=rng, **options)
        if not isinstance(answers, Sequence) or isinstance(answers, str) or len(answers) != len(kept):
            raise InputError(f'curator "{name}" must return one reason or None for each of {len(kept):,} rows')
        for row, answer in zip(kept, answers, strict=True):
            if answer is not None:
                reasons[row] = f"{name}: {answer}"
        kept = kept[[answer is None for answer in answers]]
        if not len(kept):
            raise InputError(f'curator "{name}" dropped every row that was left of {len(table):,}: loosen its options')
    chosen = np.zeros(len(table), np.bool_)
    chosen[kept] = True
    return Decisions(chosen, reasons)
